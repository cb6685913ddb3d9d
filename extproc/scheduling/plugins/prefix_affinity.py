"""`prefix-cache-affinity-filter`: stick to whom has the prompt in its cache, unless that is much later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from extproc.candidates import Candidates
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import LATENCY, InFlight, Latency, PrefixMatch
from extproc.scheduling.plugins.base import FILTER, Kit, Need, PluginType, Random
from extproc.scheduling.plugins.inflight import in_flight_need, match_need
from extproc.scheduling.plugins.parameters_tokens import PrefixAffinityParameters


class PrefixAffinity:
    """`prefix-cache-affinity-filter`."""

    fixed = False
    by_load = False

    def __init__(
        self,
        match: str,
        random: Random,
        *,
        threshold: float,
        exploration: float,
        penalty_ms: float,
        load: str | None,
        latency: str | None,
        tokens_per_s: float,
    ) -> None:
        """`match`, `load` and `latency`: who finds these out. With neither of the latter it always sticks."""
        self._match = match
        self._random = random
        self._threshold = threshold
        self._exploration = exploration
        self._penalty_ms = penalty_ms
        self._load = load
        self._latency = latency
        self._tokens_per_ms = tokens_per_s / 1000.0

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        match = cast(PrefixMatch, cycle.facts[self._match])
        if not match.total:
            return None
        least = self._threshold * match.total - 1e-9
        sticky = columns.between(candidates.of(match.matched), least, float("inf"), unknown=False)
        if not sticky or len(sticky) == len(candidates):
            return None
        if self._exploration and self._random() < self._exploration:
            return None
        return None if self._penalty_ms and self._is_too_late(cycle, candidates, sticky) else sticky

    def _is_too_late(self, cycle: Cycle, candidates: Candidates, sticky: list[int]) -> bool:
        """The best of these is, compared with the best of the others. Who is not predicted comes last."""
        if self._load is not None:
            costs = candidates.of(cast(InFlight, cycle.facts[self._load]).tokens)
            most = self._penalty_ms * self._tokens_per_ms
        elif self._latency is not None:
            latency = cast(Latency, cycle.facts[self._latency])
            if not latency.known:
                return False
            costs, most = candidates.of(latency.ttft_ms), self._penalty_ms
        else:
            return False
        best, others = columns.lowest_of(costs, sticky)
        return best - others > most


def _needs(parameters: PrefixAffinityParameters) -> Sequence[Need]:
    needs = [match_need(parameters)]
    if parameters.max_ttft_penalty_ms:
        if parameters.ttft_source == "latencyPredictor":
            name = parameters.latency_prediction_info_producer_name
            needs.append(Need(LATENCY, name, "latencyPredictionInfoProducerName"))
        else:
            needs.append(in_flight_need(parameters))
    return needs


def _affinity(parameters: PrefixAffinityParameters, kit: Kit) -> PrefixAffinity:
    second = kit.source(1) if len(kit.sources) > 1 else None
    predicted = parameters.ttft_source == "latencyPredictor"
    return PrefixAffinity(
        kit.source(),
        kit.random,
        threshold=parameters.affinity_threshold,
        exploration=parameters.exploration_probability,
        penalty_ms=parameters.max_ttft_penalty_ms,
        load=None if predicted else second,
        latency=second if predicted else None,
        tokens_per_s=parameters.peak_prefill_throughput,
    )


TYPES: Final = (
    PluginType(
        "prefix-cache-affinity-filter",
        FILTER,
        "those with cached blocks / blocks ≥ `affinityThreshold`; all when there are none, with the chance of "
        "`explorationProbability`, and when the first token of the best of them comes more than `maxTTFTPenaltyMs` later than "
        "that of the best of the others (tokens in flight / `peakPrefillThroughput`)",
        PrefixAffinityParameters,
        _affinity,
        needs=_needs,
    ),
)
