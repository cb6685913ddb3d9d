"""Metrics of what answers say of themselves: `inference_objective_*`, as the endpoint picker's dashboards know them.

Names and buckets are GIE v1.x's (`pkg/epp/metrics`). Two things are llm-d router's: the label `streaming` of the time to first
token, because for an answer that does not stream it is the time to all tokens, and the inter-token latency, which GIE has not.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from extproc.observability.instruments import UNBOUNDED, Histogram, Instruments
from extproc.observability.labels import ModelNames
from extproc.observability.logs import logger
from extproc.observability.metrics import REQUEST_SECONDS
from extproc.observability.picker import model_key
from extproc.response import Measurement

_log = logger(__name__)

RESPONSE_BYTES: Final = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32778, 65536)
INPUT_TOKENS: Final = (
    *(1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32778, 65536),
    *(131072, 262144, 524288, 1048576),
)
OUTPUT_TOKENS: Final = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
TPOT_SECONDS: Final = (
    *(0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8),
    *(1, 1.5, 2, 3, 4.5, 6, 12, 18, 24, 30, 36, 48, 60, 90, 120, 180, 270, 360),
)
ITL_SECONDS: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2)
NTPOT_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class ModelResponses:
    """The bound children of one model."""

    __slots__ = ("cached_tokens", "input_tokens", "itl", "ntpot", "output_tokens", "size", "tpot", "ttft", "ttft_streaming")

    def __init__(self, families: ResponseMetrics, names: ModelNames, *labels: str) -> None:
        of = names.histogram
        self.size = of(families.sizes, *labels)
        self.input_tokens = of(families.input_tokens, *labels)
        self.output_tokens = of(families.output_tokens, *labels)
        self.cached_tokens = of(families.cached_tokens, *labels)
        self.ttft = of(families.ttft, *labels, "false")
        self.ttft_streaming = of(families.ttft, *labels, "true")
        self.tpot = of(families.tpot, *labels)
        self.itl = of(families.itl, *labels)
        self.ntpot = of(families.ntpot, *labels)


class ResponseMetrics:
    """The families, and what goes into them when an answer is over."""

    def __init__(self, instruments: Instruments, *, always: bool = True) -> None:
        """`always`: also where there is nothing to read, which is counted then; else what comes by here and can be read."""
        self.always = always
        standard = ["model_name", "target_model_name", "priority"]
        make = partial(instruments.histogram, most=UNBOUNDED)
        self._names = ModelNames.of(instruments)
        self.sizes = make("inference_objective_response_sizes", "Response bodies in bytes.", RESPONSE_BYTES, standard)
        self.input_tokens = make("inference_objective_input_tokens", "Tokens of the prompt.", INPUT_TOKENS, standard)
        self.output_tokens = make("inference_objective_output_tokens", "Tokens of the answer.", OUTPUT_TOKENS, standard)
        self.cached_tokens = make(
            "inference_objective_prompt_cached_tokens", "Tokens of the prompt that were in a cache.", INPUT_TOKENS, standard
        )
        self.ttft = make(
            "inference_objective_request_ttft_seconds",
            "From the request to the first bytes of its answer's body.",
            REQUEST_SECONDS,
            [*standard, "streaming"],
        )
        self.tpot = make(
            "inference_objective_request_tpot_seconds",
            "Time per output token after the first, of answers that stream.",
            TPOT_SECONDS,
            standard,
        )
        self.itl = make(
            "llm_d_epp_request_streaming_itl_seconds",
            "Between two pieces of an answer that streams.",
            ITL_SECONDS,
            standard,
        )
        self.ntpot = make(
            "inference_objective_normalized_time_per_output_token_seconds",
            "The whole time of a request per output token.",
            NTPOT_SECONDS,
            standard,
        )
        self._unread = instruments.counter(
            "extproc_responses_unread_total", "Answers whose usage could not be read, by reason.", ["reason"]
        )
        self._models: dict[str | tuple[str, str | None, int], ModelResponses] = {}
        self._warned = False

    def model(self, name: str, target: str | None = None, priority: int = 0) -> ModelResponses:
        """The bound children of a model ('' for requests without one) and of the one that serves it, None for itself."""
        bound = self._models.get(model_key(name, target, priority))
        return self._bind(name, target, priority) if bound is None else bound

    def _bind(self, name: str, target: str | None, priority: int) -> ModelResponses:
        names = self._names
        label, served = names.take_both(name, target)
        key = model_key(label, None if target is None else served, priority)
        bound = self._models.get(key)
        if bound is None:
            bound = self._models[key] = ModelResponses(self, names, label, served, str(priority))
            names.bound(label, self._models, key)
            names.bound(served, self._models, key)
        return bound

    def ended(self, model: str, told: Measurement, ended_s: float, target: str | None = None, priority: int = 0) -> None:
        """Take in what was measured of an answer that ended now, whether it was whole or not."""
        if told.unread:
            self._count_unread(told.unread)
        ttft_s = told.times.ttft_s()
        if ttft_s is None:
            return
        bound = self.model(model, target, priority)
        bound.size.observe(told.size_bytes)
        (bound.ttft_streaming if told.streaming else bound.ttft).observe(ttft_s)
        prompt, completion, cached = told.usage
        tpot_s = told.times.tpot_s(ended_s, completion) if told.streaming else None
        _observe(bound.tpot, tpot_s)
        _observe(bound.ntpot, told.times.ntpot_s(ended_s, completion))
        _observe(bound.input_tokens, prompt)
        _observe(bound.output_tokens, completion)
        _observe(bound.cached_tokens, cached)

    def _count_unread(self, reason: str) -> None:
        self._unread.child(reason).value += 1
        if reason == "body not sent" and not self._warned:
            self._warned = True
            _log.warning(
                "--response-metrics has nothing to read: Envoy does not send response bodies; "
                "set response_body_mode to FULL_DUPLEX_STREAMED (said once)"
            )


def _observe(histogram: Histogram, value: float | None) -> None:
    if value is not None:
        histogram.observe(value)
