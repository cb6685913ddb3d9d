"""Streams come due once, after their time and not much later."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.transport.deadlines import Deadlines
from tests.fakes.fuzz import examples


def test_tick() -> None:
    assert Deadlines[int](300).tick_s == pytest.approx(37.5)


@examples(50)
@given(st.lists(st.tuples(st.floats(0, 30, exclude_max=True), st.none() | st.floats(0, 20)), max_size=20))
def test_each_stream_comes_due_once_unless_it_ends(streams: list[tuple[float, float | None]]) -> None:
    """With a timeout of 8 s, so that a tick is a second."""
    deadlines: Deadlines[int] = Deadlines(8)
    starts = sorted((at, 0, index) for index, (at, _) in enumerate(streams))
    ends = sorted((at + lasts, 1, index) for index, (at, lasts) in enumerate(streams) if lasts is not None)
    due_at: dict[int, float] = {}
    homes: dict[int, set[int]] = {}
    happenings = sorted([*starts, *ends])
    for tick in range(1, 60):
        while happenings and happenings[0][0] < tick:
            _, ending, index = happenings.pop(0)
            if ending:
                homes[index].discard(index)
            else:
                homes[index] = deadlines.young
                homes[index].add(index)
        for index in deadlines.tick():
            assert index not in due_at
            due_at[index] = tick
    for index, (at, lasts) in enumerate(streams):
        if lasts is None or lasts > 9:
            assert 8 <= due_at[index] - at <= 9
        elif lasts < 8:
            assert index not in due_at
