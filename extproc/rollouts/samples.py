"""What is known of an arm's requests, and the measures that conditions name.

Times are kept as moments of their natural logarithm: times of language models are skewed, and ratios of them are what
people mean by "20 % slower".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations, as Welford has them."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @property
    def variance(self) -> float:
        """Of the sample; 0 when there are fewer than two."""
        return self.m2 / (self.n - 1) if self.n > 1 else 0.0

    def minus(self, earlier: Moments) -> Moments:
        """What came after `earlier`, which is the beginning of this (Chan, Golub and LeVeque 1979, backwards)."""
        n = self.n - earlier.n
        if n <= 0:
            return Moments()
        mean = (self.n * self.mean - earlier.n * earlier.mean) / n
        between = (mean - earlier.mean) ** 2 * n * earlier.n / self.n
        return Moments(n, mean, max(0.0, self.m2 - earlier.m2 - between))

    def plus(self, other: Moments) -> Moments:
        """Both together."""
        n = self.n + other.n
        if not n:
            return Moments()
        apart = other.mean - self.mean
        return Moments(n, self.mean + apart * other.n / n, self.m2 + other.m2 + apart * apart * self.n * other.n / n)


class Times(NamedTuple):
    """Of one kind, such as the time to the first token."""

    cells: Mapping[str, Moments] = {}
    """Of the logarithm of seconds, by what requests have in common: their prefix hits and the queue they met."""
    quantiles: Mapping[int, float] = {}
    """In seconds, by percent: 50, 90, 95 and 99."""

    @property
    def whole(self) -> Moments:
        total = Moments()
        for cell in self.cells.values():
            total = total.plus(cell)
        return total


class ArmSample(NamedTuple):
    """One arm's requests: since the process began, or of a window."""

    requests: int = 0
    errors: int = 0
    ttft: Times = Times()
    tpot: Times = Times()
    e2e: Times = Times()
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    shadow_same: int = 0
    shadow_pairs: int = 0
    feedback_good: int = 0
    feedback_bad: int = 0
    queue: Moments = Moments()
    """Requests that waited at the endpoint when it was picked."""
    hit_fraction: Moments = Moments()
    """How much of the prompt was cached, from 0 to 1."""

    def times(self, measure: str) -> Times:
        """`ttft`, `tpot` or `e2e`."""
        return {"ttft": self.ttft, "tpot": self.tpot, "e2e": self.e2e}[measure]


class Pair(NamedTuple):
    """Both arms over the same time."""

    canary: ArmSample = ArmSample()
    baseline: ArmSample = ArmSample()


def _part(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean(moments: Moments) -> float | None:
    return moments.mean if moments.n else None


def _timed(measure: str) -> dict[str, Callable[[ArmSample], float | None]]:
    def quantile(percent: int) -> Callable[[ArmSample], float | None]:
        return lambda arm: arm.times(measure).quantiles.get(percent)

    def middle(arm: ArmSample) -> float | None:
        whole = arm.times(measure).whole
        return math.exp(whole.mean) if whole.n else None

    return {f"{measure}_mean": middle, **{f"{measure}_p{percent}": quantile(percent) for percent in (50, 90, 95, 99)}}


MEASURES: Final[Mapping[str, Callable[[ArmSample], float | None]]] = {
    "requests": lambda arm: float(arm.requests),
    "errors": lambda arm: float(arm.errors),
    "error_rate": lambda arm: _part(arm.errors, arm.requests),
    "success_rate": lambda arm: _part(arm.requests - arm.errors, arm.requests),
    **_timed("ttft"),
    **_timed("tpot"),
    **_timed("e2e"),
    "input_tokens": lambda arm: float(arm.input_tokens),
    "output_tokens": lambda arm: float(arm.output_tokens),
    "output_tokens_mean": lambda arm: _part(arm.output_tokens, arm.requests),
    "cost": lambda arm: arm.cost,
    "cost_mean": lambda arm: _part(arm.cost, arm.requests),
    "shadow_agreement": lambda arm: _part(arm.shadow_same, arm.shadow_pairs),
    "feedback_good": lambda arm: _part(arm.feedback_good, arm.feedback_good + arm.feedback_bad),
    "queue_mean": lambda arm: _mean(arm.queue),
    "hit_fraction_mean": lambda arm: _mean(arm.hit_fraction),
}
"""By the name in a condition; seconds, parts of one, or counts. None: nothing is known yet. `…_mean` of times is geometric."""
