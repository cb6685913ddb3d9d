"""Connections that are being made are few, everybody gets one in turn, and who failed before lets others go first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extproc.scraping.connecting import CROWDED_S, Connecting, Seat
from tests.fakes.fuzz import examples


def seats(number: int) -> list[Seat]:
    return [Seat(index) for index in range(number)]


def test_some_at_once_and_the_others_in_turn() -> None:
    connecting, (a, b, c, d) = Connecting(2), seats(4)
    assert [connecting.take(seat, 0.0, again=False) for seat in (a, b, c, d)] == [True, True, False, False]
    assert connecting.next() is None
    connecting.free(a)
    assert connecting.next(room=False) is None
    assert connecting.next() is c
    assert connecting.take(c, 1.0, again=False)
    assert connecting.next() is None
    connecting.free(d)  # it has left
    connecting.free(b)
    assert connecting.next() is None
    assert (connecting.now, connecting.waiting) == (1, 0)


def test_who_failed_before_has_half_and_comes_later() -> None:
    connecting, (a, b, c, d) = Connecting(4), seats(4)
    assert [connecting.take(seat, 0.0, again=True) for seat in (a, b, c)] == [True, True, False]
    assert connecting.take(d, 0.0, again=False)
    connecting.free(a)
    assert connecting.next() is None, "half are still in use"
    connecting.free(d)
    assert connecting.next() is c


def test_time_is_short_only_while_somebody_waits() -> None:
    connecting, (a, b, c) = Connecting(2), seats(3)
    connecting.take(a, 0.0, again=False)
    connecting.take(b, 0.1, again=False)
    assert connecting.overdue_s(5.0) is None
    assert not connecting.take(c, 0.2, again=False)
    assert connecting.overdue_s(0.2) == CROWDED_S - 0.2
    assert connecting.overdue(0.2) is None
    assert connecting.overdue(CROWDED_S) is a
    connecting.free(a)
    assert connecting.overdue(CROWDED_S) is None
    assert connecting.overdue(CROWDED_S + 0.1) is b


@examples(100)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), max_size=100))
def test_counts_hold_whatever_happens(steps: list[tuple[int, bool, bool]]) -> None:
    connecting, everyone = Connecting(3), seats(10)
    for number, (index, again, free) in enumerate(steps):
        seat = everyone[index]
        if free or seat.taken or seat.waits:
            connecting.free(seat)
            while (following := connecting.next()) is not None:
                assert connecting.take(following, number, again=False)
        else:
            connecting.take(seat, number, again=again)
        assert connecting.now == sum(seat.taken for seat in everyone) <= 3
        assert connecting.waiting == sum(seat.waits for seat in everyone)
        connecting.overdue(number)
