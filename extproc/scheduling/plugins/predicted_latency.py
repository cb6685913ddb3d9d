"""`predicted-latency-producer`: when the first token would come, and the next ones, of each endpoint.

Upstream asks a model that a side-car trains. Here it stands on an average of our own measurements (`scheduling.averages`):

    TTFT = r × (256 + u) × (1 + q)      r: the average of TTFT / ((256 + u) × (1 + q)) as measured there
    TPOT = t                            t: the average of TPOT as measured there

u: tokens of the prompt that are not cached there. q: requests that wait there, projected; 0 where unknown. 256 tokens stand for
what a request costs whatever its length. TTFT is measured to the first piece of the body, so of answers that pass by us: the
headers of a stream come before anything was computed. So does TPOT, and that takes an answer that says how many tokens it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from extproc.candidates import Candidates, Column
from extproc.domain import Endpoint
from extproc.names import SLO_TPOT_HEADERS, SLO_TTFT_HEADERS
from extproc.scheduling import columns
from extproc.scheduling.averages import Average, Averages
from extproc.scheduling.columns import floats
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import LATENCY, PROMPT, Latency, PrefixMatch, Prompt
from extproc.scheduling.plugins.base import PRODUCER, Clock, Figure, Kit, Need, PluginType, Run, Scheduled
from extproc.scheduling.plugins.inflight import match_need
from extproc.scheduling.plugins.parameters_latency import PredictedLatencyParameters

BASE_TOKENS: Final = 256.0
NOTE: Final = (
    "predicts from an average of what we measure at each endpoint, by its queue and the prompt; no trained model is asked"
)
_MOST_TOLD: Final = 100
_NAN: Final = float("nan")


class Sent:
    """What is measured of a request."""

    __slots__ = ("address", "answered_s", "predicted_ms", "sent_s", "slo_tpot_ms", "slo_ttft_ms", "streams", "works")

    def __init__(
        self,
        works: list[tuple[str, float]],
        address: str,
        sent_s: float,
        streams: bool,
        predicted_ms: float,
        slo_ttft_ms: float | None,
        slo_tpot_ms: float | None,
    ) -> None:
        self.address = address
        """Where it was sent."""
        self.works = works
        """Who has a part in it, the one that serves first, and how much there was to do there: (256 + u) × (1 + q)."""
        self.sent_s = sent_s
        self.streams = streams
        self.predicted_ms = predicted_ms
        self.slo_ttft_ms = slo_ttft_ms
        self.slo_tpot_ms = slo_tpot_ms
        self.answered_s = 0.0


class PredictedLatency:
    """`predicted-latency-producer`."""

    def __init__(
        self,
        name: str,
        prompt: str,
        match: str,
        clock: Clock,
        *,
        buffer: float = 1.0,
        streaming: bool = False,
        role_label: str | None = None,
        predict: bool = True,
        half_life_s: float = 60.0,
    ) -> None:
        """`prompt` and `match`: who finds these out. The others are the parameters."""
        self._name = name
        self._prompt = prompt
        self._match = match
        self._clock = clock
        self._buffer = buffer
        self._streaming = streaming
        self._role_label = role_label
        self._predict = predict
        self._half_life_s = half_life_s
        self._rates = Averages(half_life_s)
        """Seconds of TTFT for each token and request before it."""
        self._tpots = Averages(half_life_s)
        self._error = Average()
        """|predicted − measured| / measured TTFT."""
        self._missed = {"ttft": 0, "tpot": 0}
        self._endpoints: Sequence[Endpoint] = ()
        self._unknown_of: Sequence[Endpoint] = ()
        self._unknown: Column = []
        self._prefill: list[int] = []
        """Positions of endpoints that only prefill."""

    # -- deciding ------------------------------------------------------------------------------------------------

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        now_s = self._clock()
        rates = self._rates.column(candidates, now_s) if self._predict else None
        if rates is None:
            none = self._nothing(candidates)
            return Latency(none, none, none, none, False)
        tokens = float(cast(Prompt, cycle.facts[self._prompt]).tokens)
        match = cast(PrefixMatch, cycle.facts[self._match])
        uncached = columns.rest_of(tokens, match.matched, float(match.block_tokens))
        ttft_ms = _ttft_ms(rates, uncached, candidates.waiting)
        head = cycle.asked.head
        slo_ttft, slo_tpot = head.wished_ms(SLO_TTFT_HEADERS), head.wished_ms(SLO_TPOT_HEADERS)
        wished = slo_ttft is not None or slo_tpot is not None
        tpots = self._tpots.column(candidates, now_s) if self._streaming else None
        neutral = columns.zeros_like(candidates.in_flight)
        ttft_headroom = neutral if wished and slo_ttft is None else self._headroom(ttft_ms, slo_ttft)
        if tpots is None:
            return Latency(ttft_ms, self._nothing(candidates), ttft_headroom, neutral, True)
        tpot_ms = columns.scaled(tpots, 1000.0)
        tpot_headroom = neutral if wished and slo_tpot is None else self._headroom(tpot_ms, slo_tpot)
        for position in self._only_prefill(candidates):
            tpot_headroom[position] = 0.0
        return Latency(ttft_ms, tpot_ms, ttft_headroom, tpot_headroom, True)

    def _nothing(self, candidates: Candidates) -> Column:
        """Unknown, of each."""
        if candidates.endpoints is not self._unknown_of:
            self._unknown_of = candidates.endpoints
            self._unknown = columns.like(candidates.in_flight, [_NAN] * len(candidates))
        return self._unknown

    def _headroom(self, predicted_ms: Column, wished_ms: float | None) -> Column:
        """A new column."""
        most = 0.0 if wished_ms is None else wished_ms * self._buffer
        if isinstance(predicted_ms, list):
            return [most - value for value in predicted_ms]
        return cast(Column, most - predicted_ms)

    def _only_prefill(self, candidates: Candidates) -> list[int]:
        label = self._role_label
        if label is not None and candidates.endpoints is not self._endpoints:
            self._endpoints = candidates.endpoints
            self._prefill = [at for at, each in enumerate(candidates.endpoints) if each.labels.get(label) == "prefill"]
        return self._prefill

    def tells(self, cycle: Cycle) -> object:
        told = cycle.facts.get(self._name)
        if not isinstance(told, Latency):
            return None
        ttft_ms = floats(told.ttft_ms)[:_MOST_TOLD]
        tpot_ms = floats(told.tpot_ms)[:_MOST_TOLD]
        return {
            "stands_on": "averages" if told.known else "nothing yet",
            "ttft_ms": [round(each, 3) if each == each else None for each in ttft_ms],
            "tpot_ms": [round(each, 3) if each == each else None for each in tpot_ms],
        }

    # -- measuring -----------------------------------------------------------------------------------------------

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        asked, facts = cycle.asked, cycle.facts
        streams = asked.payload is not None and asked.payload.get("stream") is True
        match = cast(PrefixMatch, facts[self._match])
        tokens = float(cast(Prompt, facts[self._prompt]).tokens)
        run = scheduled.run
        works = [(run.endpoint, _work(run, match, tokens))]
        for name, other in scheduled.runs.items():
            if name != scheduled.primary and other.endpoint != run.endpoint:
                works.append((other.endpoint, _work(other, match, tokens)))
        latency = cast(Latency, facts[self._name])
        predicted_ms = float(latency.ttft_ms[run.place])
        slo_ttft, slo_tpot = asked.head.wished_ms(SLO_TTFT_HEADERS), asked.head.wished_ms(SLO_TPOT_HEADERS)
        address = scheduled.destination.partition(",")[0] or run.endpoint
        cycle.kept[self._name] = Sent(works, address, self._clock(), streams, predicted_ms, slo_ttft, slo_tpot)

    def prefilled(self, cycle: Cycle) -> None:
        sent = cast("Sent | None", cycle.kept.get(self._name))
        if sent is not None:
            sent.answered_s = self._clock()

    def ended(self, cycle: Cycle, status: int, served: str) -> None:
        sent = cast("Sent | None", cycle.kept.pop(self._name, None))
        if sent is None or not 200 <= status < 300 or (self._streaming and not sent.streams):
            return
        first = sent.works[0][0]
        if served and served != sent.address:
            return  # somebody else answered
        now_s = self._clock()
        measured = cycle.measured
        ttft_s = self._first_s(sent, now_s) if measured is None or not self._streaming else measured.ttft_s
        if ttft_s is None:
            ttft_s = self._first_s(sent, now_s)
        if ttft_s is not None and ttft_s > 0:
            self._learn(sent, ttft_s, now_s)
        tpot_s = None if measured is None or not self._streaming else measured.tpot_s
        if tpot_s is not None:
            self._tpots.add(first, tpot_s, now_s)
            if sent.slo_tpot_ms is not None and tpot_s * 1000.0 > sent.slo_tpot_ms:
                self._missed["tpot"] += 1

    def _first_s(self, sent: Sent, now_s: float) -> float | None:
        """To the answer's first piece, None where that did not come by; without `streamingMode` the whole time."""
        if not self._streaming:
            return now_s - sent.sent_s
        return sent.answered_s - sent.sent_s if sent.answered_s else None

    def _learn(self, sent: Sent, ttft_s: float, now_s: float) -> None:
        for key, work in sent.works:
            self._rates.add(key, ttft_s / work, now_s)
        if sent.predicted_ms == sent.predicted_ms:
            error = abs(sent.predicted_ms / 1000.0 - ttft_s) / ttft_s
            self._error.add(error, now_s, self._half_life_s)
        if sent.slo_ttft_ms is not None and ttft_s * 1000.0 > sent.slo_ttft_ms:
            self._missed["ttft"] += 1

    def forget(self, endpoint: str) -> None:
        self._rates.forget(endpoint)
        self._tpots.forget(endpoint)

    # -- for people ----------------------------------------------------------------------------------------------

    def figures(self) -> Iterable[Figure]:
        samples = "Measurements that predictions stand on."
        missed = "Requests whose first token, or the time for each token, came later than they asked for."
        stands = "1: latencies are predicted from averages of what we measure; no trained model is asked."
        error = "How far predictions of the first token's time were off lately, as a share of what it took."
        return [
            Figure("extproc_latency_predictor_info", stands, 1, (("stands_on", "averages"),)),
            Figure("extproc_latency_samples_total", samples, self._rates.number, (("type", "ttft"),), counts=True),
            Figure("extproc_latency_samples_total", samples, self._tpots.number, (("type", "tpot"),), counts=True),
            Figure("extproc_slo_violations_total", missed, self._missed["ttft"], (("type", "ttft"),), counts=True),
            Figure("extproc_slo_violations_total", missed, self._missed["tpot"], (("type", "tpot"),), counts=True),
            Figure("extproc_ttft_prediction_error", error, self._error.value),
        ]

    def dump(self) -> object:
        return {
            "stands_on": "averages",
            "seconds_of_ttft_a_token_and_request": self._rates.dump(_MOST_TOLD),
            "tpot_s": self._tpots.dump(_MOST_TOLD),
            "ttft_samples": self._rates.number,
            "tpot_samples": self._tpots.number,
            "error": self._error.value,
        }


def _ttft_ms(rates: Column, uncached: Column, waiting: Column) -> Column:
    if isinstance(rates, list):
        queues = [value if value == value else 0.0 for value in waiting]
        return [
            1000.0 * rate * (BASE_TOKENS + tokens) * (1.0 + queue)
            for rate, tokens, queue in zip(rates, floats(uncached), queues, strict=True)
        ]
    import numpy as np

    before = 1.0 + np.nan_to_num(np.asarray(waiting, dtype=np.float64))
    return cast(Column, 1000.0 * rates * (np.asarray(uncached) + BASE_TOKENS) * before)


def _work(run: Run, match: PrefixMatch, tokens: float) -> float:
    position = run.pick.positions[0]
    waiting = run.candidates.waiting[position]
    cached = match.matched[run.candidates.place(position)] * match.block_tokens
    return float((BASE_TOKENS + max(0.0, tokens - cached)) * (1.0 + (waiting if waiting == waiting else 0.0)))


def latency_need(parameters: Any) -> Need:
    """Of a plugin whose parameters name the producer."""
    return Need(LATENCY, parameters.latency_prediction_info_producer_name, "latencyPredictionInfoProducerName")


def _predicted(parameters: PredictedLatencyParameters, kit: Kit) -> PredictedLatency:
    return PredictedLatency(
        kit.name,
        kit.source(),
        kit.source(1),
        kit.clock,
        buffer=parameters.slo_buffer_factor,
        streaming=parameters.streaming_mode,
        role_label=parameters.endpoint_role_label,
        predict=parameters.predict_in_produce,
        half_life_s=parameters.half_life_seconds,
    )


TYPES: Final = (
    PluginType(
        "predicted-latency-producer",
        PRODUCER,
        "TTFT = r × (256 + tokens that are not cached) × (1 + queue), r the average of TTFT / ((256 + …) × (1 + …)) as "
        "measured at the endpoint; TPOT the average as measured; headroom = what is asked for × `sloBufferFactor` − predicted",
        PredictedLatencyParameters,
        _predicted,
        needs=lambda parameters: (Need(PROMPT), match_need(parameters)),
        provides=LATENCY,
        note=lambda parameters: NOTE,
    ),
)
