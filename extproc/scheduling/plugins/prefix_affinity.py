"""`prefix-cache-affinity-filter`: stick to whom has the prompt in its cache, unless that is much later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from extproc.candidates import Candidates
from extproc.scheduling.columns import floats
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import LATENCY, InFlight, Latency, PrefixMatch
from extproc.scheduling.plugins.base import FILTER, Kit, Need, PluginType, Random
from extproc.scheduling.plugins.inflight import in_flight_need, match_need, source
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
        matched = floats(candidates.of(match.matched))
        sticky = [position for position, blocks in enumerate(matched) if blocks >= least]
        if not sticky or len(sticky) == len(matched):
            return None
        if self._exploration and self._random() < self._exploration:
            return None
        if self._penalty_ms:
            ttft_ms = self._ttft_ms(cycle, candidates)
            if ttft_ms is not None:
                best = min([ttft_ms[position] for position in sticky])
                chosen = set(sticky)
                others = min([value for position, value in enumerate(ttft_ms) if position not in chosen])
                if best - others > self._penalty_ms:
                    return None
        return sticky

    def _ttft_ms(self, cycle: Cycle, candidates: Candidates) -> list[float] | None:
        """What is estimated of each candidate; infinite where nothing is. None when nothing is of anybody."""
        if self._load is not None:
            tokens = floats(candidates.of(cast(InFlight, cycle.facts[self._load]).tokens))
            return [each / self._tokens_per_ms for each in tokens]
        if self._latency is None:
            return None
        latency = cast(Latency, cycle.facts[self._latency])
        if not latency.known:
            return None
        return [each if each == each else float("inf") for each in floats(candidates.of(latency.ttft_ms))]


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
    second = source(kit, 1) if len(kit.sources) > 1 else None
    predicted = parameters.ttft_source == "latencyPredictor"
    return PrefixAffinity(
        source(kit),
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
