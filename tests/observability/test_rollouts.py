"""Rollouts on Prometheus' page: what there is, and nothing of what has gone."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from extproc.observability.instruments import Instruments
from extproc.observability.rollouts import RolloutMetrics, RolloutRow, WatchedRow
from extproc.observability.serving import SplitMetrics


def page(instruments: Instruments, prefix: str) -> list[str]:
    registry = CollectorRegistry()
    instruments.register(registry)
    lines = generate_latest(registry).decode().splitlines()
    return sorted([line for line in lines if line.startswith(prefix)], key=lambda line: line.replace("{", " "))


def test_what_the_replica_that_drives_shows() -> None:
    instruments = Instruments()
    metrics = RolloutMetrics(instruments)
    watched = WatchedRow("ttft", "background", "Running", (0.1, -0.05, 0.3), 0.5)
    metrics.show([RolloutRow("chat", "new", "Progressing", 20, 1, 4, (watched, WatchedRow("errors", "step", "Running")))])
    assert page(instruments, "extproc_rollout") == [
        'extproc_rollout_difference_ratio{bound="estimate",metric="ttft",of="background",serving_endpoint="chat"} 0.1',
        'extproc_rollout_difference_ratio{bound="high",metric="ttft",of="background",serving_endpoint="chat"} 0.3',
        'extproc_rollout_difference_ratio{bound="low",metric="ttft",of="background",serving_endpoint="chat"} -0.05',
        'extproc_rollout_evidence_ratio{metric="ttft",of="background",serving_endpoint="chat"} 0.5',
        'extproc_rollout_metric_phase{metric="errors",of="step",phase="Running",serving_endpoint="chat"} 1.0',
        'extproc_rollout_metric_phase{metric="ttft",of="background",phase="Running",serving_endpoint="chat"} 1.0',
        'extproc_rollout_phase{phase="Progressing",serving_endpoint="chat"} 1.0',
        'extproc_rollout_step{serving_endpoint="chat"} 1.0',
        'extproc_rollout_steps{serving_endpoint="chat"} 4.0',
        'extproc_rollout_weight_percentage{served_entity="new",serving_endpoint="chat"} 20.0',
        "extproc_rollouts_leading 1.0",
    ]
    metrics.show([RolloutRow("chat", "new", "Degraded", 0, 1, 4)])
    assert page(instruments, "extproc_rollout_phase") == ['extproc_rollout_phase{phase="Degraded",serving_endpoint="chat"} 1.0']
    assert page(instruments, "extproc_rollout_evidence") == []
    metrics.forget()
    assert page(instruments, "extproc_rollout") == ["extproc_rollouts_leading 0.0"]


def test_a_split_as_it_is_configured_now() -> None:
    instruments = Instruments()
    shares = [("chat", "old", 90), ("chat", "new", 10)]
    SplitMetrics(instruments).watch(lambda: shares)
    assert page(instruments, "extproc_serving_traffic") == [
        'extproc_serving_traffic_percentage{served_entity="new",serving_endpoint="chat"} 10.0',
        'extproc_serving_traffic_percentage{served_entity="old",serving_endpoint="chat"} 90.0',
    ]
    shares[:] = [("chat", "new", 100)]
    assert page(instruments, "extproc_serving_traffic") == [
        'extproc_serving_traffic_percentage{served_entity="new",serving_endpoint="chat"} 100.0'
    ]
