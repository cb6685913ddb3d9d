"""What a client says of earlier answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.request.feedback import MOST, feedback_of

ID = b"0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (ID + b";good", [(ID, 1.0)]),
        (b" a ; bad ,b;score=0.25", [(b"a", 0.0), (b"b", 0.25)]),
        (b"a;score=1", [(b"a", 1.0)]),
        (b"a;score=1.0,b;score=0", [(b"a", 1.0), (b"b", 0.0)]),
        (b"a;score=1.5", [None]),
        (b"a;score=-1", [None]),
        (b"a;score=nan", [None]),
        (b"a", [None]),
        (b"", [None]),
        (b";good", [None]),
        (b"a;good;bad", [None]),
        (b"x" * 300 + b";good", [None]),
        (b"a;great,b;good", [None, (b"b", 1.0)]),
    ],
)
def test_what_is_said(header: bytes, said: list[object]) -> None:
    assert feedback_of(header) == said


@given(st.binary(max_size=300))
def test_of_anything(header: bytes) -> None:
    said = feedback_of(header)
    assert 1 <= len(said) <= MOST
    for each in said:
        if each is not None:
            name, score = each
            assert name in header
            assert 0 <= score <= 1


def test_many_are_cut() -> None:
    assert feedback_of(b",".join([b"a;good"] * 50)) == [(b"a", 1.0)] * MOST
