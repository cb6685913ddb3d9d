"""Who would do as requests ask: a filter by it, and an admitter. And who refuses more as the pool gets full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from extproc.candidates import Candidates, Column
from extproc.names import SLO_TPOT_HEADERS, SLO_TTFT_HEADERS
from extproc.scheduling import columns
from extproc.scheduling.columns import floats
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import Latency
from extproc.scheduling.plugins.base import ADMITTER, FILTER, PluginType, Random
from extproc.scheduling.plugins.parameters_latency import (
    HeadroomTierParameters,
    LatencyAdmitterParameters,
    ProbabilisticAdmitterParameters,
)
from extproc.scheduling.plugins.predicted_latency import latency_need

COLD: Final = 0.02
"""Below so much of its KV cache an endpoint has hardly anything to do."""


def _doing(cycle: Cycle, candidates: Candidates, source_name: str) -> list[int]:
    """Positions of those that would do as asked."""
    latency = cast(Latency, cycle.facts[source_name])
    if not latency.known:
        return []
    ttft, tpot = candidates.of(latency.ttft_headroom_ms), candidates.of(latency.tpot_headroom_ms)
    if not isinstance(ttft, list):
        return columns.both(_not_negative(ttft), _not_negative(tpot))
    return [at for at, headroom in enumerate(ttft) if headroom >= 0 and tpot[at] >= 0]


def _not_negative(column: Column) -> list[int]:
    return columns.between(column, 0.0, float("inf"), unknown=False)


class HeadroomTier:
    """`slo-headroom-tier-filter`."""

    fixed = False
    by_load = False

    def __init__(self, latency: str, random: Random, explore: float) -> None:
        """`latency`: who finds it out. `explore`: how often those are kept that would not do as asked."""
        self._latency = latency
        self._random = random
        self._explore = explore

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        doing = _doing(cycle, candidates, self._latency)
        if not doing or len(doing) == len(candidates):
            return None
        if self._explore and self._random() < self._explore:
            chosen = set(doing)
            return [at for at in range(len(candidates)) if at not in chosen]
        return doing


class LatencyAdmitter:
    """`latency-slo-admitter`: requests that may be shed, and ask for a latency, are refused when nobody would give it."""

    def __init__(self, latency: str) -> None:
        """Who finds it out."""
        self._latency = latency

    def refuses(self, cycle: Cycle, candidates: Candidates) -> str | None:
        if cycle.priority >= 0:
            return None
        head = cycle.asked.head
        if head.wished_ms(SLO_TTFT_HEADERS) is None and head.wished_ms(SLO_TPOT_HEADERS) is None:
            return None
        if _doing(cycle, candidates, self._latency):
            return None
        if 0.0 in floats(candidates.running) or [usage for usage in floats(candidates.kv_usage) if usage < COLD]:
            return None
        return "no endpoint would answer as fast as is asked for"


class ProbabilisticAdmitter:
    """`probabilistic-admitter`. As for the saturation, the queue is the page's own, and who is unknown counts as full."""

    def __init__(self, random: Random, queue: int, kv_usage: float, power: float, k: float) -> None:
        """An endpoint is full at so many waiting requests, or so large a share of its KV cache."""
        self._random = random
        self._queue = float(queue)
        self._kv_usage = kv_usage
        self._power = power
        self._k = k
        self._stamp: object = None
        self._chance = 1.0

    def refuses(self, cycle: Cycle, candidates: Candidates) -> str | None:
        if cycle.priority >= 0:
            return None
        if candidates.stamp is not self._stamp:  # pages say it, so it holds until there is a new one
            self._stamp = candidates.stamp
            self._chance = min(1.0, self._k * self._saturation(candidates) ** self._power)
        return "the pool is too full for its priority" if self._random() < self._chance else None

    def _saturation(self, candidates: Candidates) -> float:
        total = 0.0
        for load in candidates.loads:
            if load.waiting is None and load.kv_usage is None:
                total += 1.0
            else:
                total += max((load.waiting or 0.0) / self._queue, (load.kv_usage or 0.0) / self._kv_usage)
        return total / len(candidates.loads) if candidates.loads else 1.0


TYPES: Final = (
    PluginType(
        "slo-headroom-tier-filter",
        FILTER,
        "those that would do as asked; with the chance of `epsilonExploreNeg` the others; all where they are all alike",
        HeadroomTierParameters,
        lambda parameters, kit: HeadroomTier(kit.source(), kit.random, parameters.epsilon_explore_neg),
        needs=lambda parameters: (latency_need(parameters),),
    ),
    PluginType(
        "latency-slo-admitter",
        ADMITTER,
        "priority below 0 with `x-llm-d-slo-…` headers: 429 when nobody would do as asked, nobody runs nothing, and "
        "nobody's KV cache is below 2 %",
        LatencyAdmitterParameters,
        lambda parameters, kit: LatencyAdmitter(kit.source()),
        needs=lambda parameters: (latency_need(parameters),),
    ),
    PluginType(
        "probabilistic-admitter",
        ADMITTER,
        "priority below 0: 429 with the chance of min(1, `k` × s^`power`), s the mean over endpoints of max(queue / "
        "`queueDepthThreshold`, KV usage / `kvCacheUtilThreshold`)",
        ProbabilisticAdmitterParameters,
        lambda parameters, kit: ProbabilisticAdmitter(
            kit.random,
            parameters.queue_depth_threshold,
            parameters.kv_cache_util_threshold,
            parameters.power,
            parameters.k,
        ),
    ),
)
