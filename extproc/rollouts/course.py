"""What a comparison said at each look, for people: an interval over time. Bounded, and kept with the rollout."""

from __future__ import annotations

from typing import Final, NamedTuple

from extproc.rollouts.statistics import Bounds, RateSums

MOST: Final = 80
"""Looks that are kept. When there are more, every second one of those before goes: what is long ago is seen more coarsely."""
_WIDEST: Final = 100.0
"""A bound beyond that says nothing, and is kept as that."""


class Seen(NamedTuple):
    """One look: the canary's difference from the baseline, and what it is between, at all looks at once."""

    at_s: float
    """Unix seconds."""
    estimate: float
    """0.1 is a tenth longer, of a time; ten points more, of an error rate."""
    low: float
    high: float


class Course(NamedTuple):
    """All looks of one metric."""

    looks: tuple[Seen, ...] = ()
    rates: RateSums = RateSums()
    """Of an error rate."""

    def counted(self, canary: int, canary_errors: int, baseline: int, baseline_errors: int) -> Course:
        """With a block of requests more."""
        return self._replace(rates=self.rates.plus(canary, canary_errors, baseline, baseline_errors))

    def seen(self, at_s: float, bounds: Bounds) -> Course:
        """With one look more."""
        looks = self.looks if len(self.looks) < MOST else self.looks[::2]
        estimate, low, high = [round(max(-_WIDEST, min(_WIDEST, each)), 5) for each in bounds]
        return self._replace(looks=(*looks, Seen(round(at_s, 1), estimate, low, high)))
