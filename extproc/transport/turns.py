"""Decisions on large bodies one after the other, with pauses: each reads all of its body at once, however long that takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Turns:
    """Who waits for a turn. Behind each is a pause as long as it took, in which the process does everything else.

    `later` calls in so many seconds, and `clock` gives seconds.
    """

    __slots__ = ("_clock", "_later", "_runs", "_waiting")

    def __init__(self, later: Callable[[float, Callable[[], None]], object], clock: Callable[[], float]) -> None:
        self._later = later
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._runs = False

    def ask(self, take: Callable[[], None]) -> None:
        """`take` is called when it is its turn, never before this returns."""
        self._waiting.append(take)
        if not self._runs:
            self._runs = True
            self._later(0.0, self._next)

    def _next(self) -> None:
        if not self._waiting:
            self._runs = False
            return
        begin_s = self._clock()
        try:
            self._waiting.popleft()()
        finally:
            self._later(self._clock() - begin_s, self._next)
