"""The InferencePool is edited, deleted, made again and missing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.parts import until
from tests.k8s.cluster import Cluster
from tests.k8s.objects import LABELS, PICKER_RULES, pools_path
from tests.k8s.picks import traffic
from tests.k8s.rig import NOTICED_S, POOL, Rig, rigged
from tests.k8s.servers import Server, simulator

A, B, C, D = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"


@pytest.fixture
def rig(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> Iterator[Rig]:
    with rigged(cluster, namespace, sim_port, tmp_path) as made:
        yield made


def _edit(rig: Rig, **spec: object) -> None:
    rig.api.patch(pools_path(rig.namespace, POOL), {"spec": spec})


def test_an_edited_selector_takes_effect(rig: Rig) -> None:
    rig.pods.add("d", D, labels={"app": "new"}, member=False)
    with traffic(rig.server.port, rig.members) as seen:
        seen.settles(rig.endpoints(A, B, C))
        new, old = rig.endpoints(D), rig.endpoints(A, B, C)
        for endpoint in new:
            rig.members.joins(endpoint)
        _edit(rig, selector={"matchLabels": {"app": "new"}})
        for endpoint in old:
            rig.members.leaves(endpoint)
        took_s = seen.settles(new)
    print(f"pool's selector edited: other picks after {took_s * 1000:.0f} ms")
    assert took_s < NOTICED_S
    assert seen.problems() == []


def test_an_edited_port_takes_effect(rig: Rig, tmp_path: Path) -> None:
    other, port = simulator(tmp_path, name="other-sim")
    try:
        with traffic(rig.server.port, rig.members) as seen:
            new, old = {f"{address}:{port}" for address in (A, B, C)}, rig.endpoints(A, B, C)
            for endpoint in new:
                rig.members.joins(endpoint)
            _edit(rig, targetPorts=[{"number": port}])
            for endpoint in old:
                rig.members.leaves(endpoint)
            took_s = seen.settles(new)
            both = [{"number": port}, {"number": rig.pods.port}]
            for endpoint in old:
                rig.members.joins(endpoint)
            _edit(rig, targetPorts=both)
            assert seen.settles(new | old) < NOTICED_S
    finally:
        other.stop()
    print(f"pool's port edited: other picks after {took_s * 1000:.0f} ms")
    assert took_s < NOTICED_S
    assert seen.problems() == []


def test_a_pool_that_is_deleted_serves_nobody_until_it_is_made_again(rig: Rig) -> None:
    with traffic(rig.server.port, rig.members) as seen:
        rig.api.delete(pools_path(rig.namespace, POOL))
        for endpoint in rig.endpoints(A, B, C):
            rig.members.leaves(endpoint)
        reason = until(rig.server.ready, within_s=5, what="not ready without a pool")
        assert POOL in reason
        gone_s = time.monotonic()
        until(lambda: len(seen.problems(gone_s)) > 5, within_s=5, what="requests are refused")
        for endpoint in rig.endpoints(A, B, C):
            rig.members.joins(endpoint)
        rig.create_pool(selector=LABELS)
        took_s = seen.settles(rig.endpoints(A, B, C))
        rig.server.wait_ready(2)
        seen.stays_good(0.3)
    assert took_s < NOTICED_S
    assert {answer.problem for answer in seen.problems()} == {"503"}


def test_without_a_pool_it_says_so_and_waits_for_it(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> None:
    rig = Rig(cluster, namespace, sim_port, tmp_path)
    rig.pods.add("a", A)
    rig.line.mend()
    rig.server = rig.picker(rig.grant("picker", PICKER_RULES))
    try:
        rig.server.start()
        reason = until(rig.server.ready, what="it is not ready")
        assert POOL in reason
        rig.create_pool()
        rig.server.wait_ready(NOTICED_S + 1)
        assert set(rig.server.endpoints()) == rig.endpoints(A)
    finally:
        rig.server.stop()
        rig.line.cut()


def test_without_rights_it_says_which_are_missing(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> None:
    rig = Rig(cluster, namespace, sim_port, tmp_path)
    rig.create_pool()
    rig.pods.add("a", A)
    rig.line.mend()
    rig.server = rig.picker(rig.grant("picker", PICKER_RULES[1:]))  # no pods
    try:
        rig.server.start()
        log = rig.server.wait_log(lambda text: "pods" in text and "list" in text and namespace in text)
        assert rig.server.ready()
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/picker"
        rig.api.patch(path, {"rules": list(PICKER_RULES)})
        rig.server.wait_ready(30)
        assert "Traceback" not in log + rig.server.log()
    finally:
        rig.server.stop()
        rig.line.cut()


def test_without_the_crd_it_says_which_is_missing(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> None:
    """The pools of the old group are not installed in this cluster."""
    rig = Rig(cluster, namespace, sim_port, tmp_path)
    rig.line.mend()
    rig.server = rig.picker(rig.grant("picker", PICKER_RULES), ["--pool-group=inference.networking.x-k8s.io"])
    try:
        rig.server.start()
        log = rig.server.wait_log(lambda text: "kubectl apply" in text and "inference.networking.x-k8s.io" in text)
        assert "Traceback" not in log
        assert rig.server.ready()
    finally:
        rig.server.stop()
        rig.line.cut()


def test_pods_without_a_pool(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> None:
    """`--endpoint-selector`: the rights on pods are all that it needs."""
    rig = Rig(cluster, namespace, sim_port, tmp_path)
    rig.pods.add("a", A)
    rig.pods.add("b", B, labels={"app": "other"}, member=False)
    rig.line.mend()
    flags = [f"--kubeconfig={rig.grant('picker', PICKER_RULES[:1])}", f"--pool-namespace={namespace}"]
    selection = ["--endpoint-selector=app=vllm", f"--endpoint-target-ports={sim_port}"]
    rig.server = Server("epp", [*flags, *selection], tmp_path)
    try:
        rig.server.start()
        rig.server.wait_ready()
        with traffic(rig.server.port, rig.members) as seen:
            seen.settles(rig.endpoints(A))
            rig.pods.set_labels("b", LABELS, member=True)
            assert seen.settles(rig.endpoints(A, B)) < NOTICED_S
        assert seen.problems() == []
    finally:
        rig.server.stop()
        rig.line.cut()


def test_a_gateway_has_many_pools(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> None:
    """One by its InferencePool, one by labels, each with its models."""
    rig = Rig(cluster, namespace, sim_port, tmp_path)
    rig.create_pool()
    rig.pods.add("a", A)
    rig.pods.add("b", B, labels={"app": "other"})
    rig.line.mend()
    by_labels = {"selector": {"app": "other"}, "targetPorts": [sim_port], "namespace": namespace}
    config = {
        "apiVersion": "extproc.dev/v1alpha1",
        "kind": "Gateway",
        "pools": [
            {"name": "one", "endpoints": {"kubernetes": {"inferencePool": POOL, "namespace": namespace}}},
            {"name": "two", "endpoints": {"kubernetes": by_labels}},
        ],
        "routes": [{"models": ["m1"], "pool": "one"}, {"models": ["m2"], "pool": "two"}],
    }
    (tmp_path / "gateway.yaml").write_text(json.dumps(config))
    flags = [f"--kubeconfig={rig.grant('gateway', PICKER_RULES)}", f"--config-file={tmp_path / 'gateway.yaml'}"]
    rig.server = Server("gateway", flags, tmp_path)
    try:
        rig.server.start()
        rig.server.wait_ready()
        with closing(rig.client()) as client:
            assert set(client.ask(b'{"model": "m1"}').endpoints) == rig.endpoints(A)
            assert set(client.ask(b'{"model": "m2"}').endpoints) == rig.endpoints(B)
            rig.pods.add("c", C, labels={"app": "other"})
            until(lambda: client.ask(b'{"model": "m2"}').endpoints[:1] == (f"{C}:{sim_port}",), within_s=NOTICED_S)
    finally:
        rig.server.stop()
        rig.line.cut()
