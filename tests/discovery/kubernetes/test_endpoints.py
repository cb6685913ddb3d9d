"""An InferencePool and its pods, as they come, change and go on a fake API server."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from extproc.discovery.kubernetes.endpoints import KubernetesSource
from extproc.discovery.kubernetes.pools import OLD_GROUP, Selection
from tests.discovery.kubernetes.at_work import discovered
from tests.fakes.kube import FakeKube
from tests.fakes.kube_objects import OLD_POOLS, POOLS, pod, pool

KEY = ("default", "vllm")


def of_two() -> FakeKube:
    """A pool of the pods a and b, and a pod beside it."""
    fake = FakeKube()
    fake.put(POOLS, pool())
    fake.put("pods", pod("a", "10.0.0.1"))
    fake.put("pods", pod("b", "10.0.0.2"))
    fake.put("pods", pod("other", "10.0.0.9", labels={"app": "else"}))
    fake.put("pods", pod("far", "10.0.0.8", namespace="elsewhere"))
    return fake


async def test_pods_of_a_pool(tmp_path: Path) -> None:
    async with discovered(tmp_path, of_two()) as found:
        await found.ready()

        assert found.told.sizes == [2]  # nothing before the list is whole
        assert {endpoint.name: endpoint.key for endpoint in found.told.endpoints} == {
            "a-rank-0": "10.0.0.1:8000",
            "b-rank-0": "10.0.0.2:8000",
        }
        assert found.told.endpoints[0].labels == {"app": "vllm"}
        lists = [query for _, path, query in found.fake.requests if path.endswith("/pods")]
        assert all(query["labelSelector"] == "app=vllm" for query in lists)  # the server filters


async def test_pods_come_and_go(tmp_path: Path) -> None:
    async with discovered(tmp_path, of_two()) as found:
        await found.ready()
        found.fake.put("pods", pod("c", "10.0.0.3"))
        await found.has("10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000")
        found.fake.delete("pods", "a")
        await found.has("10.0.0.2:8000", "10.0.0.3:8000")


@pytest.mark.parametrize(
    "change",
    [
        pod("a", "10.0.0.1", ready=False),
        pod("a", "10.0.0.1", deleted=True),
        pod("a", "10.0.0.1", phase="Failed"),
        pod("a", "10.0.0.1", labels={"app": "else"}),
        pod("a", ""),
    ],
    ids=["unready", "ending", "failed", "relabelled", "no address"],
)
async def test_a_pod_that_serves_no_more(tmp_path: Path, change: dict[str, object]) -> None:
    async with discovered(tmp_path, of_two()) as found:
        await found.ready()
        found.fake.put("pods", change)
        await found.has("10.0.0.2:8000")
        found.fake.put("pods", pod("a", "10.0.0.4"))
        await found.has("10.0.0.2:8000", "10.0.0.4:8000")


async def test_updates_that_change_nothing_tell_nothing(tmp_path: Path) -> None:
    async with discovered(tmp_path, of_two()) as found:
        await found.ready()
        changed = pod("a", "10.0.0.1")
        changed["status"]["startTime"] = "2026-01-01T00:00:00Z"
        found.fake.put("pods", changed)
        found.fake.put("pods", pod("b", "10.0.0.2", ready=False))
        await found.has("10.0.0.1:8000")

        assert found.told.sizes == [2, 1]


async def test_other_ports_take_effect_at_once(tmp_path: Path) -> None:
    async with discovered(tmp_path, of_two()) as found:
        await found.ready()
        found.fake.put(POOLS, pool(ports=(9000, 9001)))
        await found.has("10.0.0.1:9000", "10.0.0.1:9001", "10.0.0.2:9000", "10.0.0.2:9001")

        assert found.told.names == {"a-rank-0", "a-rank-1", "b-rank-0", "b-rank-1"}
        lists = [query for _, path, query in found.fake.requests if path.endswith("/pods") and "watch" not in query]
        assert len(lists) == 1


async def test_another_selector_has_no_gap(tmp_path: Path) -> None:
    async with discovered(tmp_path, of_two()) as found:
        await found.ready()
        found.fake.put(POOLS, pool(labels={"app": "else"}, ports=(7000,)))
        await found.has("10.0.0.9:7000")
        await found.it.until(lambda: found.fake.watching("pods") == 1)

        assert found.told.sizes == [2, 1]


async def test_the_old_pods_serve_until_the_new_ones_are_known(tmp_path: Path) -> None:
    async with discovered(tmp_path, of_two()) as found:
        await found.ready()
        found.fake.forbidden.add(("list", "pods"))
        found.fake.put(POOLS, pool(labels={"app": "else"}))
        await found.it.until(lambda: found.it.metric("extproc_kubernetes_errors_total"))
        found.fake.delete("pods", "a")
        await found.has("10.0.0.2:8000")
        assert found.discovery.unready() is None
        found.fake.forbidden.clear()
        await found.has("10.0.0.9:8000")


async def test_a_selector_that_is_taken_back(tmp_path: Path) -> None:
    async with discovered(tmp_path, of_two()) as found:
        await found.ready()
        found.fake.put(POOLS, pool(labels={"app": "else"}))
        found.fake.put(POOLS, pool(ports=(8001,)))
        await found.has("10.0.0.1:8001", "10.0.0.2:8001")


async def test_a_pool_that_cannot_be_read_keeps_its_last_state(tmp_path: Path) -> None:
    async with discovered(tmp_path, of_two()) as found:
        await found.ready()
        with capture_logs() as logs:
            broken = pool(ports=())
            found.fake.put(POOLS, broken)
            await found.it.until(lambda: len(found.it.errors))
            found.fake.put(POOLS, {**broken, "metadata": {**broken["metadata"], "labels": {"x": "y"}}})
            assert found.it.metric("extproc_kubernetes_object_errors") == {("InferencePool", *KEY): 1}
            found.fake.put("pods", pod("c", "10.0.0.3"))
            await found.has("10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000")
            found.fake.put(POOLS, pool())
            await found.it.until(lambda: not len(found.it.errors))

        assert [entry["event"] for entry in logs] == [
            "object is wrong, its last good state stays",
            "object is good again",
        ]
        assert logs[0]["problem"] == "spec.targetPorts: expected 1 to 8 ports (got 0)"
        assert found.it.metric("extproc_kubernetes_object_errors") == {}


async def test_a_deleted_pool_has_no_endpoints(tmp_path: Path) -> None:
    async with discovered(tmp_path, of_two()) as found:
        await found.ready()
        found.fake.delete(POOLS, "vllm")
        await found.has()
        assert found.discovery.unready() == "InferencePool default/vllm was deleted"
        found.fake.put(POOLS, pool())
        await found.has("10.0.0.1:8000", "10.0.0.2:8000")

        assert found.discovery.unready() is None


async def test_a_pool_that_is_not_there_yet(tmp_path: Path) -> None:
    async with discovered(tmp_path) as found:
        assert found.discovery.unready() == "InferencePool vllm: not read yet"
        await found.it.until(lambda: found.discovery.unready() == "InferencePool default/vllm not found")
        found.fake.put(POOLS, pool())
        await found.ready()

        assert found.told.sizes == [0]


async def test_a_pool_that_is_wrong_from_the_start(tmp_path: Path) -> None:
    fake = FakeKube()
    fake.put(POOLS, pool(labels={}))
    async with discovered(tmp_path, fake) as found:
        problem = "InferencePool default/vllm: spec.selector.matchLabels: expected at least one label (got {})"
        await found.it.until(lambda: found.discovery.unready() == problem)


async def test_a_crd_that_is_missing(tmp_path: Path) -> None:
    fake = of_two()
    fake.missing.add(POOLS)
    with capture_logs() as logs:
        async with discovered(tmp_path, fake) as found:
            await found.it.until(lambda: "CRD" in (found.discovery.unready() or ""))
            fake.missing.clear()
            await found.ready()
            await found.it.until(lambda: set(found.it.metric("extproc_kubernetes_in_sync").values()) == {1})

    assert [entry["event"] for entry in logs if entry["log_level"] != "debug"] == [
        "Kubernetes resource can't be watched",
        "Kubernetes resource is watched",
    ]
    assert logs[0]["problem"].startswith(
        "CRD inferencepools.inference.networking.k8s.io with version v1 is not installed; to install it: kubectl apply -f https"
    )


async def test_no_right_to_the_pods(tmp_path: Path) -> None:
    fake = of_two()
    fake.forbidden.add(("watch", "pods"))
    async with discovered(tmp_path, fake) as found:
        await found.ready()  # what could be listed serves
        await found.it.until(lambda: found.it.metric("extproc_kubernetes_errors_total"))
        fake.forbidden = {("list", "pods")}
    fake.forbidden = {("list", "pods")}
    async with discovered(tmp_path, fake) as found:
        wanted = (
            'pods of InferencePool default/vllm: no right to list "pods" in API group "" in namespace "default"; '
            "the chart grants it with rbac.create=true"
        )
        await found.it.until(lambda: found.discovery.unready() == wanted)


async def test_the_api_server_is_away(tmp_path: Path) -> None:
    async with discovered(tmp_path, of_two()) as found:
        await found.ready()
        await found.it.until(lambda: set(found.it.metric("extproc_kubernetes_in_sync").values()) == {1})
        with capture_logs() as logs:
            await found.fake.kill()
            errors = "extproc_kubernetes_errors_total"
            await found.it.until(lambda: sum(v for k, v in found.it.metric(errors).items() if "unreachable" in k) > 5)
            assert set(found.it.metric("extproc_kubernetes_in_sync").values()) == {0}
            assert all(age >= 0 for age in found.it.metric("extproc_kubernetes_last_contact_age_seconds").values())
            assert found.told.keys == {"10.0.0.1:8000", "10.0.0.2:8000"}
            assert found.discovery.unready() is None
            found.fake.delete("pods", "a")
            await found.fake.start()
            await found.has("10.0.0.2:8000")
            await found.it.until(lambda: set(found.it.metric("extproc_kubernetes_in_sync").values()) == {1})

    assert [entry["event"] for entry in logs] == [
        "Kubernetes API server does not answer, the last known state stays in force",
        "Kubernetes API server answers again",
    ]


async def test_ranks_that_are_active(tmp_path: Path) -> None:
    fake = FakeKube()
    fake.put(POOLS, pool(ports=(8000, 8001, 8002)))
    fake.put("pods", pod("a", "10.0.0.1", annotations={"llm-d.ai/active-ports": "8000, 8002"}))
    fake.put("pods", pod("b", "10.0.0.2", annotations={"inference.networking.k8s.io/active-ports": "8001"}))
    fake.put("pods", pod("c", "10.0.0.3", annotations={"llm-d.ai/active-ports": "http"}))
    async with discovered(tmp_path, fake) as found:
        await found.ready()

        assert found.told.names == {"a-rank-0", "a-rank-2", "b-rank-1", "c-rank-0", "c-rank-1", "c-rank-2"}
        assert "expected ports" in (found.it.errors.of("Pod", ("default", "c")) or "")
        fake.delete("pods", "c")
        await found.it.until(lambda: not len(found.it.errors))


async def test_an_address_with_two_pods(tmp_path: Path) -> None:
    fake = of_two()
    fake.put("pods", pod("z", "10.0.0.1"))
    async with discovered(tmp_path, fake) as found:
        await found.ready()
        assert found.told.names == {"z-rank-0", "b-rank-0"}  # the younger has it
        fake.delete("pods", "z")
        await found.it.until(lambda: found.told.names == {"a-rank-0", "b-rank-0"})


async def test_a_pool_of_the_old_group(tmp_path: Path) -> None:
    fake = FakeKube()
    fake.put(
        OLD_POOLS,
        {
            "apiVersion": f"{OLD_GROUP}/v1alpha2",
            "kind": "InferencePool",
            "metadata": {"name": "vllm", "namespace": "default"},
            "spec": {"selector": {"app": "vllm"}, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}},
        },
    )
    fake.put("pods", pod("a", "10.0.0.1"))
    async with discovered(tmp_path, fake, KubernetesSource("default", "vllm", OLD_GROUP)) as found:
        await found.has("10.0.0.1:8000")


async def test_without_a_pool(tmp_path: Path) -> None:
    selection = Selection((("app", "vllm"),), (8000, 8001))
    async with discovered(tmp_path, of_two(), KubernetesSource("", "vllm", selection=selection)) as found:
        await found.has("10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.2:8000", "10.0.0.2:8001")

        assert not any("inferencepools" in path for _, path, _ in found.fake.requests)
