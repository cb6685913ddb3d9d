"""Work beside an event loop: a millisecond at a time, and not for ever."""

from __future__ import annotations

import pytest

from extproc.audit.breath import PAUSE_S, WORK_S, Breath, OutOfTime
from tests.fakes.clock import FakeClock


def test_it_pauses_after_a_millisecond_of_work_and_ends_in_time() -> None:
    clock = FakeClock()
    slept: list[float] = []

    def sleep(for_s: float) -> None:
        slept.append(for_s)
        clock.advance(for_s)

    breath = Breath(0.0095, clock, sleep)
    breath()
    assert slept == []
    for _ in range(3):  # of 3 ms each
        clock.advance(WORK_S)
        breath()
    assert slept == [PAUSE_S] * 3
    clock.advance(WORK_S)
    with pytest.raises(OutOfTime):
        breath()
