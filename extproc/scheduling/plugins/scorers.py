"""Scorers: each signal of a candidate as points in 0..1. The formulas are in the rows at the end.

Unknown signals score 0. Upstream reads them as 0 load, so that a pod which was never scraped attracts all traffic.
"""

from __future__ import annotations

from typing import ClassVar, Final

from extproc.candidates import Candidates, Column
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import Kit, PluginType
from extproc.scheduling.plugins.parameters import (
    ActiveRequestParameters,
    KvCacheParameters,
    NoParameters,
    QueueParameters,
    no_effect,
)
from extproc.scheduling.plugins.parameters_load import LoadAwareParameters


class SignalScorer:
    """Points of one signal, less of which is better: so it can be told how much less would have been enough."""

    signal: ClassVar[str]
    """The column of the candidates that it reads."""

    def points(self, column: Column) -> Column:
        """Of candidates with these values of the signal, as `score`."""
        raise NotImplementedError


class QueueScorer(SignalScorer):
    """`queue-scorer`. The queue is projected: what we sent since the last page counts as waiting."""

    signal: ClassVar[str] = "waiting"
    per_snapshot = False

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        return columns.lower_is_better(candidates.waiting)

    def points(self, column: Column) -> Column:
        return columns.lower_is_better(column)


class LoadAwareScorer(SignalScorer):
    """`load-aware-scorer`, over the same queue."""

    signal: ClassVar[str] = "waiting"
    per_snapshot = False

    def __init__(self, threshold: int = 128) -> None:
        self._threshold = float(threshold)

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        return self.points(candidates.waiting)

    def points(self, column: Column) -> Column:
        return columns.less_waiting(column, self._threshold)


class RunningRequestsScorer(SignalScorer):
    """`running-requests-size-scorer`."""

    signal: ClassVar[str] = "running"
    per_snapshot = True

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        return columns.lower_is_better(candidates.running)

    def points(self, column: Column) -> Column:
        return columns.lower_is_better(column)


class KvCacheScorer(SignalScorer):
    """`kv-cache-utilization-scorer`."""

    signal: ClassVar[str] = "kv_usage"
    per_snapshot = True

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        return columns.complement(candidates.kv_usage)

    def points(self, column: Column) -> Column:
        return columns.complement(column)


class ActiveRequestScorer(SignalScorer):
    """`active-request-scorer`. Counted synchronously at the pick, so it never lags."""

    signal: ClassVar[str] = "in_flight"
    per_snapshot = False

    def __init__(self, idle: int = 0, most: float = 1.0) -> None:
        """So many requests in flight or fewer are idle; the points of a busy endpoint are at most `most`."""
        self._idle = float(idle)
        self._most = most

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        return self.points(candidates.in_flight)

    def points(self, column: Column) -> Column:
        return columns.busyness(column, self._idle, self._most)


def _active_request(parameters: ActiveRequestParameters, kit: Kit) -> ActiveRequestScorer:
    return ActiveRequestScorer(parameters.idle_threshold, parameters.max_busy_score)


TYPES: Final = (
    PluginType(
        "queue-scorer",
        "scorer",
        "(max − q) / (max − min) over the projected queue; all equal: 1",
        QueueParameters,
        lambda parameters, kit: QueueScorer(),
        note=no_effect,
    ),
    PluginType(
        "running-requests-size-scorer",
        "scorer",
        "the same over the running batch",
        NoParameters,
        lambda parameters, kit: RunningRequestsScorer(),
    ),
    PluginType(
        "kv-cache-utilization-scorer",
        "scorer",
        "1 − KV cache usage",
        KvCacheParameters,
        lambda parameters, kit: KvCacheScorer(),
        older=("kv-cache-scorer",),
        note=no_effect,
    ),
    PluginType(
        "load-aware-scorer",
        "scorer",
        "0.5 × (1 − min(q, `threshold`) / `threshold`) over the projected queue",
        LoadAwareParameters,
        lambda parameters, kit: LoadAwareScorer(parameters.threshold),
    ),
    PluginType(
        "active-request-scorer",
        "scorer",
        "requests of ours in flight: c ≤ `idleThreshold`: 1; else (max − c) / max × `maxBusyScore`",
        ActiveRequestParameters,
        _active_request,
    ),
)
