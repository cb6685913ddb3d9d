"""The metric families that a server of vLLM 0.32 shows, in its order: kind, name, help, label names and buckets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from extproc.simulator.engine import EngineConfig
from extproc.simulator.exposition import Kind

PROMPT_SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
CACHED_SOURCES = ("device", "host", "p2p", "disk", "external_unspecified")
SLEEP_STATES = ("awake", "weights_offloaded", "discard_all")

_E = ("engine", "model_name")
_LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_FIRST = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80, 160, 640, 2560),
)
_BETWEEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_STEP = tuple(2**n for n in (0, *range(3, 15)))
_CHOICES = (1, 2, 5, 10, 20)
_PREEMPTED = (1, 2, 3, 4, 5, 10, 20)
_HTTP = (0.1, 0.5, 1)
_HTTP_FINE = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5),
    *(7.5, 10, 30, 60),
)
TOKENS: tuple[float, ...] = ()
"""Stands for the series 1, 2, 5, 10, ... up to the model's context."""


class FamilySpec(NamedTuple):
    """A row of the table below. `buckets` is None unless it is a histogram."""

    kind: Kind
    name: str
    doc: str
    labels: tuple[str, ...] = _E
    buckets: Sequence[float] | None = None


def _flops(what: str) -> str:
    return f"Estimated number of {what} (for Model Flops Utilization calculations)."


def _external(what: str, which: str) -> str:
    how = "from KV connector cross-instance cache sharing"
    return f"External prefix cache {what} {how}, in terms of number of {which} tokens."


def _http(what: str, handling: str) -> str:
    return f"{what} {handling} "


_SIZES = "by handler. Only value of header is respected. Otherwise ignored. No percentile calculated."

FAMILIES: tuple[FamilySpec, ...] = (
    FamilySpec("counter", "vllm:estimated_flops_per_gpu", _flops("floating point operations per GPU")),
    FamilySpec("counter", "vllm:estimated_read_bytes_per_gpu", _flops("bytes read from memory per GPU")),
    FamilySpec("counter", "vllm:estimated_write_bytes_per_gpu", _flops("bytes written to memory per GPU")),
    FamilySpec("gauge", "vllm:num_requests_running", "Number of requests in model execution batches."),
    FamilySpec("gauge", "vllm:num_requests_waiting", "Number of requests waiting to be processed."),
    FamilySpec(
        "gauge",
        "vllm:num_requests_waiting_by_reason",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; "
        "'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of all reasons "
        "equals vllm:num_requests_waiting.",
        (*_E, "reason"),
    ),
    FamilySpec(
        "gauge",
        "vllm:engine_sleep_state",
        "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
        "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
        (*_E, "sleep_state"),
    ),
    FamilySpec("gauge", "vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage."),
    FamilySpec("counter", "vllm:prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens."),
    FamilySpec("counter", "vllm:prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens."),
    FamilySpec(
        "counter",
        "vllm:external_prefix_cache_queries",
        _external("queries", "queried"),
    ),
    FamilySpec(
        "counter",
        "vllm:external_prefix_cache_hits",
        _external("hits", "cached"),
    ),
    FamilySpec("counter", "vllm:mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items."),
    FamilySpec("counter", "vllm:mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items."),
    FamilySpec("counter", "vllm:num_preemptions", "Cumulative number of preemption from the engine."),
    FamilySpec("counter", "vllm:prompt_tokens", "Number of prefill tokens processed."),
    FamilySpec("counter", "vllm:prompt_tokens_by_source", "Number of prompt tokens by source.", (*_E, "source")),
    FamilySpec("counter", "vllm:prompt_tokens_cached", "Number of cached prompt tokens (local + external)."),
    FamilySpec(
        "counter",
        "vllm:prompt_tokens_cached_by_source",
        "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to DRAM), "
        "disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at admission; sums to "
        "vllm:prefix_cache_hits + vllm:external_prefix_cache_hits.",
        (*_E, "source"),
    ),
    FamilySpec("counter", "vllm:generation_tokens", "Number of generation tokens processed."),
    FamilySpec("counter", "vllm:request_success", "Count of successfully processed requests.", (*_E, "finished_reason")),
    FamilySpec(
        "counter",
        "vllm:admission_rejections",
        "Number of admission attempts rejected by a queue limit, by reason.",
        ("model_name", "reason"),
    ),
    FamilySpec("histogram", "vllm:request_prompt_tokens", "Number of prefill tokens processed.", _E, TOKENS),
    FamilySpec("histogram", "vllm:request_generation_tokens", "Number of generation tokens processed.", _E, TOKENS),
    FamilySpec("histogram", "vllm:iteration_tokens_total", "Histogram of number of tokens per engine_step.", _E, _STEP),
    FamilySpec(
        "histogram",
        "vllm:request_max_num_generation_tokens",
        "Histogram of maximum number of requested generation tokens.",
        _E,
        TOKENS,
    ),
    FamilySpec("histogram", "vllm:request_params_n", "Histogram of the n request parameter.", _E, _CHOICES),
    FamilySpec("histogram", "vllm:request_params_max_tokens", "Histogram of the max_tokens request parameter.", _E, TOKENS),
    FamilySpec("histogram", "vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", _E, _FIRST),
    FamilySpec("histogram", "vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", _E, _BETWEEN),
    FamilySpec(
        "histogram",
        "vllm:request_time_per_output_token_seconds",
        "Histogram of time_per_output_token_seconds per request.",
        _E,
        _BETWEEN,
    ),
    FamilySpec("histogram", "vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", _E, _LATENCY),
    *(
        FamilySpec(
            "histogram",
            f"vllm:request_{phase.lower()}_time_seconds",
            f"Histogram of time spent in {state} phase for request.",
            _E,
            _LATENCY,
        )
        for phase, state in (
            ("queue", "WAITING"),
            ("inference", "RUNNING"),
            ("prefill", "PREFILL"),
            ("decode", "DECODE"),
        )
    ),
    FamilySpec(
        "histogram",
        "vllm:request_num_preemptions",
        "Histogram of the number of times a request was preempted.",
        _E,
        _PREEMPTED,
    ),
    FamilySpec(
        "histogram",
        "vllm:request_prefill_kv_computed_tokens",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
        _E,
        TOKENS,
    ),
    FamilySpec(
        "gauge",
        "vllm:lora_requests_info",
        "Running stats on lora requests.",
        ("max_lora", "waiting_lora_adapters", "running_lora_adapters"),
    ),
    FamilySpec("gauge", "vllm:cache_config_info", "Information of the LLMEngine CacheConfig", ()),
    FamilySpec(
        "counter",
        "http_requests",
        "Total number of requests by method, status and handler.",
        ("handler", "method", "status"),
    ),
    FamilySpec("summary", "http_request_size_bytes", _http("Content length of incoming requests", _SIZES), ("handler",)),
    FamilySpec("summary", "http_response_size_bytes", _http("Content length of outgoing responses", _SIZES), ("handler",)),
    FamilySpec(
        "histogram",
        "http_request_duration_highr_seconds",
        _http("Latency with many buckets but no API specific labels.", "Made for more accurate percentile calculations."),
        (),
        _HTTP_FINE,
    ),
    FamilySpec(
        "histogram",
        "http_request_duration_seconds",
        _http(
            "Latency with only few buckets by handler.",
            "Made to be only used if aggregation by handler is important.",
        ),
        ("handler", "method"),
        _HTTP,
    ),
)


def buckets(spec: Sequence[float] | None, max_model_len: int) -> tuple[float, ...]:
    """A histogram's upper bounds with infinity; empty for what isn't a histogram."""
    if spec is None:
        return ()
    if not spec:
        spec = [m * 10**e for e in range(len(str(max_model_len))) for m in (1, 2, 5) if m * 10**e <= max_model_len]
    return (*map(float, spec), math.inf)


def cache_config_labels(config: EngineConfig) -> dict[str, str]:
    """Labels of `vllm:cache_config_info`. What the model doesn't know has the value that vLLM shows by default."""
    tokens = config.num_blocks * config.block_size
    none = (
        "cache_hit_alignment_tokens hash_block_size kv_cache_layout kv_cache_memory_bytes kv_offloading_size "
        "mamba_block_size mamba_page_size_padded num_cpu_blocks prefix_match_unit skip_page_size_padded sliding_window"
    )
    false = "enable_mamba_shared_prefix_checkpoint is_attention_free kv_sharing_fast_prefill use_kda_recoverssm use_replayssm"
    return {
        **dict.fromkeys(none.split(), "None"),
        **dict.fromkeys(false.split(), "False"),
        "_block_size_resolved": "True",
        "block_size": str(config.block_size),
        "cache_dtype": "auto",
        "effective_attention_block_size": str(config.block_size),
        "enable_prefix_caching": str(config.prefix_caching),
        "gpu_memory_utilization": "0.92",
        "engine": "0",
        "kv_cache_dtype_skip_layers": "[]",
        "kv_cache_max_concurrency": str(tokens / config.max_model_len),
        "kv_cache_size_tokens": str(tokens),
        "kv_offloading_backend": "native",
        "mamba_cache_dtype": "auto",
        "mamba_cache_mode": "none",
        "mamba_ssm_cache_dtype": "float32",
        "num_gpu_blocks": str(config.num_blocks),
        "num_gpu_blocks_override": str(config.num_blocks),
        "prefix_cache_retention_interval": "0",
        "prefix_caching_hash_algo": "sha256",
        "replayssm_buffer_len": "16",
        "swa_bounded_replay": "True",
        "user_specified_block_size": "True",
    }
