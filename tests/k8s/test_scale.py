"""A thousand pods."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from tests.k8s.cluster import Cluster
from tests.k8s.objects import PICKER_RULES
from tests.k8s.picks import traffic
from tests.k8s.rig import NOTICED_S, Rig

PODS = 1000
STARTS_WITHIN_S = 2.0


def test_a_thousand_pods_are_known_in_two_seconds(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> None:
    rig = Rig(cluster, namespace, sim_port, tmp_path)
    rig.create_pool()
    rig.pods.add_all({f"pod-{n}": f"127.1.{n // 250}.{n % 250 + 1}" for n in range(PODS)})
    rig.line.mend()
    # One process is all of their pages: once a second each is what it can do beside the picker.
    interval = ["--refresh-metrics-interval=1s", "--metrics-staleness-threshold=10s"]
    rig.server = rig.picker(rig.grant("picker", PICKER_RULES), interval)
    try:
        begun = datetime.now(UTC)
        rig.server.child.start()
        rig.server.wait_ready(30)
        ready_s = (datetime.now(UTC) - begun).total_seconds()
        lines = [json.loads(line) for line in rig.server.log().splitlines() if f'"endpoints":{PODS}' in line]
        known_s = (datetime.fromisoformat(lines[0]["ts"]) - begun).total_seconds()
        print(f"{PODS} pods: endpoints {known_s:.2f} s after the process began, ready (each asked once) after {ready_s:.2f} s")
        assert len(rig.server.endpoints()) == PODS
        with traffic(rig.server.port, rig.members) as seen:
            rig.pods.remove("pod-0")
            seen.stays_good(NOTICED_S + 0.5)
            assert len(rig.server.endpoints()) == PODS - 1
        assert seen.problems() == []
        assert known_s < STARTS_WITHIN_S
    finally:
        rig.server.stop()
        rig.line.cut()
