"""A thousand pods."""

from __future__ import annotations

import time
from pathlib import Path

from tests.e2e.parts import until
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
    # Their pages are not what is measured, and reading a thousand of them every 50 ms would be.
    rig.server = rig.picker(rig.grant("picker", PICKER_RULES), ["--refresh-metrics-interval=30s"])
    try:
        begun_s = time.monotonic()
        rig.server.child.start()
        until(lambda: rig.server.child.pid and rig.server.ready() == "", within_s=30, what="it is ready")
        ready_s = time.monotonic() - begun_s
        known = len(rig.server.endpoints())
        print(f"{PODS} pods: ready with {known} endpoints {ready_s:.2f} s after its process began")
        assert known == PODS
        with traffic(rig.server.port, rig.members) as seen:
            rig.pods.remove("pod-0")
            seen.stays_good(NOTICED_S + 0.5)
            assert len(rig.server.endpoints()) == PODS - 1
        assert seen.problems() == []
        assert ready_s < STARTS_WITHIN_S
    finally:
        rig.server.stop()
        rig.line.cut()
