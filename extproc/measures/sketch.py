"""Quantiles of values that nobody keeps: DDSketch (Masson, Rim, Lee, VLDB 2019, arXiv:1908.10693).

A value is counted in the bin of its logarithm, whose width makes every quantile right within `ACCURACY` of its value, whatever
the distribution. Sketches are added and subtracted bin by bin, exactly. That is why it is this one: neither t-digest nor KLL
can say what came since a moment by subtraction, and HdrHistogram takes a page of memory for each. docs/measures.md has figures.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from math import exp, log
from typing import Final, NamedTuple

ACCURACY: Final = 0.01
"""A quantile is off by this part of its value at most."""
LEAST: Final = 1e-6
MOST: Final = 1e5
"""What is outside is counted as the least or the most: a microsecond, a day and some hours."""
_WIDTH: Final = log((1 + ACCURACY) / (1 - ACCURACY))
_PER: Final = 1.0 / _WIDTH
_ZERO: Final = log(LEAST) * _PER
_LOG_LEAST: Final = log(LEAST)
_LOG_MOST: Final = log(MOST)
_MIDDLE: Final = 2.0 / (1.0 + exp(_WIDTH))
"""Of a bin, as a part of its upper bound: as far from either end, in parts of the value there."""


def bin_of(logarithm: float) -> int:
    """The bin of a value with this natural logarithm, from 0 to some 1,300."""
    return int(min(max(logarithm, _LOG_LEAST), _LOG_MOST) * _PER - _ZERO)


def upper(number: int) -> float:
    """Where the bin ends."""
    return exp((number + 1 + _ZERO) * _WIDTH)


class Sketch(NamedTuple):
    """Counts by bin, bins in order. Immutable by convention: the arrays are not written again."""

    bins: array[int]
    counts: array[int]

    @property
    def n(self) -> int:
        """How many values."""
        return sum(self.counts)

    def quantile(self, q: float) -> float | None:
        """The value at rank `q` (n - 1), counted from 0 and rounded down, of 0 <= q <= 1; None when there is none."""
        n = self.n
        if not n:
            return None
        rank = int(q * (n - 1))
        passed = 0
        number = 0
        for at in range(len(self.bins)):
            passed += self.counts[at]
            number = self.bins[at]
            if passed > rank:
                break
        return upper(number) * _MIDDLE

    def quantiles(self, *qs: float) -> list[float | None]:
        """Several."""
        return [self.quantile(q) for q in qs]

    def below(self, bounds: tuple[float, ...]) -> list[int]:
        """How many values were up to each of the bounds, which rise: by the middle of their bins."""
        found: list[int] = []
        passed, at = 0, 0
        for bound in bounds:
            while at < len(self.bins) and upper(self.bins[at]) * _MIDDLE <= bound:
                passed += self.counts[at]
                at += 1
            found.append(passed)
        return found

    def plus(self, other: Sketch) -> Sketch:
        """Of both together."""
        if not other.bins:
            return self
        counts = dict(zip(self.bins, self.counts, strict=True))
        for number, count in zip(other.bins, other.counts, strict=True):
            counts[number] = counts.get(number, 0) + count
        return packed(counts)

    def minus(self, earlier: Sketch) -> Sketch:
        """Of what is in this and was not in `earlier`, which is a part of it."""
        if not earlier.bins:
            return self
        counts = dict(zip(self.bins, self.counts, strict=True))
        for number, count in zip(earlier.bins, earlier.counts, strict=True):
            counts[number] = counts.get(number, 0) - count
        return packed(counts)


def packed(counts: Mapping[int, int]) -> Sketch:
    """The sketch of these counts; a bin without any is left out."""
    numbers = sorted([number for number, count in counts.items() if count > 0])
    return Sketch(array("h", numbers), array("q", [counts[number] for number in numbers]))


NO_SKETCH: Final = Sketch(array("h"), array("q"))
