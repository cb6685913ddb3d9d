"""Long looks beside an event loop: in a thread, which has the interpreter a millisecond at a time, and ends in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

WORK_S: Final = 0.001
PAUSE_S: Final = 0.002


class OutOfTime(Exception):
    """It took as long as it may."""


class Breath:
    """Said every few steps of the work, in its thread: pauses for who waits for the interpreter. Raises OutOfTime at the end.

    A thread that works without it keeps the event loop waiting for 5 ms each time that it has something to do.
    """

    def __init__(
        self,
        most_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        now_s = clock()
        self._ends_at_s = now_s + most_s
        self._works_until_s = now_s + WORK_S

    def __call__(self) -> None:
        now_s = self._clock()
        if now_s < self._works_until_s:
            return
        if now_s >= self._ends_at_s:
            raise OutOfTime
        self._sleep(PAUSE_S)
        self._works_until_s = self._clock() + WORK_S
