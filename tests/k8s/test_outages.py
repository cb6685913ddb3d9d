"""The API server dies, comes back, forgets its history; picks go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.parts import until
from tests.k8s.cluster import Cluster
from tests.k8s.picks import traffic
from tests.k8s.rig import NOTICED_S, Rig, rigged

A, B, C, D = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
_BACK_S = 10.0
"""A client's back-off, at the longest, and a new list."""


@pytest.fixture
def rig(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> Iterator[Rig]:
    with rigged(cluster, namespace, sim_port, tmp_path) as made:
        yield made


def test_the_api_server_is_killed_and_started_again(rig: Rig) -> None:
    with traffic(rig.server.port, rig.members) as seen:
        seen.settles(rig.endpoints(A, B, C))
        rig.cluster.kill_server()
        seen.stays_good(2.0)
        assert seen.picked(0) == rig.endpoints(A, B, C)
        rig.cluster.start_server()
        rig.pods.add("d", D)
        took_s = seen.settles(rig.endpoints(A, B, C, D), within_s=_BACK_S)
        rig.pods.remove("a")
        assert seen.settles(rig.endpoints(B, C, D)) < NOTICED_S
    print(f"API server back: a pod made then is picked after {took_s:.2f} s")
    assert seen.problems() == []
    assert "Traceback" not in rig.server.log()


def test_what_changed_while_the_line_was_cut_is_seen_after_it(rig: Rig) -> None:
    with traffic(rig.server.port, rig.members) as seen:
        rig.line.cut()
        rig.pods.add("d", D)
        seen.stays_good(0.5)
        rig.line.mend()
        assert seen.settles(rig.endpoints(A, B, C, D), within_s=_BACK_S) < _BACK_S
    assert seen.problems() == []


def test_a_watch_that_is_too_old_is_begun_anew_without_a_gap(rig: Rig) -> None:
    """The pod that left while the line was cut must leave the pool, although no event will ever tell: 410."""
    address = rig.pods.address("a")
    with traffic(rig.server.port, rig.members) as seen:
        rig.line.cut()
        path = f"/api/v1/namespaces/{rig.namespace}/pods"
        known = rig.api.get(path)["metadata"]["resourceVersion"]
        rig.api.delete(f"{path}/a", grace_s=0)  # the picker can't know, so that is not a wrong pick yet
        rig.pods.add("d", D)
        rig.cluster.compact()
        rig.cluster.restart_server()
        event = rig.api.get(path, watch="1", resourceVersion=known, timeoutSeconds="1")
        assert event["object"]["code"] == 410
        seen.stays_good(0.2)
        rig.line.mend()
        took_s = seen.settles(rig.endpoints(B, C, D), within_s=_BACK_S)
        rig.members.leaves(f"{address}:{rig.pods.port}")
        seen.stays_good(NOTICED_S + 0.3)
        assert seen.settles(rig.endpoints(B, C, D)) < NOTICED_S
    print(f"watch too old: the picks are right {took_s:.2f} s after the line is back")
    assert seen.problems() == []


def test_a_line_that_flaps_costs_no_pick_and_no_storm(rig: Rig) -> None:
    with traffic(rig.server.port, rig.members) as seen:
        for _ in range(10):
            rig.line.cut()
            rig.line.mend()
            seen.stays_good(0.2)
        taken = rig.line.accepted
        rig.pods.add("d", D)
        seen.settles(rig.endpoints(A, B, C, D), within_s=_BACK_S)
    assert seen.problems() == []
    assert taken < 150, f"{taken} connections for 10 cuts"


def test_a_picker_that_starts_without_an_api_server_waits_for_it(rig: Rig) -> None:
    rig.line.cut()
    rig.server.stop()
    rig.server.start()
    assert until(rig.server.ready, what="not ready")
    time.sleep(0.5)  # it tries again in the meantime, and must not give up
    rig.server.child.check()
    rig.line.mend()
    rig.server.wait_ready(_BACK_S)
    assert set(rig.server.endpoints()) == rig.endpoints(A, B, C)
