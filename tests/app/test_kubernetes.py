"""Servers that find their endpoints in Kubernetes, whole, against a fake API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from extproc.app import build
from extproc.app.adapters.configmaps import WatchedAdapters
from extproc.app.cluster import Cluster
from extproc.settings.base import SettingsError
from extproc.settings.commands import BbrSettings, EppSettings, GatewaySettings
from tests.app.running import chat, exchange, headers_of, part, pool_of, running, until
from tests.app.test_service import HERE, get, health
from tests.discovery.kubernetes.test_objects import objective, rewrite
from tests.fakes.kube import FakeKube
from tests.fakes.kube_objects import POOLS, config_map, pod, pool

DESTINATION = "x-gateway-destination-endpoint"
BODY = b'{"model": "m", "messages": []}'


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    fake = FakeKube()
    await fake.start()
    yield fake
    await fake.kill()


def epp(fake: FakeKube, tmp_path: Path, **flags: Any) -> EppSettings:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(fake.kubeconfig())
    return EppSettings(**{**HERE, "kubeconfig": str(kubeconfig), **flags})


async def ready(port: int) -> bool:
    return (await get(port, "/readyz"))[0] == 200


async def picked(port: int) -> str:
    return headers_of((await exchange(port, chat(BODY)))[0])[DESTINATION]


async def test_a_picker_follows_its_pool(fake: FakeKube, tmp_path: Path) -> None:
    async with running(build(epp(fake, tmp_path, pool_name="vllm"))) as ports:
        await until(lambda: said(ports.metrics, "InferencePool default/vllm not found"))
        assert await health(ports.health, "") == "NOT_SERVING"
        fake.put("pods", pod("a", "127.0.0.2"))
        fake.put("pods", pod("b", "127.0.0.3"))
        fake.put(POOLS, pool(ports=(1,)))
        await until(lambda: ready(ports.metrics))
        assert await health(ports.health, "") == "SERVING"
        assert await picked(ports.grpc) in {"127.0.0.2:1", "127.0.0.3:1"}
        fake.delete("pods", "a")
        await until(lambda: left(ports.metrics, "127.0.0.2"))
        assert {await picked(ports.grpc) for _ in range(5)} == {"127.0.0.3:1"}
        fake.delete(POOLS, "vllm")
        await until(lambda: said(ports.metrics, "InferencePool default/vllm was deleted"))
        assert await health(ports.health, "") == "NOT_SERVING"
        fake.put(POOLS, pool(ports=(2,)))
        await until(lambda: ready(ports.metrics))
        assert await picked(ports.grpc) == "127.0.0.3:2"


async def said(port: int, reason: str) -> bool:
    return reason in (await get(port, "/readyz"))[1]


async def left(port: int, address: str) -> bool:
    return address not in (await get(port, "/debug/endpoints"))[1]


async def test_a_pool_without_pods_is_ready_and_has_no_endpoints(fake: FakeKube, tmp_path: Path) -> None:
    fake.put(POOLS, pool())
    async with running(build(epp(fake, tmp_path, pool_name="vllm"))) as ports:
        await until(lambda: ready(ports.metrics))
        answers = await exchange(ports.grpc, chat(BODY))

        assert answers[0].immediate_response.status.code == 503


async def test_pods_without_a_pool(fake: FakeKube, tmp_path: Path) -> None:
    fake.put("pods", pod("a", "127.0.0.2", namespace="models"))
    settings = epp(fake, tmp_path, endpoint_selector="app=vllm", endpoint_target_ports=[1], pool_namespace="models")
    async with running(build(settings)) as ports:
        await until(lambda: ready(ports.metrics))
        assert await picked(ports.grpc) == "127.0.0.2:1"


async def test_the_api_server_goes_and_what_is_known_serves(fake: FakeKube, tmp_path: Path) -> None:
    fake.put(POOLS, pool(ports=(1,)))
    fake.put("pods", pod("a", "127.0.0.2"))
    async with running(build(epp(fake, tmp_path, pool_name="vllm"))) as ports:
        await until(lambda: ready(ports.metrics))
        await fake.kill()
        await asyncio.sleep(0)
        assert await picked(ports.grpc) == "127.0.0.2:1"
        assert await ready(ports.metrics)


async def test_other_sources_need_no_kubernetes(tmp_path: Path) -> None:
    service = build(EppSettings(**HERE, endpoints=("127.0.0.2:1",), pool_name="named"))

    assert service.find(Cluster) is None
    assert pool_of(service).store.name == "named"


async def test_no_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = build(EppSettings(**HERE, pool_name="vllm", kubeconfig=str(tmp_path / "none")))

    with pytest.raises(SettingsError, match=r"--pool-name: --kubeconfig: .*none: no such file"):
        await service.run(asyncio.Event())


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({}, "--endpoints: expected at least one endpoint; or --pool-name"),
        ({"endpoint_selector": "a=b"}, "--endpoint-selector and --endpoint-target-ports need each other"),
        ({"endpoint_target_ports": [1]}, "need each other"),
        ({"endpoint_selector": "a", "endpoint_target_ports": [1]}, "expected name=value"),
        ({"endpoint_selector": "a=b", "endpoint_target_ports": [1, 1]}, "a port is there twice"),
        ({"endpoint_selector": "a=b", "endpoint_target_ports": list(range(1, 10))}, "expected 1 to 8 ports"),
        ({"endpoint_selector": "a=b", "endpoint_target_ports": [0]}, "expected a port in 1..65535"),
        ({"endpoint_selector": "a=b", "endpoint_target_ports": [1], "endpoints": ["1.1.1.1:1"]}, "exclude each other"),
        ({"pool_name": "x", "pool_group": "apps"}, "inference.networking.k8s.io"),
    ],
)
def test_flags_that_do_not_fit(flags: dict[str, Any], problem: str) -> None:
    with pytest.raises((SettingsError, ValueError), match=problem):
        build(EppSettings(**HERE, **flags))


def bbr(fake: FakeKube, tmp_path: Path, **flags: Any) -> BbrSettings:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(fake.kubeconfig())
    return BbrSettings(**{**HERE, "kubeconfig": str(kubeconfig), "adapter_configmaps": "true", **flags})


async def base_of(port: int, model: str) -> str:
    answers = await exchange(port, chat(f'{{"model": "{model}"}}'.encode()))
    return headers_of(answers[0])["x-gateway-base-model-name"]


async def based(port: int, model: str, base: str) -> bool:
    return await base_of(port, model) == base


async def test_a_router_follows_its_config_maps(fake: FakeKube, tmp_path: Path) -> None:
    fake.put("configmaps", config_map("m", "llama", "[a]"))
    async with running(build(bbr(fake, tmp_path))) as ports:
        await until(lambda: ready(ports.metrics))
        assert await base_of(ports.grpc, "a") == "llama"
        fake.put("configmaps", config_map("m", "llama", "[b]"))
        await until(lambda: based(ports.grpc, "b", "llama"))
        assert await base_of(ports.grpc, "a") == ""


async def test_a_router_without_the_right_serves(fake: FakeKube, tmp_path: Path) -> None:
    fake.forbidden.add(("*", "configmaps"))
    async with running(build(bbr(fake, tmp_path))) as ports:
        await until(lambda: ready(ports.metrics))
        assert await base_of(ports.grpc, "a") == ""
        assert 'reason="forbidden"' in (await get(ports.metrics, "/metrics"))[1]


async def test_a_router_waits_only_a_while(fake: FakeKube, tmp_path: Path) -> None:
    fake.silent = True
    service = build(bbr(fake, tmp_path))
    part(service, WatchedAdapters).within_s = 0.2
    async with running(service) as ports:
        assert await said(ports.metrics, "ConfigMaps of adapters not listed yet")
        await until(lambda: ready(ports.metrics))
        assert await base_of(ports.grpc, "a") == ""


async def test_config_maps_where_they_are_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert build(BbrSettings(**HERE)).find(WatchedAdapters) is None
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")  # a pod without a token of its service account
    async with running(build(BbrSettings(**HERE))) as ports:
        await until(lambda: ready(ports.metrics))
    with pytest.raises(SettingsError, match="--adapter-configmaps: no access to Kubernetes"):
        await build(BbrSettings(**HERE, adapter_configmaps="true")).run(asyncio.Event())


def test_two_sources_of_adapters() -> None:
    with pytest.raises(ValueError, match="--adapters-file and --adapter-configmaps=true exclude each other"):
        BbrSettings(**HERE, adapters_file="a.yaml", adapter_configmaps="true")


GATEWAY = """
apiVersion: extproc.dev/v1alpha1
kind: Gateway
pools:
  - {name: llama, endpoints: {kubernetes: {inferencePool: vllm}}}
  - {name: phi, endpoints: {kubernetes: {selector: {app: phi}, targetPorts: [1], namespace: other}}}
  - {name: here, endpoints: {static: ["127.0.0.9:1"]}}
routes:
  - {models: [m], pool: llama}
  - {models: [p], pool: phi}
  - {models: [h], pool: here}
"""


def gateway(fake: FakeKube, tmp_path: Path, text: str) -> GatewaySettings:
    (tmp_path / "kubeconfig").write_text(fake.kubeconfig())
    (tmp_path / "gateway.yaml").write_text(text)
    return GatewaySettings(
        **{**HERE, "kubeconfig": str(tmp_path / "kubeconfig"), "config_file": str(tmp_path / "gateway.yaml")}
    )


async def test_a_gateway_with_pools_of_kubernetes(fake: FakeKube, tmp_path: Path) -> None:
    fake.put(POOLS, pool(ports=(1,)))
    fake.put("pods", pod("a", "127.0.0.2"))
    fake.put("pods", pod("b", "127.0.0.3", namespace="other", labels={"app": "phi"}))
    async with running(build(gateway(fake, tmp_path, GATEWAY))) as ports:
        await until(lambda: ready(ports.metrics))
        for model, key in (("m", "127.0.0.2:1"), ("p", "127.0.0.3:1"), ("h", "127.0.0.9:1")):
            answers = await exchange(ports.grpc, chat(f'{{"model": "{model}"}}'.encode()))
            assert headers_of(answers[0])[DESTINATION] == key
        fake.delete(POOLS, "vllm")
        await until(lambda: left(ports.metrics, "127.0.0.2"))
        assert await ready(ports.metrics)  # the other pools serve
        answers = await exchange(ports.grpc, chat(BODY))
        assert answers[0].immediate_response.status.code == 503


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("{namespace: a}", "expected exactly one of inferencePool and selector"),
        ("{inferencePool: a, selector: {a: b}, targetPorts: [1]}", "expected exactly one of inferencePool and selector"),
        ("{selector: {a: b}}", "selector and targetPorts need each other"),
        ("{selector: {}, targetPorts: [1]}", "expected exactly one of inferencePool and selector"),
        ("{selector: {a: b}, targetPorts: [1, 1]}", "a port is there twice"),
        ("{inferencePool: a, pool: b}", "unknown key"),
    ],
)
def test_gateway_configs_that_do_not_fit(fake: FakeKube, tmp_path: Path, where: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=rf"pools\[0\]\.endpoints\.kubernetes.*{problem}"):
        build(gateway(fake, tmp_path, GATEWAY.replace("{inferencePool: vllm}", where)))


async def test_objects_reach_the_pool(fake: FakeKube, tmp_path: Path) -> None:
    fake.put(POOLS, pool(ports=(1,)))
    fake.put("pods", pod("a", "127.0.0.2"))
    fake.put("inferenceobjectives.llm-d.ai", objective("urgent", 5))
    fake.put("inferencemodelrewrites.llm-d.ai", rewrite("r", (["m"], ["tuned"])))
    service = build(epp(fake, tmp_path, pool_name="vllm"))
    async with running(service) as ports:
        await until(lambda: ready(ports.metrics))
        await until(lambda: renamed(ports.grpc, b'{"model": "tuned", "messages": []}'))
        async with asyncio.timeout(5):
            while pool_of(service).tables.objectives.live.value.priority_of("urgent") != 5:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        fake.delete("inferencemodelrewrites.llm-d.ai", "r")
        await until(lambda: renamed(ports.grpc, BODY))


async def renamed(port: int, body: bytes) -> bool:
    answers = await exchange(port, chat(BODY))
    return answers[1].request_body.response.body_mutation.streamed_response.body == body
