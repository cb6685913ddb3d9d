"""How the engines behind the endpoints are asked for their load, and in which words they answer.

The keys are those of llm-d router's plugins `metrics-data-source` and `core-metrics-extractor`, so their `parameters`
are read as they stand. The words of the engines known by name are in `extproc.scraping.engines`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, model_validator
from pydantic.alias_generators import to_camel

from extproc.settings.base import Duration, Section

ENGINE_LABEL: Final = "llm-d.ai/engine-type"
LEGACY_ENGINE_LABEL: Final = "inference.networking.k8s.io/engine-type"
"""Asked for when an endpoint lacks `ENGINE_LABEL` and no other label is configured."""

_SPEC: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{(.*)\})?", re.DOTALL)
_PAIR: Final = re.compile(r"""\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^"\s,{}][^",{}]*?))\s*(?:,|$)""")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


class MetricSpec(NamedTuple):
    """Which samples of a page are meant: those of one family that have all these labels, and maybe more."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        pairs = ",".join(f"{name}={value}" for name, value in self.labels)
        return f"{self.name}{{{pairs}}}" if pairs else self.name


def parse_metric_spec(text: object) -> MetricSpec | None:
    """Read `name` or `name{label=value,…}`, values bare or in double quotes. Empty is None: there is no such metric.

    Raises ValueError saying what was expected.
    """
    if text is None or text == "":
        return None
    if isinstance(text, MetricSpec):
        return text
    match = _SPEC.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError("expected a metric such as name or name{label=value,other=value}")
    labels: dict[str, str] = {}
    block, at = match[2] or "", 0
    while block[at:].strip():
        pair = _PAIR.match(block, at)
        if pair is None:
            raise ValueError(f"expected label=value at {block[at:].strip()!r}")
        if pair[1] in labels:
            raise ValueError(f"label {pair[1]} is named twice")
        labels[pair[1]] = _ESCAPED.sub(r"\1", pair[2]) if pair[2] is not None else pair[3]
        at = pair.end()
    return MetricSpec(match[1], tuple(labels.items()))


Spec = Annotated[MetricSpec | None, PlainValidator(parse_metric_spec)]


class _Parameters(Section):
    """Keys as upstream spells them, and no others."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=False)


def _or_default(default: str) -> BeforeValidator:
    return BeforeValidator(lambda value: default if value == "" else value)


def _given(value: MetricSpec | None) -> MetricSpec:
    if value is None:
        raise ValueError("expected a metric such as name or name{label=value,other=value}")
    return value


class CustomMetric(_Parameters):
    """A metric that becomes an attribute of the endpoint. Of several series the first counts: name labels to choose."""

    attribute_key: str = Field(min_length=1)
    """The attribute's name, as plugins call it."""
    metric_spec: Annotated[MetricSpec, PlainValidator(lambda value: _given(parse_metric_spec(value)))]
    """The metric."""
    optional: bool = False
    """A page without it lacks nothing."""


class EngineConfig(_Parameters):
    """One engine's words: where on its page each signal is. An empty spec: the engine does not say."""

    name: str = Field(min_length=1)
    """The engine as endpoints' labels call it. A name of a built-in engine replaces all of that engine's specs."""
    queued_requests_spec: Spec = None
    """Requests waiting in the engine."""
    running_requests_spec: Spec = None
    """Requests in the running batch."""
    kv_usage_spec: Spec = None
    """Used share of the KV cache, 0..1."""
    lora_spec: Spec = None
    """Info metric about LoRA adapters: labels running_lora_adapters, waiting_lora_adapters, max_lora; value a time."""
    cache_info_spec: Spec = None
    """Info metric whose labels tell the KV cache's size."""
    cache_block_size_label_name: Annotated[str, _or_default("block_size")] = "block_size"
    """Label of cacheInfoSpec: tokens in a block."""
    cache_num_blocks_label_name: Annotated[str, _or_default("num_gpu_blocks")] = "num_gpu_blocks"
    """Label of cacheInfoSpec: blocks in all."""
    cache_block_size_spec: Spec = None
    """Metric whose value is the tokens in a block; goes before cacheInfoSpec."""
    cache_num_blocks_spec: Spec = None
    """Metric whose value is the number of blocks; goes before cacheInfoSpec."""
    custom_metrics: tuple[CustomMetric, ...] = ()
    """Further metrics, each with `attributeKey` and `metricSpec`; read when a plugin reads the attribute."""

    @model_validator(mode="after")
    def _usable(self) -> EngineConfig:
        if self.name == "default":
            raise ValueError("the name 'default' is reserved; set defaultEngine instead")
        keys = [custom.attribute_key for custom in self.custom_metrics]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"customMetrics name {', '.join(twice)} more than once")
        if not self.custom_metrics and not any(isinstance(value, MetricSpec) for _, value in self):
            raise ValueError(f"engine {self.name!r} has no spec, so nothing could be read from its page")
        return self


class CoreMetricsSettings(_Parameters):
    """Parameters of `core-metrics-extractor`: which engine an endpoint runs, and the words of engines."""

    engine_label_key: Annotated[str, _or_default(ENGINE_LABEL)] = ENGINE_LABEL
    """The endpoint's label that names its engine."""
    default_engine: Annotated[str, _or_default("vllm")] = "vllm"
    """The engine of endpoints whose label is absent or names no known engine."""
    engine_configs: tuple[EngineConfig, ...] = ()
    """Engines beside, or instead of, the built-in ones."""

    @model_validator(mode="after")
    def _names_once(self) -> CoreMetricsSettings:
        names = [config.name for config in self.engine_configs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"engineConfigs names {', '.join(twice)} more than once")
        return self

    def engine_label(self, labels: Mapping[str, str]) -> str:
        """What an endpoint with these labels says of its engine; '' when nothing."""
        engine = labels.get(self.engine_label_key, "")
        if not engine and self.engine_label_key == ENGINE_LABEL:
            engine = labels.get(LEGACY_ENGINE_LABEL, "")
        return engine


class PageSettings(_Parameters):
    """Where a page of each endpoint is."""

    scheme: Literal["http", "https"] = "http"
    """Protocol of the page."""
    path: str = Field(default="/metrics", pattern=r"^/[!-~]*$")
    """Path of the page, with its query if it has one."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port of the page; the endpoint's own when unset."""
    insecure_skip_verify: bool | None = None
    """Accept any certificate. When unset: true, as upstream has it, unless caCertPath is given."""
    ca_cert_path: str | None = None
    """PEM file of the authorities that sign the endpoints' certificates; the system's when unset."""
    client_cert_path: str | None = None
    """PEM file of the certificate we show; needs clientKeyPath."""
    client_key_path: str | None = None
    """PEM file of its key."""
    interval: Duration | None = Field(default=None, gt=0)
    """From one request to the next, of each endpoint; the base interval (50ms) when unset."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if bool(self.client_cert_path) != bool(self.client_key_path):
            raise ValueError("clientCertPath and clientKeyPath need each other")
        return self

    @property
    def verify(self) -> bool:
        """Whether certificates are checked."""
        if self.insecure_skip_verify is None:
            return bool(self.ca_cert_path)
        return not self.insecure_skip_verify


class MetricsSourceSettings(PageSettings):
    """Parameters of `metrics-data-source`: where each endpoint's page is."""


GPU_UTILIZATION: Final = "GPUUtilization"
GPU_INTERVAL_S: Final = 1.0


class GpuSourceSettings(PageSettings):
    """Parameters of `dcgm-data-source`: where the page of the DCGM exporter is that sees an endpoint's GPUs."""

    port: Annotated[int, Field(ge=1, le=65535)] = 9400
    """Port of the exporter."""
    use_node_address: bool = False
    """The exporter is at the address of the endpoint's node (a DaemonSet), and not at the endpoint's own (a sidecar)."""
    interval: Duration = Field(default=GPU_INTERVAL_S, gt=0)
    """From one request to the next, of each endpoint. The exporter itself measures every 30 s unless it is told otherwise."""


class GpuSettings(_Parameters):
    """Parameters of `dcgm-extractor`: there are none."""


QUEUE_OF_CLUSTER: Final = "llm-d.ai/multicluster-queue-size"
KV_USAGE_OF_CLUSTER: Final = "llm-d.ai/multicluster-kv-cache-utilization"


class ClusterSourceSettings(MetricsSourceSettings):
    """Parameters of `multicluster-metrics-data-source`: as metrics-data-source, over TLS with certificates that are checked."""

    scheme: Literal["http", "https"] = "https"
    """Protocol of the page."""

    @property
    def verify(self) -> bool:
        """Whether certificates are checked."""
        return not self.insecure_skip_verify


class ClusterMetricsSettings(_Parameters):
    """Parameters of `multicluster-metrics-extractor`: what a picker's page says of its pool."""

    kv_cache_utilization_metric: Annotated[str, _or_default("llm_d_epp_average_kv_cache_utilization")] = (
        "llm_d_epp_average_kv_cache_utilization"
    )
    """Mean used share of the KV caches."""
    queue_size_metric: Annotated[str, _or_default("llm_d_epp_average_queue_size")] = "llm_d_epp_average_queue_size"
    """Mean waiting requests."""

    @model_validator(mode="after")
    def _readable(self) -> ClusterMetricsSettings:
        for spec in (self.kv_cache_utilization_metric, self.queue_size_metric):
            parse_metric_spec(spec)
        return self

    def engines(self) -> CoreMetricsSettings:
        """The same as an engine's words."""
        kv_usage, queue = self.kv_cache_utilization_metric, self.queue_size_metric
        custom = [
            {"attributeKey": KV_USAGE_OF_CLUSTER, "metricSpec": kv_usage},
            {"attributeKey": QUEUE_OF_CLUSTER, "metricSpec": queue},
        ]
        engine = {"name": "cluster", "kvUsageSpec": kv_usage, "queuedRequestsSpec": queue, "customMetrics": custom}
        return CoreMetricsSettings.model_validate({"defaultEngine": "cluster", "engineConfigs": [engine]})
