"""A thousand pods."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.e2e.parts import until
from tests.k8s.cluster import Cluster
from tests.k8s.objects import PICKER_RULES
from tests.k8s.picks import traffic
from tests.k8s.rig import NOTICED_S, Rig, rigged
from tests.k8s.servers import Server

PODS = 1000
CHURN_PER_S = 50
CHURN_FOR_S = 5.0
CHURN_COSTS = 0.15
"""Of a core, the slowest of which took 0.06."""
STARTS_WITHIN_S = 2.0
"""What comes before, the start of Python, is the same for any number of pods, and depends on who else computes."""
INTERVAL = ("--refresh-metrics-interval=1s", "--metrics-staleness-threshold=10s")
"""One process is all of their pages: once a second each is what it can do beside the picker."""


def test_a_thousand_pods_are_known_in_two_seconds(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> None:
    rig = Rig(cluster, namespace, sim_port, tmp_path)
    rig.create_pool()
    rig.pods.add_all({f"pod-{n}": f"127.1.{n // 250}.{n % 250 + 1}" for n in range(PODS)})
    rig.line.mend()
    rig.server = rig.picker(rig.grant("picker", PICKER_RULES), INTERVAL)
    try:
        begun = datetime.now(UTC)
        rig.server.child.start()
        rig.server.wait_ready(30)
        ready_s = (datetime.now(UTC) - begun).total_seconds()
        started, known = (_logged(rig.server, mark) for mark in ('"msg":"started"', f'"endpoints":{PODS}'))
        seconds = [(moment - begun).total_seconds() for moment in (started, known)]
        print(
            f"{PODS} pods: listening {seconds[0]:.2f} s after the process began, endpoints known after {seconds[1]:.2f} s, "
            f"ready (each asked once) after {ready_s:.2f} s"
        )
        assert len(rig.server.endpoints()) == PODS
        with traffic(rig.server.port, rig.members) as seen:
            rig.pods.remove("pod-0")
            seen.stays_good(NOTICED_S + 0.5)
            assert len(rig.server.endpoints()) == PODS - 1
        assert seen.problems() == []
        assert seconds[1] - seconds[0] < STARTS_WITHIN_S
    finally:
        rig.server.stop()
        rig.line.cut()


def test_churn_costs_little(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> None:
    """One pod turns unready and another ready, all the time; the CPU of that is what the same time without does not cost."""
    with rigged(cluster, namespace, sim_port, tmp_path, flags=INTERVAL) as rig:
        rig.pods.add_all({f"pod-{n}": f"127.1.0.{n + 1}" for n in range(100)})
        for number in range(50, 100):
            rig.pods.set_ready(f"pod-{number}", False)
        until(lambda: len(rig.server.endpoints()) == 53, what="half of the pods are endpoints")
        idle = _cpu_while(rig.server, lambda: time.sleep(CHURN_FOR_S))
        churned = _cpu_while(rig.server, lambda: _churn(rig))
        until(lambda: set(rig.server.endpoints()) == rig.members.now(), within_s=NOTICED_S, what="it knows the pods of now")
    cost = churned - idle
    print(f"churn of {CHURN_PER_S} changes a second: {cost:.1%} of a core, beside {idle:.1%} for 53 pages a second")
    assert cost < CHURN_COSTS


def _logged(server: Server, mark: str) -> datetime:
    """When the first line with this mark was written."""
    line = next(line for line in server.log().splitlines() if mark in line)
    return datetime.fromisoformat(json.loads(line)["ts"])


def _churn(rig: Rig) -> None:
    begun_s = time.monotonic()
    for number in range(int(CHURN_PER_S * CHURN_FOR_S)):
        pod, turn = number // 2 % 50, number // 100 % 2
        rig.pods.set_ready(f"pod-{pod + 50 * (number % 2)}", (number % 2 == 1) != (turn == 1))
        time.sleep(max(0.0, begun_s + (number + 1) / CHURN_PER_S - time.monotonic()))
    assert time.monotonic() - begun_s < 1.1 * CHURN_FOR_S, "the API server is too slow for this churn"


def _cpu_while(server: Server, work: Callable[[], None]) -> float:
    """Cores that the server used while `work` went on."""
    before, begun_s = _cpu_s(server), time.monotonic()
    work()
    return (_cpu_s(server) - before) / (time.monotonic() - begun_s)


def _cpu_s(server: Server) -> float:
    fields = Path(f"/proc/{server.child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
