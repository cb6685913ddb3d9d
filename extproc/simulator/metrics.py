"""The `/metrics` page of a simulated server: vLLM 0.32's families, labels and buckets, with the engine model's values.

Families that the model knows nothing of (flops, multi-modal caches, KV transfer) are there and stay zero, as on a
server without those features. `python_*` and `process_*` are those of the simulating process.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.exposition import choose_encoder, gzip_accepted

from extproc.simulator.engine import Emission, Engine, StepResult
from extproc.simulator.engine import Sequence as EngineSequence
from extproc.simulator.exposition import Distribution, Family, Value
from extproc.simulator.families import (
    CACHED_SOURCES,
    FAMILIES,
    PROMPT_SOURCES,
    SLEEP_STATES,
    buckets,
    cache_config_labels,
)

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
_ENGINE = "0"
_FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")


@dataclass(frozen=True, slots=True)
class SyntheticLoad:
    """Load that isn't there: added to what the gauges show, for tests and demos. It slows nothing down."""

    waiting: int = 0
    running: int = 0
    kv_usage: float = 0.0
    running_loras: tuple[str, ...] = ()
    waiting_loras: tuple[str, ...] = ()


class SimMetrics:
    """Counts what the engine does. `wall_clock` gives seconds since 1970, for what the page calls created."""

    def __init__(self, engine: Engine, model: str, *, loras: bool, wall_clock: Callable[[], float]) -> None:
        self._engine = engine
        self._wall_clock = wall_clock
        self._model = model
        self.load = SyntheticLoad()
        info = cache_config_labels(engine.config)
        created_s = wall_clock()
        self._families = {
            spec.name: Family(
                spec.kind,
                spec.name,
                spec.doc,
                spec.labels if spec.name != "vllm:cache_config_info" else tuple(info),
                edges=buckets(spec.buckets, engine.config.max_model_len),
                created_s=created_s,
            )
            for spec in FAMILIES
            if loras or spec.name != "vllm:lora_requests_info"
        }
        self._families["vllm:cache_config_info"].value(*info.values()).value = 1
        self._series()
        self._lora_info = self._families.get("vllm:lora_requests_info")
        self._process = CollectorRegistry()
        self.registry = CollectorRegistry(auto_describe=True)
        for registry in (self._process, self.registry):
            GCCollector(registry=registry)
            PlatformCollector(registry=registry)
            ProcessCollector(registry=registry)
        for family in self._families.values():
            self.registry.register(family)

    def _series(self) -> None:
        """Bind what is counted, and make the series that a server shows before its first request."""
        value, histogram = self._value, self._histogram
        for name in ("flops", "read_bytes", "write_bytes"):
            value(f"vllm:estimated_{name}_per_gpu")
        self._running, self._waiting = value("vllm:num_requests_running"), value("vllm:num_requests_waiting")
        self._capacity = value("vllm:num_requests_waiting_by_reason", "capacity")
        self._deferred = value("vllm:num_requests_waiting_by_reason", "deferred")
        for state in SLEEP_STATES:
            value("vllm:engine_sleep_state", state).value = float(state == "awake")
        self._kv_usage = value("vllm:kv_cache_usage_perc")
        self._queries, self._hits = value("vllm:prefix_cache_queries"), value("vllm:prefix_cache_hits")
        for name in (
            "external_prefix_cache_queries",
            "external_prefix_cache_hits",
            "mm_cache_queries",
            "mm_cache_hits",
        ):
            value(f"vllm:{name}")
        self._preemptions = value("vllm:num_preemptions")
        self._prompt, self._generated = value("vllm:prompt_tokens"), value("vllm:generation_tokens")
        self._by_source = {s: value("vllm:prompt_tokens_by_source", s) for s in PROMPT_SOURCES}
        self._cached = value("vllm:prompt_tokens_cached")
        self._cached_by = {s: value("vllm:prompt_tokens_cached_by_source", s) for s in CACHED_SOURCES}
        self._success = {reason: value("vllm:request_success", reason) for reason in _FINISH_REASONS}
        for reason in ("max_num_queued_reqs", "max_num_queued_tokens"):
            self._families["vllm:admission_rejections"].value(self._model, reason)
        names = [n for n, f in self._families.items() if f.kind == "histogram" and n.startswith("vllm:")]
        self._histograms = {name.removeprefix("vllm:"): histogram(name) for name in names}
        self._http_durations = self._families["http_request_duration_highr_seconds"].distribution()

    def _value(self, name: str, *labels: str) -> Value:
        return self._families[name].value(_ENGINE, self._model, *labels)

    def _histogram(self, name: str) -> Distribution:
        return self._families[name].distribution(_ENGINE, self._model)

    def record(self, result: StepResult) -> None:
        """Count a finished step."""
        step, observe = result.step, self._histograms
        self._queries.value += step.cache_queries
        self._hits.value += step.cache_hits
        self._cached_by["device"].value += step.cache_hits
        self._preemptions.value += step.preempted
        self._generated.value += len(result.emissions)
        computed = 0
        for emission in result.emissions:
            if emission.number == 1:
                computed += self._first_token(emission)
            else:
                observe["inter_token_latency_seconds"].observe(emission.since_s)
            if emission.finished:
                self._finished(emission.sequence)
        observe["iteration_tokens_total"].observe(computed + len(result.emissions))
        self._note_loras()

    def _first_token(self, emission: Emission) -> int:
        sequence = emission.sequence
        computed = sequence.prompt_tokens - sequence.cached_tokens
        self._histograms["time_to_first_token_seconds"].observe(emission.since_s)
        self._prompt.value += sequence.prompt_tokens
        self._by_source["local_compute"].value += computed
        self._by_source["local_cache_hit"].value += sequence.cached_tokens
        self._cached.value += sequence.cached_tokens
        return computed

    def _finished(self, sequence: EngineSequence) -> None:
        decode_s = sequence.last_token_s - sequence.first_token_s
        self._success[sequence.finish_reason].value += 1
        for name, value in (
            ("e2e_request_latency_seconds", sequence.last_token_s - sequence.arrived_s),
            ("request_queue_time_seconds", sequence.scheduled_s - sequence.arrived_s),
            ("request_prefill_time_seconds", sequence.first_token_s - sequence.scheduled_s),
            ("request_inference_time_seconds", sequence.last_token_s - sequence.scheduled_s),
            ("request_decode_time_seconds", decode_s),
            ("request_time_per_output_token_seconds", decode_s / max(1, sequence.emitted - 1)),
            ("request_prompt_tokens", sequence.prompt_tokens),
            ("request_generation_tokens", sequence.emitted),
            ("request_params_max_tokens", sequence.max_tokens),
            ("request_num_preemptions", sequence.preemptions),
            ("request_prefill_kv_computed_tokens", sequence.prompt_tokens - sequence.cached_tokens),
        ):
            self._histograms[name].observe(value)

    def group_finished(self, choices: Sequence[EngineSequence]) -> None:
        """Count a prompt all of whose choices are complete."""
        self._histograms["request_max_num_generation_tokens"].observe(max(s.emitted for s in choices))
        self._histograms["request_params_n"].observe(len(choices))

    def http(self, handler: str, method: str, status: int, duration_s: float, received: int, sent: int) -> None:
        """Count an answered HTTP request; sizes are what the content-length headers said, 0 without one."""
        self._families["http_requests"].value(handler, method, f"{status // 100}xx").value += 1
        self._families["http_request_size_bytes"].distribution(handler).observe(received)
        self._families["http_response_size_bytes"].distribution(handler).observe(sent)
        self._http_durations.observe(duration_s)
        self._families["http_request_duration_seconds"].distribution(handler, method).observe(duration_s)

    def set_load(self, load: SyntheticLoad) -> None:
        """Show `load` on top of what is true, from now on."""
        self.load = load
        self._note_loras()

    def _note_loras(self) -> None:
        """As in vLLM each mix of adapters is a series of its own, whose value is when it was last true."""
        if self._lora_info is None:
            return
        running = [s.lora for s in self._engine.running if s.lora is not None]
        waiting = [s.lora for s in self._engine.waiting if s.lora is not None]
        mix = (
            ",".join(dict.fromkeys(loras))
            for loras in ([*waiting, *self.load.waiting_loras], [*running, *self.load.running_loras])
        )
        self._lora_info.value(str(self._engine.config.max_loras), *mix).value = self._wall_clock()

    def _refresh(self) -> None:
        engine, load = self._engine, self.load
        self._running.value = len(engine.running) + load.running
        self._waiting.value = len(engine.waiting) + load.waiting
        self._deferred.value = min(engine.deferred, len(engine.waiting))
        self._capacity.value = self._waiting.value - self._deferred.value
        self._kv_usage.value = min(1.0, engine.kv.usage + load.kv_usage)

    def page(self) -> bytes:
        """All of it, as text of version 0.0.4 (which vLLM announces as 1.0.0)."""
        self._refresh()
        texts = [family.text() for family in self._families.values()]
        return bytes(generate_latest(self._process)) + "".join(texts).encode()

    def negotiated(self, names: Sequence[str], accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
        """Body and headers as prometheus_client's own web app answers: cut down to `names`, OpenMetrics, gzip."""
        self._refresh()
        encoder, content_type = choose_encoder(accept)
        body = encoder(self.registry.restricted_registry(names) if names else self.registry)
        headers = {"Content-Type": content_type}
        if gzip_accepted(accept_encoding):
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        return body, headers
