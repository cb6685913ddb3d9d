"""What many samples come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from extproc.measures.alike import LogTally, LogTimes, apart, kind_of, together
from extproc.measures.moments import NO_MOMENTS, Moments, Spread
from extproc.measures.sample import REJECTED, Sample
from extproc.measures.timing import NO_TIMING, Times, Timing

FINISH_REASONS: Final = frozenset(
    {
        *("stop", "length", "tool_calls", "function_call", "content_filter", "abort", "error"),
        *("end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal"),
        *("completed", "incomplete", "failed", "cancelled"),
    }
)
"""OpenAI's, vLLM's and Anthropic's, and how a Response's status says it. A model server's others count as `other`."""
_OTHER: Final = "other"


class Totals(NamedTuple):
    """Over a window, since a moment, or since the beginning. Times are those of answers of 2xx that were not cut: an error that
    comes fast would look like a fast model.
    """

    requests: int = 0
    errors: int = 0
    """Those of `errors_by_kind`, which has no `4xx`."""
    rejected: int = 0
    """4xx but 429: as a rule the request was wrong."""
    errors_by_kind: Mapping[str, int] = {}
    headers_s: Timing = NO_TIMING
    ttft_s: Timing = NO_TIMING
    """Of answers that stream and pass by here."""
    tpot_s: Timing = NO_TIMING
    """Of those, where they say how many tokens they have."""
    e2e_s: Timing = NO_TIMING
    usage: int = 0
    """Answers that said how many tokens they cost."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    finish_reasons: Mapping[str, int] = {}
    priced: int = 0
    """Requests whose cost is known."""
    cost: float = 0.0
    shadow_pairs: int = 0
    shadow_same: int = 0
    feedback_good: int = 0
    feedback_bad: int = 0
    feedback_score: Moments = NO_MOMENTS
    """From 0 to 1."""
    queue_at_pick: Moments = NO_MOMENTS
    hit_fraction: Moments = NO_MOMENTS
    alike: Mapping[str, LogTimes] = {}
    """Times of the requests that are alike, by kind."""

    @property
    def error_rate(self) -> float | None:
        """Errors by requests, None without any."""
        return self.errors / self.requests if self.requests else None

    def plus(self, other: Totals) -> Totals:
        """Of both together."""
        return Totals(
            self.requests + other.requests,
            self.errors + other.errors,
            self.rejected + other.rejected,
            _added(self.errors_by_kind, other.errors_by_kind, 1),
            self.headers_s.plus(other.headers_s),
            self.ttft_s.plus(other.ttft_s),
            self.tpot_s.plus(other.tpot_s),
            self.e2e_s.plus(other.e2e_s),
            self.usage + other.usage,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            _added(self.finish_reasons, other.finish_reasons, 1),
            self.priced + other.priced,
            self.cost + other.cost,
            self.shadow_pairs + other.shadow_pairs,
            self.shadow_same + other.shadow_same,
            self.feedback_good + other.feedback_good,
            self.feedback_bad + other.feedback_bad,
            self.feedback_score.plus(other.feedback_score),
            self.queue_at_pick.plus(other.queue_at_pick),
            self.hit_fraction.plus(other.hit_fraction),
            together(self.alike, other.alike),
        )

    def minus(self, earlier: Totals) -> Totals:
        """Of what is in this and was not in `earlier`, which is a part of it."""
        return Totals(
            self.requests - earlier.requests,
            self.errors - earlier.errors,
            self.rejected - earlier.rejected,
            _added(self.errors_by_kind, earlier.errors_by_kind, -1),
            self.headers_s.minus(earlier.headers_s),
            self.ttft_s.minus(earlier.ttft_s),
            self.tpot_s.minus(earlier.tpot_s),
            self.e2e_s.minus(earlier.e2e_s),
            self.usage - earlier.usage,
            self.input_tokens - earlier.input_tokens,
            self.output_tokens - earlier.output_tokens,
            self.cached_tokens - earlier.cached_tokens,
            _added(self.finish_reasons, earlier.finish_reasons, -1),
            self.priced - earlier.priced,
            max(0.0, self.cost - earlier.cost),
            self.shadow_pairs - earlier.shadow_pairs,
            self.shadow_same - earlier.shadow_same,
            self.feedback_good - earlier.feedback_good,
            self.feedback_bad - earlier.feedback_bad,
            self.feedback_score.minus(earlier.feedback_score),
            self.queue_at_pick.minus(earlier.queue_at_pick),
            self.hit_fraction.minus(earlier.hit_fraction),
            apart(self.alike, earlier.alike),
        )


NO_TOTALS: Final = Totals()


def _added(some: Mapping[str, int], others: Mapping[str, int], sign: int) -> dict[str, int]:
    counts = dict(some)
    for key, count in others.items():
        counts[key] = counts.get(key, 0) + sign * count
    return {key: count for key, count in counts.items() if count}


class Tally:
    """Totals while samples come."""

    __slots__ = (
        "_alike",
        "_cached_tokens",
        "_cost",
        "_e2e",
        "_errors",
        "_feedback_bad",
        "_feedback_good",
        "_feedback_score",
        "_finish_reasons",
        "_headers",
        "_hit_fraction",
        "_input_tokens",
        "_output_tokens",
        "_priced",
        "_queue_at_pick",
        "_rejected",
        "_requests",
        "_shadow_pairs",
        "_shadow_same",
        "_tpot",
        "_ttft",
        "_usage",
        "is_empty",
    )

    def __init__(self) -> None:
        self.is_empty = True
        self._requests = 0
        self._rejected = 0
        self._errors: dict[str, int] = {}
        self._headers = Times()
        self._ttft = Times()
        self._tpot = Times()
        self._e2e = Times()
        self._usage = 0
        self._input_tokens = 0
        self._output_tokens = 0
        self._cached_tokens = 0
        self._finish_reasons: dict[str, int] = {}
        self._priced = 0
        self._cost = 0.0
        self._shadow_pairs = 0
        self._shadow_same = 0
        self._feedback_good = 0
        self._feedback_bad = 0
        self._feedback_score = Spread()
        self._queue_at_pick = Spread()
        self._hit_fraction = Spread()
        self._alike: dict[str, LogTally] = {}

    def add(self, sample: Sample) -> None:
        """One request more."""
        self.is_empty = False
        self._requests += 1
        error = sample.error
        if not error:
            self._add_times(sample)
        elif error == REJECTED:
            self._rejected += 1
        else:
            self._errors[error] = self._errors.get(error, 0) + 1
        if sample.input_tokens >= 0 or sample.output_tokens >= 0:
            self._usage += 1
            self._input_tokens += max(sample.input_tokens, 0)
            self._output_tokens += max(sample.output_tokens, 0)
            self._cached_tokens += max(sample.cached_tokens, 0)
        reason = sample.finish_reason
        if reason:
            if reason not in FINISH_REASONS:
                reason = _OTHER
            self._finish_reasons[reason] = self._finish_reasons.get(reason, 0) + 1
        if sample.cost >= 0:
            self._priced += 1
            self._cost += sample.cost
        if sample.queue_at_pick >= 0:  # NaN is not
            self._queue_at_pick.add(sample.queue_at_pick)
        if sample.hit_fraction >= 0:
            self._hit_fraction.add(sample.hit_fraction)

    def _add_times(self, sample: Sample) -> None:
        if sample.headers_s >= 0:
            self._headers.add(sample.headers_s)
        kind = kind_of(sample.hit_fraction, sample.queue_at_pick)
        alike = self._alike.get(kind)
        if alike is None:
            alike = self._alike[kind] = LogTally()
        if sample.ttft_s >= 0:
            alike.ttft.add(self._ttft.add(sample.ttft_s))
        if sample.tpot_s >= 0:
            alike.tpot.add(self._tpot.add(sample.tpot_s))
        if sample.e2e_s >= 0:
            alike.e2e.add(self._e2e.add(sample.e2e_s))

    def counts(self) -> tuple[int, int]:
        """Requests, and errors among them: what costs nothing to ask."""
        return self._requests, sum(self._errors.values())

    def rate(self, score: float) -> None:
        """Somebody said how good an answer was, from 0 to 1; from 0.5 on it was good."""
        self.is_empty = False
        if score >= 0.5:
            self._feedback_good += 1
        else:
            self._feedback_bad += 1
        self._feedback_score.add(score)

    def compare(self, same: bool) -> None:
        """A shadow's answer was the same as the live one, or was not."""
        self.is_empty = False
        self._shadow_pairs += 1
        if same:
            self._shadow_same += 1

    def absorb(self, other: Totals) -> None:
        """All of the other's more."""
        self.is_empty = False
        self._requests += other.requests
        self._rejected += other.rejected
        for kind, count in other.errors_by_kind.items():
            self._errors[kind] = self._errors.get(kind, 0) + count
        self._headers.absorb(other.headers_s)
        self._ttft.absorb(other.ttft_s)
        self._tpot.absorb(other.tpot_s)
        self._e2e.absorb(other.e2e_s)
        self._usage += other.usage
        self._input_tokens += other.input_tokens
        self._output_tokens += other.output_tokens
        self._cached_tokens += other.cached_tokens
        for reason, count in other.finish_reasons.items():
            self._finish_reasons[reason] = self._finish_reasons.get(reason, 0) + count
        self._priced += other.priced
        self._cost += other.cost
        self._shadow_pairs += other.shadow_pairs
        self._shadow_same += other.shadow_same
        self._feedback_good += other.feedback_good
        self._feedback_bad += other.feedback_bad
        self._feedback_score.absorb(other.feedback_score)
        self._queue_at_pick.absorb(other.queue_at_pick)
        self._hit_fraction.absorb(other.hit_fraction)
        for kind, times in other.alike.items():
            self._alike.setdefault(kind, LogTally()).absorb(times)

    def totals(self) -> Totals:
        """As they are now."""
        return Totals(
            self._requests,
            sum(self._errors.values()),
            self._rejected,
            dict(self._errors),
            self._headers.timing(),
            self._ttft.timing(),
            self._tpot.timing(),
            self._e2e.timing(),
            self._usage,
            self._input_tokens,
            self._output_tokens,
            self._cached_tokens,
            dict(self._finish_reasons),
            self._priced,
            self._cost,
            self._shadow_pairs,
            self._shadow_same,
            self._feedback_good,
            self._feedback_bad,
            self._feedback_score.moments(),
            self._queue_at_pick.moments(),
            self._hit_fraction.moments(),
            {kind: times for kind, each in self._alike.items() if not (times := each.times()).is_empty},
        )
