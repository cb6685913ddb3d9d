"""Times of many answers: the moments of their logarithms, a sketch of their quantiles, and their sum."""

from __future__ import annotations

from math import log
from typing import Final, NamedTuple

from extproc.measures.moments import NO_MOMENTS, Moments, Spread
from extproc.measures.sketch import LEAST, NO_SKETCH, Sketch, bin_of, packed


class Timing(NamedTuple):
    """Seconds."""

    log: Moments = NO_MOMENTS
    """Of natural logarithms: times of model servers are skewed, their logarithms hardly; and a difference of means of
    logarithms is a ratio."""
    sketch: Sketch = NO_SKETCH
    sum_s: float = 0.0

    @property
    def n(self) -> int:
        """How many times were measured."""
        return self.log.n

    @property
    def mean_s(self) -> float | None:
        """None when there is none."""
        return self.sum_s / self.log.n if self.log.n else None

    def quantile_s(self, q: float) -> float | None:
        """As `Sketch.quantile`."""
        return self.sketch.quantile(q)

    def plus(self, other: Timing) -> Timing:
        """Of both together."""
        return Timing(self.log.plus(other.log), self.sketch.plus(other.sketch), self.sum_s + other.sum_s)

    def minus(self, earlier: Timing) -> Timing:
        """Of what is in this and was not in `earlier`, which is a part of it."""
        left = self.log.minus(earlier.log)
        if not left.n:
            return NO_TIMING
        return Timing(left, self.sketch.minus(earlier.sketch), max(0.0, self.sum_s - earlier.sum_s))


NO_TIMING: Final = Timing()


class Times:
    """A Timing while times come."""

    __slots__ = ("_bins", "_log", "_sum_s")

    def __init__(self) -> None:
        self._log = Spread()
        self._bins: dict[int, int] = {}
        self._sum_s = 0.0

    def add(self, seconds: float) -> float:
        """One more; its logarithm."""
        logarithm = log(seconds if seconds > LEAST else LEAST)
        self._log.add(logarithm)
        self._sum_s += seconds
        number = bin_of(logarithm)
        bins = self._bins
        bins[number] = bins.get(number, 0) + 1
        return logarithm

    def absorb(self, other: Timing) -> None:
        """All of the others' more."""
        self._log.absorb(other.log)
        self._sum_s += other.sum_s
        bins = self._bins
        for number, count in zip(other.sketch.bins, other.sketch.counts, strict=True):
            bins[number] = bins.get(number, 0) + count

    def timing(self) -> Timing:
        """As it is now."""
        return Timing(self._log.moments(), packed(self._bins), self._sum_s) if self._log.n else NO_TIMING
