"""Two replicas of a picker, of which one leads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.parts import until
from tests.k8s.cluster import Cluster
from tests.k8s.objects import LEADER_RULES, PICKER_RULES
from tests.k8s.picks import Client
from tests.k8s.rig import Rig
from tests.k8s.servers import Server

LEASE_S = 15.0
SLACK_S = 2.0
"""Followers look twice a second, and two cores do all of it."""
LET_GO_S = 1.0


class Replicas:
    """Two pickers of one pool."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        kubeconfig = rig.grant("picker", (*PICKER_RULES, *LEADER_RULES))
        flags = ["--ha-enable-leader-election", "--drain-timeout=1s"]
        self.servers = [rig.picker(kubeconfig, flags, f"epp-{number}") for number in (1, 2)]

    def leader(self) -> Server | None:
        """The one that a gateway would ask, by the health of `readiness`."""
        leaders = [server for server in self.servers if server.child.pid and _serves(server)]
        assert len(leaders) < 2, "two leaders"
        return leaders[0] if leaders else None

    def other(self, server: Server) -> Server:
        (found,) = [each for each in self.servers if each is not server]
        return found

    def fails_over(self, to: Server, since_s: float, within_s: float) -> float:
        """Wait until it picks. Returns the seconds since then."""
        until(lambda: _serves(to), within_s=within_s, what=f"{to} leads\n{to.child.tail()}")
        with closing(Client(to.port)) as client:
            assert client.ask().endpoints
        return time.monotonic() - since_s


def _serves(server: Server) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{server.health_port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service="readiness"), timeout=2)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
def replicas(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> Iterator[Replicas]:
    rig = Rig(cluster, namespace, sim_port, tmp_path)
    rig.create_pool()
    for number in range(3):
        rig.pods.add(f"pod-{number}", f"127.0.0.{number + 2}")
    rig.line.mend()
    made = Replicas(rig)
    try:
        for server in made.servers:
            server.start()
        until(made.leader, within_s=20, what="one leads")
        yield made
    finally:
        for server in made.servers:
            server.stop()
        rig.line.cut()


def test_one_leads_and_the_other_is_warm_and_not_ready(replicas: Replicas) -> None:
    leader = replicas.leader()
    assert leader is not None
    leader.wait_ready()
    follower = replicas.other(leader)
    until(lambda: len(follower.endpoints()) == 3, what="the follower knows the pods")
    until(lambda: "leader" in follower.ready(), what="the follower is not ready because it does not lead")


def test_a_leader_that_is_killed_is_followed_within_the_lease(replicas: Replicas) -> None:
    leader = replicas.leader()
    assert leader is not None
    follower = replicas.other(leader)
    killed_s = time.monotonic()
    leader.child.kill()
    took_s = replicas.fails_over(follower, killed_s, LEASE_S + SLACK_S + 5)
    print(f"leader killed: picks again after {took_s:.2f} s (lease {LEASE_S:.0f} s)")
    assert took_s <= LEASE_S + SLACK_S
    leader.start()
    until(lambda: len(leader.endpoints()) == 3)
    assert replicas.leader() is follower


def test_a_leader_that_is_stopped_lets_the_lease_go(replicas: Replicas) -> None:
    leader = replicas.leader()
    assert leader is not None
    follower = replicas.other(leader)
    until(lambda: len(follower.endpoints()) == 3, what="the follower knows the pods")
    told_s = time.monotonic()
    leader.terminate()
    took_s = replicas.fails_over(follower, told_s, 10)
    print(f"leader stopped: picks again after {took_s * 1000:.0f} ms")
    until(lambda: leader.child.pid is None, what="it has ended by itself: a second SIGTERM would end it in its last moment")
    assert leader.stop() == 0
    assert took_s <= LET_GO_S


def test_the_leader_goes_on_while_the_api_server_is_away(replicas: Replicas) -> None:
    leader = replicas.leader()
    assert leader is not None
    replicas.rig.line.cut()
    with closing(Client(leader.port)) as client:
        ends_s = time.monotonic() + LEASE_S + SLACK_S
        while time.monotonic() < ends_s:
            assert client.ask().endpoints
            assert replicas.leader() is leader
            time.sleep(0.2)  # the lease runs out in the meantime
    replicas.rig.line.mend()
    until(lambda: replicas.leader() is not None, within_s=5)
