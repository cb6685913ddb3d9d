"""Which pools the attempts at a request were sent to."""

from __future__ import annotations

from extproc.traffic.tried import Tried


def test_each_pool_is_noted_once_in_order() -> None:
    tried = Tried()
    for pool in ("w", "n", "w"):
        tried.sent(b"1", pool)
    tried.sent(b"2", "n")
    assert (tried.of(b"1"), tried.of(b"2"), tried.of(b"3")) == (("w", "n"), ("n",), ())
    assert repr(tried) == "<Tried 2>"


def test_what_is_over_is_forgotten() -> None:
    tried = Tried()
    tried.sent(b"1", "w")
    tried.over(b"1")
    tried.over(b"2")
    assert (tried.of(b"1"), len(tried)) == ((), 0)


def test_the_oldest_are_forgotten_when_there_are_too_many() -> None:
    tried = Tried(most=2)
    for draw in (b"1", b"2", b"1", b"3"):
        tried.sent(draw, "w")
    assert [tried.of(draw) for draw in (b"1", b"2", b"3")] == [("w",), (), ("w",)]
    assert len(tried) == 2
