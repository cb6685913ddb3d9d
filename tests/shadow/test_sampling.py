"""Which requests are copied: a share, evenly, the same ones each time, and independent of other shadows."""

from __future__ import annotations

import pytest

from extproc.shadow import sampled

KEYS = [f"request-{number}".encode() for number in range(20_000)]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_a_share_of_all(share: float) -> None:
    taken = sum(sampled(b"salt", key, share) for key in KEYS)
    assert taken / len(KEYS) == pytest.approx(share, abs=0.01)


def test_none_and_all() -> None:
    assert not any(sampled(b"salt", key, 0.0) for key in KEYS)
    assert all(sampled(b"salt", key, 1.0) for key in KEYS)


def test_raising_the_share_keeps_who_was_in() -> None:
    few = {key for key in KEYS if sampled(b"salt", key, 0.1)}
    more = {key for key in KEYS if sampled(b"salt", key, 0.2)}
    assert few < more
    assert few == {key for key in KEYS if sampled(b"salt", key, 0.1)}


def test_two_salts_choose_independently() -> None:
    one = {key for key in KEYS if sampled(b"one", key, 0.5)}
    other = {key for key in KEYS if sampled(b"other" * 40, key, 0.5)}
    assert len(one & other) / len(KEYS) == pytest.approx(0.25, abs=0.015)
