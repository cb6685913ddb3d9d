"""What all pairs of a shadow come to."""

from __future__ import annotations

from collections import Counter
from math import exp, log, sqrt
from typing import Any, Final

from extproc.shadow.compare import Comparison, Side

_SURE: Final = 1.96
"""Standard errors on either side of a mean that hold the true one 19 times of 20."""
_LEAST_S: Final = 1e-6
"""A time below what clocks tell is this, so that it has a logarithm."""


class Mean:
    """Mean and spread of numbers that come one by one (Welford 1962)."""

    __slots__ = ("_m2", "count", "largest", "mean", "smallest")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.smallest = float("inf")
        self.largest = float("-inf")
        self._m2 = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        away = value - self.mean
        self.mean += away / self.count
        self._m2 += away * (value - self.mean)
        self.smallest = min(self.smallest, value)
        self.largest = max(self.largest, value)

    @property
    def error(self) -> float:
        """The standard error of the mean; infinite for less than two numbers."""
        return sqrt(self._m2 / (self.count - 1) / self.count) if self.count > 1 else float("inf")


class Sums:
    """Of one shadow, since it was set up. One writer: who compares."""

    def __init__(self) -> None:
        self.pairs = 0
        self.verdicts: Counter[str] = Counter()
        self.differs: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.statuses: Counter[tuple[int, int]] = Counter()
        self.finish_reasons: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        """Of the live answers and the shadow's, as are all that follow."""
        self.completion_tokens = [0, 0]
        self.text_lengths = [0, 0]
        self._ttft = Mean()
        self._latency = Mean()
        self._similarity = Mean()
        self._gap = Mean()

    def add(self, live: Side, shadow: Side, found: Comparison) -> None:
        """One more pair."""
        self.pairs += 1
        self.verdicts[verdict_of(found)] += 1
        self.differs.update(found.differs)
        self.outcomes[shadow.outcome] += 1
        self.statuses[live.status, shadow.status] += 1
        if live.is_whole and shadow.is_whole:
            _ratio(self._latency, live.latency_s, shadow.latency_s)
            _ratio(self._ttft, live.ttft_s, shadow.ttft_s)
            self._said(live, shadow)
        if found.similarity is not None:
            self._similarity.add(found.similarity)
        if found.gap is not None:
            self._gap.add(found.gap.largest)

    def _said(self, live: Side, shadow: Side) -> None:
        one, other = live.said, shadow.said
        if one.usage.completion is not None and other.usage.completion is not None:
            self.completion_tokens[0] += one.usage.completion
            self.completion_tokens[1] += other.usage.completion
        if one.text is not None and other.text is not None:
            self.text_lengths[0] += len(one.text)
            self.text_lengths[1] += len(other.text)
        for counter, said in zip(self.finish_reasons, (one, other), strict=True):
            if said.finish_reason is not None and (said.finish_reason in counter or len(counter) < _MOST_REASONS):
                counter[said.finish_reason] += 1

    def shape(self) -> dict[str, Any]:
        """For people. A ratio is the shadow's to the live one's, pair by pair: above 1 the shadow takes longer."""
        live, shadow = self.finish_reasons
        return {
            "pairs": self.pairs,
            "same": self.verdicts["same"],
            "differs": self.verdicts["differs"],
            "unjudged": self.verdicts["unjudged"],
            "differs_in": dict(self.differs),
            "outcomes": dict(self.outcomes),
            "statuses": [{"live": one, "shadow": other, "pairs": n} for (one, other), n in self.statuses.most_common(20)],
            "latency_ratio": _told_ratio(self._latency),
            "ttft_ratio": _told_ratio(self._ttft),
            "similarity": _told(self._similarity, smallest=True),
            "numeric_difference": _told(self._gap, smallest=False),
            "completion_tokens": {"live": self.completion_tokens[0], "shadow": self.completion_tokens[1]},
            "text_length": {"live": self.text_lengths[0], "shadow": self.text_lengths[1]},
            "finish_reasons": {"live": dict(live), "shadow": dict(shadow)},
        }


_MOST_REASONS: Final = 20


def verdict_of(found: Comparison) -> str:
    """`same`, `differs` or `unjudged`."""
    return "unjudged" if found.same is None else "same" if found.same else "differs"


def _ratio(mean: Mean, live_s: float | None, shadow_s: float | None) -> None:
    if live_s is not None and shadow_s is not None:
        mean.add(log(max(shadow_s, _LEAST_S) / max(live_s, _LEAST_S)))


def _told_ratio(mean: Mean) -> dict[str, Any] | None:
    """The geometric mean, and between what it is 19 times of 20."""
    if not mean.count:
        return None
    error = mean.error
    known = error < 50.0  # an interval wider than e**100 says nothing
    return {
        "pairs": mean.count,
        "mean": exp(mean.mean),
        "low": exp(mean.mean - _SURE * error) if known else None,
        "high": exp(mean.mean + _SURE * error) if known else None,
    }


def _told(mean: Mean, *, smallest: bool) -> dict[str, Any] | None:
    if not mean.count:
        return None
    worst = mean.smallest if smallest else mean.largest
    return {"pairs": mean.count, "mean": _finite(mean.mean), "worst": _finite(worst)}


def _finite(value: float) -> float | None:
    return value if value - value == 0 else None
