"""Upstream's two names of one metric: GIE's (`inference_*`) and llm-d router's (`llm_d_epp_*`), served side by side as there.

What is counted is counted once. The two differ when a page is made: in names, in labels, and in a few buckets. GIE's know no
priority but for `inference_objective_request_total`, so theirs are sums over it. llm-d's standard labels are the model, the one
that served, the fairness id and the priority; requests are not told apart by fairness id here, so it is upstream's default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

MetricNames = Literal["both", "inference", "llm-d"]

NEWER: Final = "llm_d_epp_"
NO_FLOW: Final = "default-flow"
"""Upstream's fairness id of requests that name none."""

_FLOW: Final = {"fairness_id": NO_FLOW}
_PRIORITY: Final = frozenset({"priority"})


class Twin(NamedTuple):
    """How the newer metric differs from the older one, which it stands beside."""

    name: str
    """Without `llm_d_epp_`."""
    older_lacks: frozenset[str] = frozenset()
    """Labels that are summed over for the older one."""
    renamed: Mapping[str, str] = {}
    """Labels by their older names."""
    added: Mapping[str, str] = {}
    bounds: Callable[[float], bool] | None = None
    """Which of the older one's buckets the newer one has."""


def _to(most: float, *without: float) -> Callable[[float], bool]:
    return lambda bound: bound <= most and bound not in without


def _standard(name: str, bounds: Callable[[float], bool] | None = None) -> Twin:
    return Twin(name, _PRIORITY, added=_FLOW, bounds=bounds)


TWINS: Final[Mapping[str, Twin]] = {
    "inference_objective_request": Twin("request", added=_FLOW),
    "inference_objective_request_error": _standard("request_error"),
    "inference_objective_request_duration_seconds": _standard("request_duration_seconds"),
    "inference_objective_request_sizes": _standard("request_size_bytes"),
    "inference_objective_running_requests": Twin("request_running", frozenset({"target_model_name", "priority"}), added=_FLOW),
    "inference_objective_response_sizes": _standard("response_size_bytes"),
    "inference_objective_input_tokens": _standard("request_input_tokens"),
    "inference_objective_output_tokens": _standard("request_output_tokens"),
    "inference_objective_prompt_cached_tokens": _standard("request_cached_tokens"),
    "inference_objective_request_ttft_seconds": _standard("request_ttft_seconds", _to(120)),
    "inference_objective_request_tpot_seconds": _standard("request_streaming_tpot_seconds", _to(2, 1.5)),
    "inference_objective_normalized_time_per_output_token_seconds": _standard("request_ntpot_seconds"),
    "inference_pool_average_kv_cache_utilization": Twin("average_kv_cache_utilization"),
    "inference_pool_average_queue_size": Twin("average_queue_size"),
    "inference_pool_average_running_requests": Twin("average_running_requests"),
    "inference_pool_ready_pods": Twin("ready_endpoints"),
    "inference_pool_per_pod_queue_size": Twin("per_endpoint_queue_size", renamed={"model_server_pod": "model_server_endpoint"}),
    "inference_extension_scheduler_e2e_duration_seconds": Twin("scheduler_e2e_duration_seconds"),
    "inference_extension_scheduler_attempts": Twin("scheduler_attempts", renamed={"pod_name": "endpoint_name"}),
    "inference_extension_info": Twin("info"),
    "inference_extension_prefix_indexer_size": Twin("prefix_indexer_size"),
    "inference_extension_model_rewrite_decisions": Twin("model_rewrite_decisions"),
    "inference_extension_flow_control_pool_saturation": Twin("flow_control_pool_saturation", added={"stage": "effective"}),
    "inference_extension_flow_control_queue_size": Twin("flow_control_queue_size"),
    "inference_extension_flow_control_request_queue_duration_seconds": Twin("flow_control_request_queue_duration_seconds"),
    "inference_extension_flow_control_request_enqueue_duration_seconds": Twin("flow_control_request_enqueue_duration_seconds"),
    "inference_extension_flow_control_dispatch_cycle_duration_seconds": Twin("flow_control_dispatch_cycle_duration_seconds"),
}
"""By the older name, a counter's without `_total`, as prometheus-client has it."""

_NEWER_ONLY: Final = {"llm_d_epp_request_streaming_itl_seconds": Twin("request_streaming_itl_seconds", added=_FLOW)}


def older_lacks(name: str) -> frozenset[str]:
    """The labels that a family has under its newer name only: under the older one a page has the sums over them."""
    twin = TWINS.get(name.removesuffix("_total"))
    return frozenset() if twin is None else twin.older_lacks


def shown(metric: Metric, which: MetricNames) -> list[Metric]:
    """What a page has of a family: itself under its own name when it has only one, or under those names that are wanted. What
    `older_lacks` names has to be summed over before."""
    twin = TWINS.get(metric.name)
    if twin is None:
        if not metric.name.startswith(NEWER):
            return [metric]
        alone = _NEWER_ONLY.get(metric.name)
        return [] if which == "inference" else [metric if alone is None else _newer(metric, alone)]
    out = []
    if which != "llm-d":
        out.append(metric)
    if which != "inference":
        out.append(_newer(metric, twin))
    return out


def _newer(metric: Metric, twin: Twin) -> Metric:
    name = NEWER + twin.name
    made = Metric(name, metric.documentation, metric.type)
    cut = len(metric.name)
    for sample in metric.samples:
        labels = sample.labels
        if twin.bounds is not None and "le" in labels and not _has(labels["le"], twin.bounds):
            continue
        if twin.renamed:
            labels = {twin.renamed.get(label, label): value for label, value in labels.items()}
        made.samples.append(Sample(name + sample.name[cut:], {**labels, **twin.added}, sample.value))
    return made


def _has(le: str, bounds: Callable[[float], bool]) -> bool:
    return le == "+Inf" or bounds(float(le))
