"""Times of requests that are alike: that had about as much of their prompt cached, and met about the same queue.

Whoever compares two entities compares within these kinds, so that neither is better for the requests that it happened to get.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Final, NamedTuple

from extproc.measures.moments import NO_MOMENTS, Moments, Spread

UNKNOWN: Final = "-"


def kind_of(hit_fraction: float, queue: float) -> str:
    """`hit|queue`: the fraction as 0 (below a quarter), 1, 2 (from three quarters on); the queue as 0 (nobody waits), 1 (up to
    four), 2 (up to 16), 3. `-` stands for what is not known (NaN).
    """
    hit = UNKNOWN if isnan(hit_fraction) else "0" if hit_fraction < 0.25 else "1" if hit_fraction < 0.75 else "2"
    waits = UNKNOWN if isnan(queue) else "0" if queue < 1 else "1" if queue <= 4 else "2" if queue <= 16 else "3"
    return f"{hit}|{waits}"


class LogTimes(NamedTuple):
    """Moments of the natural logarithm of seconds, of the requests of one kind."""

    ttft: Moments = NO_MOMENTS
    tpot: Moments = NO_MOMENTS
    e2e: Moments = NO_MOMENTS

    def plus(self, other: LogTimes) -> LogTimes:
        """Of both together."""
        return LogTimes(self.ttft.plus(other.ttft), self.tpot.plus(other.tpot), self.e2e.plus(other.e2e))

    def minus(self, earlier: LogTimes) -> LogTimes:
        """Of what is in this and was not in `earlier`, which is a part of it."""
        return LogTimes(self.ttft.minus(earlier.ttft), self.tpot.minus(earlier.tpot), self.e2e.minus(earlier.e2e))

    @property
    def is_empty(self) -> bool:
        """Whether there was none."""
        return not (self.ttft.n or self.tpot.n or self.e2e.n)


NO_LOG_TIMES: Final = LogTimes()


def together(some: Mapping[str, LogTimes], others: Mapping[str, LogTimes]) -> dict[str, LogTimes]:
    """Of both, kind by kind."""
    found = dict(some)
    for kind, times in others.items():
        found[kind] = found.get(kind, NO_LOG_TIMES).plus(times)
    return found


def apart(whole: Mapping[str, LogTimes], earlier: Mapping[str, LogTimes]) -> dict[str, LogTimes]:
    """Of what is in `whole` and was not in `earlier`, kind by kind."""
    left = {kind: times.minus(earlier.get(kind, NO_LOG_TIMES)) for kind, times in whole.items()}
    return {kind: times for kind, times in left.items() if not times.is_empty}


class LogTally:
    """LogTimes while requests come."""

    __slots__ = ("e2e", "tpot", "ttft")

    def __init__(self) -> None:
        self.ttft = Spread()
        self.tpot = Spread()
        self.e2e = Spread()

    def absorb(self, other: LogTimes) -> None:
        """All of the others' more."""
        self.ttft.absorb(other.ttft)
        self.tpot.absorb(other.tpot)
        self.e2e.absorb(other.e2e)

    def times(self) -> LogTimes:
        """As they are now."""
        return LogTimes(self.ttft.moments(), self.tpot.moments(), self.e2e.moments())
