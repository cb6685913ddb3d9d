"""Scorers: each signal of a candidate as points in 0..1.

| type | formula |
|---|---|
| queue-scorer | (max - q) / (max - min) over the projected queue; all equal: 1 |
| running-requests-size-scorer | the same over the running batch |
| kv-cache-utilization-scorer | 1 - KV cache usage |
| active-request-scorer | c <= idleThreshold: 1; else (max - c) / max * maxBusyScore, c our requests in flight |

Unknown signals score 0. Upstream reads them as 0 load, so that a pod which was never scraped attracts all traffic.
"""

from __future__ import annotations

from pydantic import Field

from extproc.domain import Candidates, Column, InferenceRequest
from extproc.scheduling import columns
from extproc.scheduling.plugins.base import NoParameters, Parameters


class QueueScorer:
    """`queue-scorer`. The queue is projected: what we sent since the last page counts as waiting."""

    per_snapshot = False

    def __init__(self, parameters: NoParameters = NoParameters()) -> None:
        pass

    def score(self, request: InferenceRequest, candidates: Candidates) -> Column:
        return columns.lower_is_better(candidates.waiting)


class RunningRequestsScorer:
    """`running-requests-size-scorer`."""

    per_snapshot = True

    def __init__(self, parameters: NoParameters = NoParameters()) -> None:
        pass

    def score(self, request: InferenceRequest, candidates: Candidates) -> Column:
        return columns.lower_is_better(candidates.running)


class KvCacheScorer:
    """`kv-cache-utilization-scorer`."""

    per_snapshot = True

    def __init__(self, parameters: NoParameters = NoParameters()) -> None:
        pass

    def score(self, request: InferenceRequest, candidates: Candidates) -> Column:
        return columns.complement(candidates.kv_usage)


class ActiveRequestParameters(Parameters):
    """Parameters of `active-request-scorer`."""

    idle_threshold: int = Field(0, alias="idleThreshold", ge=0)
    """This many requests in flight or fewer count as idle."""
    max_busy_score: float = Field(1.0, alias="maxBusyScore", ge=0, le=1)
    """The points of a busy endpoint are at most this."""
    in_flight_load_producer_name: str | None = Field(None, alias="inFlightLoadProducerName")
    """Accepted for upstream's sake: we count requests in flight ourselves, at the pick."""
    request_timeout: str | None = Field(None, alias="requestTimeout")
    """Accepted for upstream's sake, and ignored as upstream does: a request ends when its stream does."""


class ActiveRequestScorer:
    """`active-request-scorer`. Counted synchronously at the pick, so it never lags."""

    per_snapshot = False

    def __init__(self, parameters: ActiveRequestParameters = ActiveRequestParameters.model_validate({})) -> None:
        self._idle = float(parameters.idle_threshold)
        self._most = parameters.max_busy_score

    def score(self, request: InferenceRequest, candidates: Candidates) -> Column:
        return columns.busyness(candidates.in_flight, self._idle, self._most)
