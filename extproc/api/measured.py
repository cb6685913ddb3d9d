"""Measures as the API shows them. Times are seconds, tokens are those that answers state, and null is: nobody knows."""

from __future__ import annotations

from typing import Final, NotRequired

from typing_extensions import TypedDict  # pydantic takes typing's from Python 3.12 on

from extproc.measures import Moments, Timing, Totals


class Seconds(TypedDict):
    """A time of many answers. Quantiles are within 1 % of their value."""

    n: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    log_mean: float | None
    log_deviation: float | None


class Spread(TypedDict):
    """Of what was measured of each request."""

    n: int
    mean: float | None
    deviation: float | None


class Tokens(TypedDict):
    """Of `answers` that say how many they cost."""

    answers: int
    input: int
    output: int
    cached: int


class Cost(TypedDict):
    """Of `requests` whose price and tokens are known."""

    requests: int
    amount: float
    currency: str


class Feedback(TypedDict):
    """What was said of answers."""

    good: int
    bad: int
    score: float | None


class Shadow(TypedDict):
    """Of a shadow's answers, how many were the same as the live ones."""

    pairs: int
    same: int


class Measured(TypedDict):
    """One entity, or one arm of an experiment at it."""

    served_entity: str
    experiment: NotRequired[str]
    arm: NotRequired[str]
    requests: int
    errors: int
    error_rate: float | None
    errors_by_kind: dict[str, int]
    rejected: int
    headers_s: Seconds
    ttft_s: Seconds
    tpot_s: Seconds
    e2e_s: Seconds
    tokens: Tokens
    finish_reasons: dict[str, int]
    cost: NotRequired[Cost]
    feedback: Feedback
    shadow: Shadow
    queue_at_pick: Spread
    hit_fraction: Spread


class Answer(TypedDict):
    """`window_s` is null for everything since the gateway began; a window begins up to `slot_s` earlier than asked for."""

    endpoint: str
    window_s: float | None
    slot_s: float
    measures: list[Measured]


class Said(TypedDict):
    """What became of what was said."""

    request_id: str
    verdict: str


_DIGITS: Final = 9


def measured(entity: str, arm: str, totals: Totals, currency: str | None) -> Measured:
    """`arm` is `experiment/arm`, '' for all; `currency` None where there is no price."""
    told: Measured = {
        "served_entity": entity,
        "requests": totals.requests,
        "errors": totals.errors,
        "error_rate": totals.error_rate,
        "errors_by_kind": dict(sorted(totals.errors_by_kind.items())),
        "rejected": totals.rejected,
        "headers_s": _seconds(totals.headers_s),
        "ttft_s": _seconds(totals.ttft_s),
        "tpot_s": _seconds(totals.tpot_s),
        "e2e_s": _seconds(totals.e2e_s),
        "tokens": {
            "answers": totals.usage,
            "input": totals.input_tokens,
            "output": totals.output_tokens,
            "cached": totals.cached_tokens,
        },
        "finish_reasons": dict(sorted(totals.finish_reasons.items())),
        "feedback": {
            "good": totals.feedback_good,
            "bad": totals.feedback_bad,
            "score": totals.feedback_score.mean if totals.feedback_score.n else None,
        },
        "shadow": {"pairs": totals.shadow_pairs, "same": totals.shadow_same},
        "queue_at_pick": _spread(totals.queue_at_pick),
        "hit_fraction": _spread(totals.hit_fraction),
    }
    if arm:
        told["experiment"], _, told["arm"] = arm.partition("/")
    if currency is not None:
        told["cost"] = {"requests": totals.priced, "amount": round(totals.cost, _DIGITS), "currency": currency}
    return told


def _seconds(timing: Timing) -> Seconds:
    p50, p90, p95, p99 = [_rounded(each) for each in timing.sketch.quantiles(0.5, 0.9, 0.95, 0.99)]
    some = timing.n > 0
    return {
        "n": timing.n,
        "mean": _rounded(timing.mean_s),
        "p50": p50,
        "p90": p90,
        "p95": p95,
        "p99": p99,
        "log_mean": _rounded(timing.log.mean) if some else None,
        "log_deviation": _rounded(timing.log.deviation) if some else None,
    }


def _spread(moments: Moments) -> Spread:
    some = moments.n > 0
    return {
        "n": moments.n,
        "mean": _rounded(moments.mean) if some else None,
        "deviation": _rounded(moments.deviation) if some else None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
