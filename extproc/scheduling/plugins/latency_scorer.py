"""`latency-scorer`: by what is predicted, and by what requests ask for (llm-d router `scorer/latency`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from extproc.candidates import Candidates, Column
from extproc.scheduling import columns
from extproc.scheduling.columns import floats
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import LATENCY, PREFIX_MATCH, Latency, PrefixMatch
from extproc.scheduling.plugins.base import SCORER, Kit, Need, PluginType
from extproc.scheduling.plugins.inflight import match_need
from extproc.scheduling.plugins.parameters_latency import LatencyScorerParameters, OldLatencyScorerParameters
from extproc.scheduling.plugins.predicted_latency import latency_need

_NOTHING: Final = 1e-9
"""A range below it is none."""


class LatencyScorer:
    """`latency-scorer`. Candidates of the best kind get points, the others none.

    Best are those that do as asked, or of which nothing is known. Where nobody does: who has nothing in flight; else who
    misses only the time of each token; else who misses only the first token's; else all.
    """

    per_snapshot = False

    def __init__(
        self,
        latency: str,
        match: str,
        *,
        ttft_weight: float,
        tpot_weight: float,
        most: bool,
        composite: tuple[float, float, float],
    ) -> None:
        """`latency` and `match`: who finds these out. `most`: more headroom is better. `composite`: of KV cache, queue and
        prefix, while nothing is predicted."""
        self._latency = latency
        self._match = match
        total = ttft_weight + tpot_weight
        self._ttft = ttft_weight / total if total > 0 else 1.0
        self._most = most
        total = sum(composite)
        self._composite = tuple([weight / total for weight in composite]) if total > 0 else (1.0, 0.0, 0.0)

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        latency = cast(Latency, cycle.facts[self._latency])
        if not latency.known:
            return columns.like(candidates.in_flight, self._without(cycle, candidates))
        if not isinstance(candidates.in_flight, list):
            return self._score_arrays(latency, candidates)
        ttft = [value if value == value else 0.0 for value in floats(candidates.of(latency.ttft_headroom_ms))]
        tpot = [value if value == value else 0.0 for value in floats(candidates.of(latency.tpot_headroom_ms))]
        points = [0.0] * len(ttft)
        chosen = [at for at, headroom in enumerate(ttft) if headroom >= 0 and tpot[at] >= 0]
        least = not self._most
        if not chosen:
            chosen, least = _least_bad(ttft, tpot, floats(candidates.in_flight)), True
        self._rate(chosen, ttft, tpot, least, points)
        return points

    def _score_arrays(self, latency: Latency, candidates: Candidates) -> Column:
        """The same of many."""
        import numpy as np

        ttft = np.nan_to_num(np.asarray(candidates.of(latency.ttft_headroom_ms), dtype=np.float64))
        tpot = np.nan_to_num(np.asarray(candidates.of(latency.tpot_headroom_ms), dtype=np.float64))
        chosen, least = (ttft >= 0) & (tpot >= 0), not self._most
        if not chosen.any():
            least = True
            for better in (np.asarray(candidates.in_flight) == 0, ttft >= 0, tpot >= 0, ttft < 0):
                if better.any():
                    chosen = better
                    break
        ttfts, tpots = np.abs(ttft[chosen]), np.abs(tpot[chosen])
        low_ttft, low_tpot = float(ttfts.min()), float(tpots.min())
        span_ttft, span_tpot = float(ttfts.max()) - low_ttft, float(tpots.max()) - low_tpot
        share = self._share(span_ttft, span_tpot)
        first = (ttfts - low_ttft) / span_ttft if span_ttft > _NOTHING else np.full_like(ttfts, 0.5)
        then = (tpots - low_tpot) / span_tpot if span_tpot > _NOTHING else np.full_like(tpots, 0.5)
        both = share * first + (1.0 - share) * then
        points = np.zeros_like(ttft)
        points[chosen] = np.minimum((np.floor((1.0 - both if least else both) * 100.0) + 1.0) / 100.0, 1.0)
        return cast(Column, points)

    def _share(self, span_ttft: float, span_tpot: float) -> float:
        """How much the first token's time counts; what is alike for all does not."""
        if span_ttft <= _NOTHING < span_tpot:
            return 0.0
        return 1.0 if span_tpot <= _NOTHING < span_ttft else self._ttft

    def _rate(
        self, chosen: Sequence[int], ttft: Sequence[float], tpot: Sequence[float], least: bool, points: list[float]
    ) -> None:
        ttfts, tpots = [abs(ttft[at]) for at in chosen], [abs(tpot[at]) for at in chosen]
        low_ttft, low_tpot = min(ttfts), min(tpots)
        span_ttft, span_tpot = max(ttfts) - low_ttft, max(tpots) - low_tpot
        share = self._share(span_ttft, span_tpot)
        for at, one, other in zip(chosen, ttfts, tpots, strict=True):
            first = (one - low_ttft) / span_ttft if span_ttft > _NOTHING else 0.5
            then = (other - low_tpot) / span_tpot if span_tpot > _NOTHING else 0.5
            both = share * first + (1.0 - share) * then
            points[at] = min(1.0, (int((1.0 - both if least else both) * 100.0) + 1) / 100.0)

    def _without(self, cycle: Cycle, candidates: Candidates) -> list[float]:
        """While nothing is predicted. What is unknown of an endpoint gives it no points."""
        match = cast(PrefixMatch, cycle.facts[self._match])
        matched = floats(candidates.of(match.matched))
        waiting, kv_usage = floats(candidates.waiting), floats(candidates.kv_usage)
        longest = max([value for value in waiting if value == value], default=0.0)
        by_kv, by_queue, by_prefix = self._composite
        points: list[float] = []
        for queue, usage, blocks in zip(waiting, kv_usage, matched, strict=True):
            total = by_kv * (1.0 - usage) if usage == usage else 0.0
            if queue == queue:
                total += by_queue * ((longest - queue) / longest if longest > 0 else 1.0)
            if match.total:
                total += by_prefix * blocks / match.total
            points.append(int(total * 100.0 + 0.5) / 100.0)
        return points


def _least_bad(ttft: Sequence[float], tpot: Sequence[float], in_flight: Sequence[float]) -> list[int]:
    everyone = range(len(ttft))
    return (
        [at for at in everyone if not in_flight[at]]
        or [at for at in everyone if ttft[at] >= 0]
        or [at for at in everyone if tpot[at] >= 0]
        or list(everyone)
    )


def _made(
    parameters: LatencyScorerParameters | OldLatencyScorerParameters, kit: Kit, ttft: float, tpot: float
) -> LatencyScorer:
    return LatencyScorer(
        kit.source(),
        kit.source(1),
        ttft_weight=ttft,
        tpot_weight=tpot,
        most=parameters.headroom_selection_strategy == "most",
        composite=parameters.composite,
    )


def _scorer(parameters: LatencyScorerParameters, kit: Kit) -> LatencyScorer:
    return _made(parameters, kit, parameters.ttft_weight, parameters.tpot_weight)


def _old_scorer(parameters: OldLatencyScorerParameters, kit: Kit) -> LatencyScorer:
    return _made(parameters, kit, parameters.headroom_ttft_weight, parameters.headroom_tpot_weight)


TYPES: Final = (
    PluginType(
        "latency-scorer",
        SCORER,
        "by headroom, of those that do as asked: n = (|h| − min) / (max − min) for TTFT and TPOT, c = their mean by weight; "
        "`least`: (⌊(1 − c) × 100⌋ + 1) / 100, `most`: (⌊c × 100⌋ + 1) / 100; while nothing is predicted, KV cache, queue and "
        "prefix",
        LatencyScorerParameters,
        _scorer,
        needs=lambda parameters: (latency_need(parameters), match_need(parameters)),
    ),
    PluginType(
        "predicted-latency-scorer",
        SCORER,
        "`latency-scorer` under its older name, with what goes with it",
        OldLatencyScorerParameters,
        _old_scorer,
        needs=lambda parameters: (Need(LATENCY), Need(PREFIX_MATCH)),
        older=("slo-aware-routing", "slo-scorer"),
        note=lambda parameters: (
            "predicted-latency-scorer is deprecated, use latency-scorer, with slo-headroom-tier-filter and "
            "prefix-cache-affinity-filter for what its other parameters said"
        ),
    ),
)
