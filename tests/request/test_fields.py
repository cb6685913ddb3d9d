"""Fields of a body as headers."""

from __future__ import annotations

import pytest

from extproc.request.fields import MAX_FIELD_BYTES, field_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        ("été", "été"),
        (" a ", " a "),
        (1, "1"),
        (0.5, "0.5"),
        (True, "true"),
        (float("nan"), ""),
        (None, ""),
        ({}, ""),
        (["a"], ""),
        ("a\nb", ""),
        ("\x7f", ""),
        ("\ud800", ""),
        ("a" * MAX_FIELD_BYTES, "a" * MAX_FIELD_BYTES),
        ("a" * (MAX_FIELD_BYTES + 1), ""),
    ],
)
def test_text(value: object, text: str) -> None:
    assert field_text({"f": value}, "f") == text


def test_no_such_field() -> None:
    assert field_text({}, "f") == ""
    assert field_text(None, "f") == ""
