"""Which streams have had their time, for transports: no timer for each stream, and two operations on a set."""

from __future__ import annotations

from collections import deque
from collections.abc import Set
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_TICKS: Final = 8


class Deadlines(Generic[T]):
    """Streams by generations: one begins with each tick, and one comes due.

    A transport adds each stream to `young`, keeps that set with the stream to take it out when it ends, and calls `tick`
    every `tick_s` seconds. A stream comes due when it is between `timeout_s` and 9/8 of that old.
    """

    def __init__(self, timeout_s: float) -> None:
        self.tick_s = timeout_s / _TICKS
        self.young: set[T] = set()
        """Where streams are added now."""
        self._generations: deque[set[T]] = deque([self.young], maxlen=_TICKS + 1)

    def tick(self) -> Set[T]:
        """The streams that come due now."""
        due: Set[T] = self._generations[0] if len(self._generations) == _TICKS + 1 else frozenset()
        self.young = set()
        self._generations.append(self.young)
        return due
