"""Filters by load. Whom each keeps is in the rows at the end.

Whoever compares with a bound keeps an endpoint of which nothing is known, as upstream does: the scorers know what it is worth.
Whoever keeps the least loaded leaves it out, unless it is its turn to be tried or nothing is known of any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.candidates import Candidates, Column
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import FILTER, Kit, PluginType
from extproc.scheduling.plugins.parameters import NoParameters
from extproc.scheduling.plugins.parameters_load import QueueThresholdParameters, UtilizationFilterParameters

WAITING: Final = "waiting"
RUNNING: Final = "running"
KV_USAGE: Final = "kv_usage"
IN_FLIGHT: Final = "in_flight"
_METRICS: Final = {
    "active-requests": IN_FLIGHT,
    "running-requests": RUNNING,
    "waiting-queue": WAITING,
    "kv-cache-utilization": KV_USAGE,
}


def column_of(candidates: Candidates, signal: str) -> Column:
    """One of the columns by its name."""
    if signal == WAITING:
        return candidates.waiting
    if signal == RUNNING:
        return candidates.running
    return candidates.kv_usage if signal == KV_USAGE else candidates.in_flight


class AtMost:
    """`utilization-filter`, `low-queue-filter`."""

    fixed = False
    by_load = True

    def __init__(self, bounds: Sequence[tuple[str, float]], *, all_if_none: bool = False) -> None:
        """Signals with the most that an endpoint may have of each."""
        self._bounds = tuple(bounds)
        self._all_if_none = all_if_none

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        kept: Sequence[int] | None = None
        for signal, most in self._bounds:
            within = columns.at_most(column_of(candidates, signal), most)
            if within is not None:
                kept = within if kept is None else columns.both(kept, within)
        if self._all_if_none and kept is not None and not kept:
            return None
        return kept


class Least:
    """`least-queue-filter`, `least-kv-cache-filter`: the first of as many equal parts of the range as there are candidates."""

    fixed = False
    by_load = True

    def __init__(self, signal: str) -> None:
        self._signal = signal

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        kept = columns.least(column_of(candidates, self._signal), len(candidates))
        return with_trial(kept, candidates)


def with_trial(kept: Sequence[int] | None, candidates: Candidates) -> Sequence[int] | None:
    """And whose turn it is to be tried."""
    trial = candidates.trial
    return [*kept, trial] if kept is not None and trial >= 0 and trial not in kept else kept


def _utilization(parameters: UtilizationFilterParameters, kit: Kit) -> AtMost:
    bounds = [(_METRICS[each.metric], each.max_value) for each in parameters.conditions]
    return AtMost(bounds, all_if_none=parameters.fallback_on_empty)


def _low_queue(parameters: QueueThresholdParameters, kit: Kit) -> AtMost:
    return AtMost([(WAITING, float(parameters.threshold))])


TYPES: Final = (
    PluginType(
        "utilization-filter",
        FILTER,
        "keeps endpoints with at most `maxValue` of each metric",
        UtilizationFilterParameters,
        _utilization,
    ),
    PluginType(
        "low-queue-filter",
        FILTER,
        "keeps endpoints whose projected queue is at most `threshold`",
        QueueThresholdParameters,
        _low_queue,
    ),
    PluginType(
        "least-queue-filter",
        FILTER,
        "keeps endpoints with q ≤ min + (max − min) / n",
        NoParameters,
        lambda parameters, kit: Least(WAITING),
    ),
    PluginType(
        "least-kv-cache-filter",
        FILTER,
        "the same over the KV cache usage",
        NoParameters,
        lambda parameters, kit: Least(KV_USAGE),
    ),
)
