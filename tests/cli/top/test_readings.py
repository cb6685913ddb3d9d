"""What is read of a page: rates and times between two of them, and nothing that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from extproc.cli.top.readings import NAMES, Now, Reading, now, quantile
from tests.cli.top.pages import BEGIN, pool
from tests.dashboards.queries import unknown
from tests.fakes.registry import labels_of_everything


def read(text: str, before: str | None = None, took_s: float = 2.0) -> Now:
    then = None if before is None else Reading(before, 10.0)
    return now(Reading(text, 10.0 + took_s, then), then)


def test_endpoints_of_a_pool() -> None:
    found = read(pool(4, picks=30), pool(4, picks=10))
    assert [(each.name, each.state, each.waiting, each.picks_per_s) for each in found.endpoints] == [
        ("pod-0", "up", 0.0, 10.0),
        ("pod-1", "stale", None, 10.0),
        ("pod-2", "down", None, 10.0),
        ("pod-3", "up", 3.0, 10.0),
    ]
    (one,) = found.pools
    assert (one.endpoints, one.stale, one.down, one.picks_per_s) == (4, 1, 1, 40.0)


def test_rates_need_two_readings_of_one_process() -> None:
    assert read(pool(1, picks=10)).pools[0].picks_per_s is None
    again = pool(1, picks=30).replace("process_start_time_seconds 7.0", "process_start_time_seconds 8.0")
    assert read(again, pool(1, picks=10)).pools[0].picks_per_s is None, "it began anew meanwhile"
    assert read(pool(1, picks=5), pool(1, picks=10)).pools[0].picks_per_s == 0, "what was forgotten does not count below"


def entity(requests: int, errors: int, early: int) -> str:
    where = 'arm="",served_entity="new",serving_endpoint="chat"'
    buckets = [("0.1", early), ("0.2", requests), ("+Inf", requests)]
    return (
        BEGIN
        + 'extproc_serving_traffic_percentage{served_entity="new",serving_endpoint="chat"} 40.0\n'
        + f"extproc_entity_requests_total{{{where}}} {requests}.0\n"
        + 'extproc_entity_requests_total{arm="x/y",served_entity="new",serving_endpoint="chat"} 1000.0\n'
        + f'extproc_entity_errors_total{{{where},kind="5xx"}} {errors}.0\n'
        + f'extproc_entity_errors_total{{{where},kind="4xx"}} {requests}.0\n'
        + "".join(f'extproc_entity_ttft_seconds_bucket{{{where},le="{edge}"}} {count}.0\n' for edge, count in buckets)
    )


def test_an_entity_by_what_it_did_since() -> None:
    (found,) = read(entity(30, 5, 15), entity(10, 0, 5)).entities
    assert (found.endpoint, found.name, found.percentage) == ("chat", "new", 40)
    assert found.requests_per_s == 10, "arms of experiments are a part of it"
    assert found.error_rate == 0.25, "4xx is the request's fault"
    assert found.ttft_p50_s == pytest.approx(0.1)
    assert found.ttft_p95_s == pytest.approx(0.19)
    assert found.e2e_p50_s is None
    (idle,) = read(entity(30, 5, 15), entity(30, 5, 15)).entities
    assert (idle.requests_per_s, idle.error_rate, idle.ttft_p50_s) == (0, None, None)


def test_a_rollout() -> None:
    one = 'serving_endpoint="chat"'
    text = (
        BEGIN
        + f'extproc_rollout_phase{{phase="Progressing",{one}}} 1.0\n'
        + f'extproc_rollout_weight_percentage{{served_entity="new",{one}}} 20.0\n'
        + f"extproc_rollout_step{{{one}}} 1.0\nextproc_rollout_steps{{{one}}} 4.0\n"
        + f'extproc_rollout_evidence_ratio{{metric="ttft",of="step",{one}}} 0.4\n'
        + f'extproc_rollout_evidence_ratio{{metric="errors",of="step",{one}}} -0.2\n'
    )
    assert [tuple(each) for each in read(text).rollouts] == [("chat", "new", "Progressing", 20, 1, 4, 0.4)]


def test_upstreams_newer_names_alone() -> None:
    text = pool(4, picks=10)
    for older, newer in (
        ("inference_pool_per_pod_queue_size", "llm_d_epp_per_endpoint_queue_size"),
        ("inference_extension_scheduler_attempts_total", "llm_d_epp_scheduler_attempts_total"),
        ("pod_name", "endpoint_name"),
    ):
        text = text.replace(older, newer)
    lines = [
        line.replace("model_server_pod", "model_server_endpoint") if "llm_d" in line else line for line in text.splitlines()
    ]
    newer_page = "\n".join(lines)
    assert read(newer_page, newer_page.replace(" 10.0", " 0.0")).endpoints == read(text_of(4, 10), text_of(4, 0)).endpoints


def text_of(endpoints: int, picks: int) -> str:
    return pool(endpoints, picks=picks)


def test_names_are_what_they_are() -> None:
    text = BEGIN + r'extproc_serving_traffic_percentage{served_entity="a\"b\\c\nd, e=\"f\"",serving_endpoint="x y"} 1.0'
    assert [(each.endpoint, each.name) for each in read(text).entities] == [("x y", 'a"b\\c\nd, e="f"')]


@pytest.mark.parametrize("text", ["", "<html>", "vllm:num_requests_running 1.0\n", "extproc_streams_inflight one\n"])
def test_what_is_no_page_of_ours(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Reading(text, 0.0)


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        ([], 0.5, None),
        ([(1.0, 0.0), (float("inf"), 0.0)], 0.5, None),
        ([(1.0, 10.0), (2.0, 10.0), (float("inf"), 10.0)], 0.5, 0.5),
        ([(1.0, 0.0), (2.0, 10.0), (float("inf"), 10.0)], 0.5, 1.5),
        ([(1.0, 1.0), (2.0, 1.0), (float("inf"), 10.0)], 0.5, 2.0),
    ],
)
def test_quantiles_as_prometheus_has_them(buckets: list[tuple[float, float]], share: float, value: float | None) -> None:
    assert quantile(buckets, share) == value


def test_every_name_that_is_asked_for_is_there(tmp_path: Path) -> None:
    known = labels_of_everything(tmp_path)
    missing = [name for name in NAMES if not name.startswith("process_") and unknown(f"{name}{{}}", known)]
    assert missing == []
