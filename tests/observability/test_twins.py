"""Upstream's two names of one metric have the same values, under the labels and buckets that each has there."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from extproc.domain import Load
from extproc.observability.instruments import Instruments
from extproc.observability.picker import AdmissionMetrics, PickerMetrics, RewriteMetrics
from extproc.observability.pools import PoolMetrics, PoolRow, ScrapeMetrics
from extproc.observability.responses import ResponseMetrics
from extproc.observability.twins import MetricNames
from extproc.response import Measurement
from tests.fakes.page import page_of, read_page

STANDARD = {"model_name", "target_model_name", "fairness_id", "priority"}
NEWER = {
    "request": ("counter", STANDARD),
    "request_error": ("counter", STANDARD | {"error_code"}),
    "request_duration_seconds": ("histogram", STANDARD),
    "request_size_bytes": ("histogram", STANDARD),
    "response_size_bytes": ("histogram", STANDARD),
    "request_input_tokens": ("histogram", STANDARD),
    "request_output_tokens": ("histogram", STANDARD),
    "request_cached_tokens": ("histogram", STANDARD),
    "request_running": ("gauge", STANDARD),
    "request_ttft_seconds": ("histogram", STANDARD | {"streaming"}),
    "request_streaming_tpot_seconds": ("histogram", STANDARD),
    "request_streaming_itl_seconds": ("histogram", STANDARD),
    "request_ntpot_seconds": ("histogram", STANDARD),
    "average_kv_cache_utilization": ("gauge", {"name"}),
    "average_queue_size": ("gauge", {"name"}),
    "average_running_requests": ("gauge", {"name"}),
    "std_dev_kv_cache_utilization": ("gauge", {"name"}),
    "std_dev_queue_size": ("gauge", {"name"}),
    "std_dev_running_requests": ("gauge", {"name"}),
    "ready_endpoints": ("gauge", {"name"}),
    "per_endpoint_queue_size": ("gauge", {"name", "model_server_endpoint"}),
    "scheduler_e2e_duration_seconds": ("histogram", set()),
    "scheduler_attempts": ("counter", {"status", "target_model_name", "endpoint_name", "namespace", "port"}),
    "info": ("gauge", {"commit", "build_ref"}),
    "model_rewrite_decisions": ("counter", {"model_rewrite_name", "model_name", "target_model"}),
    "flow_control_pool_saturation": ("gauge", {"inference_pool", "stage"}),
    "flow_control_queue_size": (
        "gauge",
        {"fairness_id", "priority", "inference_pool", "model_name", "target_model_name"},
    ),
    "flow_control_queue_bytes": (
        "gauge",
        {"fairness_id", "priority", "inference_pool", "model_name", "target_model_name"},
    ),
    "datalayer_poll_errors": ("counter", {"source_type"}),
    "datalayer_extract_errors": ("counter", {"source_type", "extractor_type"}),
}
"""llm-d router's pkg/epp/metrics, of what is measured here."""
MODEL = {"model_name", "target_model_name"}
OLDER = {
    "inference_objective_request": MODEL | {"priority"},
    "inference_objective_request_error": MODEL | {"error_code"},
    "inference_objective_request_duration_seconds": MODEL,
    "inference_objective_request_sizes": MODEL,
    "inference_objective_response_sizes": MODEL,
    "inference_objective_input_tokens": MODEL,
    "inference_objective_output_tokens": MODEL,
    "inference_objective_prompt_cached_tokens": MODEL,
    "inference_objective_running_requests": {"model_name"},
    "inference_objective_request_ttft_seconds": MODEL | {"streaming"},
    "inference_objective_request_tpot_seconds": MODEL,
    "inference_objective_normalized_time_per_output_token_seconds": MODEL,
    "inference_pool_average_kv_cache_utilization": {"name"},
    "inference_pool_average_queue_size": {"name"},
    "inference_pool_average_running_requests": {"name"},
    "inference_pool_ready_pods": {"name"},
    "inference_pool_per_pod_queue_size": {"name", "model_server_pod"},
    "inference_extension_scheduler_e2e_duration_seconds": set(),
    "inference_extension_scheduler_attempts": {"status", "target_model_name", "pod_name", "namespace", "port"},
    "inference_extension_info": {"commit", "build_ref"},
    "inference_extension_model_rewrite_decisions": {"model_rewrite_name", "model_name", "target_model"},
    "inference_extension_flow_control_pool_saturation": {"inference_pool"},
    "inference_extension_flow_control_queue_size": {
        *("fairness_id", "priority", "inference_pool", "model_name", "target_model_name")
    },
}


def row(name: str, waiting: float) -> PoolRow:
    load = Load(waiting=waiting, running=2.0, kv_usage=waiting / 10, kv_usage_mean=waiting / 10)
    return PoolRow(name, load=load, in_flight=1, age_s=0.1, fresh=True, down=False)


@pytest.fixture
def instruments() -> Instruments:
    """A picker after three requests, of two priorities."""
    made = Instruments()
    picker, responses = PickerMetrics(made, "p"), ResponseMetrics(made)
    for priority, target in ((0, None), (0, "served"), (-1, None)):
        bound = picker.model("m", target, priority)
        bound.started(100)
        picker.picked(target or "m", "10.0.0.1:80", "pod-0", "ns", 80)
        answer = Measurement(0.0, lambda: 1.6, lambda gap_s: None)
        answer.streaming = True
        answer.piece(b"x")
        responses.model("m", target, priority).itl.observe(0.01)
        responses.ended("m", answer, 3.0, target, priority)
        bound.ended(200, 150.0)
    picker.model("m", None, -1).started(100)
    picker.error("m", "pool_saturated", None, -1)
    RewriteMetrics(made).decided("ns/rewrite", "m", "served")
    AdmissionMetrics(made).watch("p", lambda: 0.25)
    scrapes = ScrapeMetrics(made, "p")
    for reason in ("timeout", "refused", "garbage"):
        scrapes.failed(reason)
    PoolMetrics.of(made).watch("p", lambda: [row("a", 1.0), row("b", 4.0)])
    return made


def labels_of(instruments: Instruments) -> dict[str, tuple[str, set[str]]]:
    """Type and labels by family, of the families of upstream that have samples."""
    found: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(page_of(instruments)):
        if not family.name.startswith(("llm_d_epp_", "inference_")) or not family.samples:
            continue
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[family.name] = family.type, labels
    return found


def test_every_newer_name_has_upstreams_type_and_labels(instruments: Instruments) -> None:
    found = {name.removeprefix("llm_d_epp_"): told for name, told in labels_of(instruments).items() if "llm_d" in name}
    assert found == {**NEWER}


def test_every_older_name_has_upstreams_labels(instruments: Instruments) -> None:
    assert {name: labels for name, (_, labels) in labels_of(instruments).items() if "llm_d" not in name} == OLDER


def test_both_names_have_the_same_values(instruments: Instruments) -> None:
    page = read_page(instruments)
    flow = 'fairness_id="default-flow",model_name="m"'
    assert page[f'llm_d_epp_request_total{{{flow},priority="-1",target_model_name="m"}}'] == 2
    assert page['inference_objective_request_total{model_name="m",priority="-1",target_model_name="m"}'] == 2
    assert page[f'llm_d_epp_request_size_bytes_sum{{{flow},priority="-1",target_model_name="m"}}'] == 200
    assert page[f'llm_d_epp_request_size_bytes_sum{{{flow},priority="0",target_model_name="m"}}'] == 100
    assert page['inference_objective_request_sizes_sum{model_name="m",target_model_name="m"}'] == 300, "of all priorities"
    assert page['inference_objective_request_sizes_bucket{le="128.0",model_name="m",target_model_name="m"}'] == 3
    assert page['inference_objective_running_requests{model_name="m"}'] == 1
    assert page[f'llm_d_epp_request_running{{{flow},priority="-1",target_model_name="m"}}'] == 1
    assert page['llm_d_epp_average_queue_size{name="p"}'] == page['inference_pool_average_queue_size{name="p"}'] == 2.5
    assert page['llm_d_epp_std_dev_queue_size{name="p"}'] == 2.12
    assert page['llm_d_epp_std_dev_kv_cache_utilization{name="p"}'] == 0.21
    assert page['llm_d_epp_datalayer_poll_errors_total{source_type="metrics-data-source"}'] == 2
    extractor = 'extractor_type="core-metrics-extractor",source_type="metrics-data-source"'
    assert page[f"llm_d_epp_datalayer_extract_errors_total{{{extractor}}}"] == 1
    assert page['llm_d_epp_flow_control_pool_saturation{inference_pool="p",stage="effective"}'] == 0.25


def test_a_queue_that_is_not_there_is_empty(instruments: Instruments) -> None:
    """Autoscalers add it to what runs; without the series they have no answer."""
    queues = read_page(instruments, "llm_d_epp_flow_control_queue_size")
    labels = 'fairness_id="default-flow",inference_pool="p",model_name="m",priority="0",target_model_name="served"'
    assert queues[f"llm_d_epp_flow_control_queue_size{{{labels}}}"] == 0
    assert set(queues.values()) == {0}


@pytest.mark.parametrize(
    ("name", "last", "missing"),
    [("request_ttft_seconds", "120.0", ()), ("request_streaming_tpot_seconds", "2.0", ("1.5",))],
)
def test_newer_histograms_have_upstreams_buckets(
    instruments: Instruments, name: str, last: str, missing: tuple[str, ...]
) -> None:
    bounds = re.findall(rf'llm_d_epp_{name}_bucket{{[^}}]*le="([^"]+)"[^}}]*priority="-1"', page_of(instruments))
    assert bounds[-2:] == [last, "+Inf"]
    assert not set(missing) & set(bounds)
    duration = re.findall(
        r'llm_d_epp_request_duration_seconds_bucket{[^}]*le="([^"]+)"[^}]*priority="-1"', page_of(instruments)
    )
    assert duration[-2:] == ["3600.0", "+Inf"]


@pytest.mark.parametrize(("names", "gone"), [("inference", "llm_d_epp_"), ("llm-d", "inference_")])
def test_one_set_of_names_may_be_left_out(instruments: Instruments, names: MetricNames, gone: str) -> None:
    both = page_of(instruments).count("\n")
    instruments.names = names
    page = page_of(instruments)
    assert gone not in page.replace("inference_pool=", "")
    assert page.count("\n") < 0.6 * both
