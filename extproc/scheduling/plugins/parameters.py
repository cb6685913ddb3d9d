"""What plugins are told by a config file. Apart from the plugins, which are compiled, as pydantic's models can't be."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from extproc.settings.base import Duration, Section


class Parameters(Section):
    """Base of a plugin's parameters: the YAML's keys are camelCase, unknown keys are errors."""


class NoParameters(Parameters):
    """For plugins that have none."""


class EndpointEventsParameters(Parameters):
    """Parameters of `endpoint-notification-source`: none."""


class KubernetesEventsParameters(Parameters):
    """Parameters of `k8s-notification-source`: the objects that are watched."""

    group: str = ""
    """Their API group."""
    version: str = ""
    """Its version."""
    kind: str = ""
    """Their kind."""


class ModelsSourceParameters(Parameters):
    """Parameters of `models-data-source`, as metrics-data-source has them."""

    scheme: Literal["http", "https"] = "http"
    """Protocol of the page."""
    path: str = "/v1/models"
    """Its path."""
    port: int | None = Field(None, ge=1, le=65535)
    """Its port."""
    insecure_skip_verify: bool = Field(True, alias="insecureSkipVerify")
    """Accept any certificate."""
    interval: Duration | None = Field(None, gt=0)
    """From one request to the next."""


def no_effect(parameters: Parameters) -> str:
    """What to tell of parameters that change nothing; '' when none is given."""
    fields = type(parameters).model_fields
    given = ", ".join(fields[name].alias or name for name in sorted(parameters.model_fields_set))
    return f"{given} has no effect, upstream's plugin reads no parameters" if given else ""


class QueueParameters(Parameters):
    """Parameters of `queue-scorer`, which reads none."""

    max_queue_size: int | None = Field(None, alias="maxQueueSize")
    """Accepted from older configs: upstream read parameters without looking at them."""


class KvCacheParameters(Parameters):
    """Parameters of `kv-cache-utilization-scorer`, which reads none."""

    max_kv_cache_usage: float | None = Field(None, alias="maxKVCacheUsage")
    """As maxQueueSize of queue-scorer."""


class ActiveRequestParameters(Parameters):
    """Parameters of `active-request-scorer`."""

    idle_threshold: int = Field(0, alias="idleThreshold", ge=0)
    """This many requests in flight or fewer count as idle."""
    max_busy_score: float = Field(1.0, alias="maxBusyScore", ge=0, le=1)
    """The points of a busy endpoint are at most this."""
    in_flight_load_producer_name: str | None = Field(None, alias="inFlightLoadProducerName")
    """Accepted for upstream's sake: we count requests in flight ourselves, at the pick."""
    request_timeout: str | None = Field(None, alias="requestTimeout")
    """Accepted for upstream's sake, and ignored as upstream does: a request ends when its stream does."""


class PickerParameters(Parameters):
    """Parameters of every picker."""

    max_num_of_endpoints: int = Field(1, alias="maxNumOfEndpoints")
    """How many endpoints to name: the pick and its fallbacks. Below 1 is 1, as upstream reads it."""

    @field_validator("max_num_of_endpoints")
    @classmethod
    def _at_least_one(cls, value: int) -> int:
        return max(1, value)


class MaxScoreParameters(PickerParameters):
    """Parameters of `max-score-picker`."""

    tolerance: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Ours. In points: who has this much less than the best, or is closer, is as good as it, and they take turns."""


class UtilizationParameters(Parameters):
    """Parameters of `utilization-detector`."""

    queue_depth_threshold: int = Field(5, alias="queueDepthThreshold", ge=1)
    """Waiting requests at which an endpoint is full."""
    kv_cache_util_threshold: float = Field(0.8, alias="kvCacheUtilThreshold", gt=0, le=1)
    """Used share of the KV cache at which an endpoint is full."""
    metrics_staleness_threshold: Duration | None = Field(None, alias="metricsStalenessThreshold", gt=0)
    """Age at which a page counts as not there. Unset: 200ms, or four intervals when pages are read less often."""
    headroom: float = Field(0.0, ge=0, allow_inf_nan=False)
    """As a filter: by what share more than the thresholds an endpoint may have."""


class ConcurrencyParameters(Parameters):
    """Parameters of `concurrency-detector`."""

    max_concurrency: int = Field(100, alias="maxConcurrency", ge=1)
    """Requests in flight at which an endpoint is full."""
    concurrency_mode: Literal["requests", "tokens", "hybrid"] = Field("requests", alias="concurrencyMode")
    """What is counted."""
    max_token_concurrency: int = Field(1_000_000, alias="maxTokenConcurrency", ge=1)
    """Tokens in flight at which an endpoint is full."""
    in_flight_load_producer_name: str | None = Field(None, alias="inFlightLoadProducerName")
    """Who counts the tokens."""
    headroom: float = Field(0.0, ge=0, allow_inf_nan=False)
    """As for utilization-detector."""
