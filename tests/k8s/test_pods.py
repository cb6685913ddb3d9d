"""Pods come and go under traffic, and every pick is one of a pod that is there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.k8s.cluster import Cluster
from tests.k8s.picks import traffic
from tests.k8s.rig import NOTICED_S, Rig, rigged

A, B, C, D = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"


@pytest.fixture
def rig(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> Iterator[Rig]:
    with rigged(cluster, namespace, sim_port, tmp_path) as made:
        yield made


def test_a_pod_that_comes_is_picked_and_one_that_is_gone_is_not(rig: Rig) -> None:
    with traffic(rig.server.port, rig.members) as seen:
        seen.settles(rig.endpoints(A, B, C))
        rig.pods.add("d", D)
        assert seen.settles(rig.endpoints(A, B, C, D)) < NOTICED_S
        rig.pods.remove("b")
        assert seen.settles(rig.endpoints(A, C, D)) < NOTICED_S
    assert seen.problems() == []


def test_a_pod_is_picked_while_it_is_ready(rig: Rig) -> None:
    with traffic(rig.server.port, rig.members) as seen:
        rig.pods.set_ready("a", False)
        assert seen.settles(rig.endpoints(B, C)) < NOTICED_S
        rig.pods.set_ready("a", True)
        assert seen.settles(rig.endpoints(A, B, C)) < NOTICED_S
    assert seen.problems() == []


def test_a_pod_that_starts_is_picked_when_it_is_ready_and_has_an_address(rig: Rig) -> None:
    with traffic(rig.server.port, rig.members) as seen:
        rig.pods.add("d", D, ready=False)
        seen.stays_good(0.5)
        assert seen.picked(0) == rig.endpoints(A, B, C)
        rig.pods.set_ready("d", True)
        assert seen.settles(rig.endpoints(A, B, C, D)) < NOTICED_S
    assert seen.problems() == []


def test_a_pod_that_terminates_is_not_picked_although_it_is_ready(rig: Rig) -> None:
    with traffic(rig.server.port, rig.members) as seen:
        rig.pods.terminate("c")
        assert seen.settles(rig.endpoints(A, B)) < NOTICED_S
        rig.pods.remove("c")
        seen.stays_good(0.3)
    assert seen.problems() == []


def test_labels_decide_who_is_in_the_pool(rig: Rig) -> None:
    rig.pods.add("d", D, labels={"app": "other"}, member=False)
    with traffic(rig.server.port, rig.members) as seen:
        seen.settles(rig.endpoints(A, B, C))
        rig.pods.set_labels("d", {"app": "vllm"}, member=True)
        assert seen.settles(rig.endpoints(A, B, C, D)) < NOTICED_S
        rig.pods.set_labels("a", {"app": None}, member=False)
        assert seen.settles(rig.endpoints(B, C, D)) < NOTICED_S
    assert seen.problems() == []


def test_a_pod_that_comes_back_under_its_name_has_its_new_address(rig: Rig) -> None:
    with traffic(rig.server.port, rig.members) as seen:
        rig.pods.remove("a")
        rig.pods.add("a", D)
        assert seen.settles(rig.endpoints(B, C, D)) < NOTICED_S
    assert seen.problems() == []


def test_without_a_ready_pod_requests_are_refused_until_there_is_one(rig: Rig) -> None:
    with traffic(rig.server.port, rig.members) as seen:
        for name in "abc":
            rig.pods.set_ready(name, False)
        since_s = time.monotonic() + NOTICED_S
        client = rig.client()
        try:
            time.sleep(NOTICED_S)
            assert client.ask().problem == "503"
        finally:
            client.close()
        rig.pods.set_ready("b", True)
        assert seen.settles(rig.endpoints(B)) < NOTICED_S
    assert seen.problems(since_s)
    assert {answer.problem for answer in seen.problems()} == {"503"}


def test_churn_at_fifty_a_second(rig: Rig) -> None:
    """Pods made ready and unready, added and removed as fast as that; what stays is picked all the time."""
    with traffic(rig.server.port, rig.members) as seen:
        for number in range(50):
            name, address = f"churn-{number}", f"127.0.1.{number + 1}"
            rig.pods.add(name, address)  # two changes each
            rig.pods.set_ready(name, number % 2 == 0)
            if number >= 10:
                rig.pods.remove(f"churn-{number - 10}")
        for number in range(40, 50):
            rig.pods.remove(f"churn-{number}")
        assert seen.settles(rig.endpoints(A, B, C)) < NOTICED_S
    assert seen.problems() == []
