"""Names and labels that dashboards know."""

from __future__ import annotations

import math

import pytest

from extproc import __version__
from extproc.domain import Load
from extproc.observability.instruments import Instruments
from extproc.observability.metrics import RouterMetrics, StreamMetrics
from extproc.observability.picker import PickerMetrics
from extproc.observability.pools import PoolMetrics, PoolRow, ScrapeMetrics
from tests.fakes.page import counted, read_page


@pytest.fixture
def instruments() -> Instruments:
    return Instruments()


def row(name: str, **changes: object) -> PoolRow:
    """A row; signals of the page by their name, one share for both of the KV cache's."""
    load = {signal: changes.pop(signal, value) for signal, value in (("waiting", 2.0), ("running", 3.0), ("kv_usage", 0.5))}
    values: dict[str, object] = {"in_flight": 4, "age_s": 0.1, "fresh": True, "down": False}
    known = Load(**load, kv_usage_mean=load["kv_usage"])  # type: ignore[arg-type]
    return PoolRow(name, load=known, **{**values, **changes})  # type: ignore[arg-type]


def test_before_the_first_request_counters_are_0(instruments: Instruments) -> None:
    StreamMetrics(instruments)
    RouterMetrics(instruments)
    PickerMetrics(instruments)
    shown = read_page(instruments)
    assert (
        shown.items()
        >= {
            "extproc_streams_inflight": 0,
            'extproc_streams_total{code="OK"}': 0,
            "bbr_success_total": 0,
            'bbr_body_field_not_found_total{field="model"}': 0,
            'bbr_body_field_empty_total{field="model"}': 0,
            "bbr_model_not_in_body_total": 0,
            "bbr_model_not_parsed_total": 0,
            f'bbr_info{{build_ref="{__version__}",commit=""}}': 1,
            f'inference_extension_info{{build_ref="{__version__}",commit=""}}': 1,
        }.items()
    )


def test_router(instruments: Instruments) -> None:
    metrics = RouterMetrics(instruments)
    metrics.success.value += 1
    metrics.model("m").value += 2
    metrics.duration.observe(0.001)
    labels = 'extension_point="request",plugin_name="body-field-to-header",plugin_type="body-field-to-header"'
    assert counted(instruments, "bbr") == {
        "bbr_success_total": 1,
        'bbr_model_requests_total{model="m"}': 2,
        f"bbr_plugin_duration_seconds_count{{{labels}}}": 1,
    }


def test_picker(instruments: Instruments) -> None:
    metrics = PickerMetrics(instruments)
    bound = metrics.model("m")
    assert metrics.model("m") is bound
    bound.started(100)
    bound.ended(200, 0.1)
    bound.started(100)
    metrics.error("m", "no_endpoints")
    metrics.attempt_failed("m")
    for _ in range(2):
        metrics.picked("m", "10.0.0.1:8000", "pod-1", "prod", 8000)
    metrics.schedule.observe(0.0001)
    both = 'model_name="m",target_model_name="m"'
    assert counted(instruments, "inference") == {
        'inference_objective_request_total{model_name="m",priority="0",target_model_name="m"}': 2,
        f'inference_objective_request_error_total{{error_code="no_endpoints",{both}}}': 1,
        f"inference_objective_request_duration_seconds_count{{{both}}}": 1,
        f"inference_objective_request_sizes_count{{{both}}}": 2,
        'inference_objective_running_requests{model_name="m"}': 1,
        "inference_extension_scheduler_e2e_duration_seconds_count": 1,
        'inference_extension_scheduler_attempts_total{namespace="",pod_name="",port="",'
        'status="failure",target_model_name="m"}': 1,
        'inference_extension_scheduler_attempts_total{namespace="prod",pod_name="pod-1",port="8000",'
        'status="success",target_model_name="m"}': 2,
    }


class TestPools:
    def test_means_are_over_fresh_endpoints(self, instruments: Instruments) -> None:
        rows = [
            row("a", waiting=1.0, running=2.0, kv_usage=0.2),
            row("b", waiting=3.0, running=None, kv_usage=0.4),
            row("stale", waiting=99.0, running=99.0, kv_usage=0.9, fresh=False),
        ]
        PoolMetrics.of(instruments).watch("p", lambda: rows)
        shown = read_page(instruments, "inference_pool_average")
        assert shown == {
            'inference_pool_average_kv_cache_utilization{name="p"}': pytest.approx(0.3),
            'inference_pool_average_queue_size{name="p"}': 2,
            'inference_pool_average_running_requests{name="p"}': 2,
        }
        assert counted(instruments, "inference_pool_ready") == {'inference_pool_ready_pods{name="p"}': 2}
        assert counted(instruments, "extproc_pool") == {
            'extproc_pool_endpoints{name="p"}': 3,
            'extproc_pool_stale_endpoints{name="p"}': 1,
        }

    def test_a_mean_of_nothing_is_unknown(self, instruments: Instruments) -> None:
        PoolMetrics.of(instruments).watch("p", lambda: [row("a", fresh=False)])
        assert all(math.isnan(value) for value in read_page(instruments, "inference_pool_average").values())

    def test_endpoints_come_and_go(self, instruments: Instruments) -> None:
        rows = [row("a"), row("b", down=True, fresh=False, age_s=None)]
        PoolMetrics.of(instruments).watch("p", lambda: rows)
        one = 'model_server_pod="a",name="p"'
        other = 'model_server_pod="b",name="p"'
        per_endpoint = {
            f"extproc_endpoint_inflight_requests{{{one}}}": 4.0,
            f"extproc_endpoint_inflight_requests{{{other}}}": 4.0,
            f"extproc_endpoint_running_requests{{{one}}}": 3.0,
            f"extproc_endpoint_kv_cache_usage{{{one}}}": 0.5,
            f"extproc_endpoint_kv_cache_usage_mean{{{one}}}": 0.5,
            f"extproc_endpoint_metrics_age_seconds{{{one}}}": 0.1,
            f"extproc_endpoint_up{{{one}}}": 1.0,
            f"extproc_endpoint_up{{{other}}}": 0.0,
        }
        assert read_page(instruments, "extproc_endpoint") == per_endpoint
        assert read_page(instruments, "inference_pool_per_pod") == {f"inference_pool_per_pod_queue_size{{{one}}}": 2}
        rows[:] = [row("b")]
        left = read_page(instruments, "extproc_endpoint") | read_page(instruments, "inference_pool_per_pod")
        assert len(left) == 7
        assert all('pod="b"' in name for name in left)

    def test_several_pools_share_the_families(self, instruments: Instruments) -> None:
        PoolMetrics.of(instruments).watch("p", lambda: [row("a")])
        PoolMetrics.of(instruments).watch("q", lambda: [row("a"), row("b")])
        assert counted(instruments, "extproc_pool_endpoints") == {
            'extproc_pool_endpoints{name="p"}': 1,
            'extproc_pool_endpoints{name="q"}': 2,
        }


def test_scrapes(instruments: Instruments) -> None:
    one, other = ScrapeMetrics(instruments, "p"), ScrapeMetrics(instruments, "q")
    one.read.value += 1
    other.read.value += 2
    one.duration.observe(0.01)
    one.failed("timeout")
    other.missing("kv_usage", "absent")
    assert counted(instruments, "extproc_scrape") == {
        'extproc_scrapes_total{name="p"}': 1,
        'extproc_scrapes_total{name="q"}': 2,
        'extproc_scrape_duration_seconds_count{name="p"}': 1,
        'extproc_scrape_errors_total{name="p",reason="timeout"}': 1,
        'extproc_scrape_signals_missing_total{name="q",signal="kv_usage",why="absent"}': 1,
    }
