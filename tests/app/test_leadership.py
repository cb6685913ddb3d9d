"""Two pickers and one lease: health, readiness and fail-over of whole services."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.app import Ports, Service, build
from extproc.app.cluster import Cluster
from extproc.app.leadership import Leadership
from extproc.kubernetes.election import Timing
from extproc.settings.base import SettingsError
from extproc.settings.commands import EppSettings
from tests.app.running import chat, exchange, headers_of, part, pool_of, running, until
from tests.fakes.kube import FakeKube
from tests.fakes.kube_objects import LEASES

READY = ("", "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor")
HERE: dict[str, Any] = {
    "host": "127.0.0.1",
    "grpc_port": 0,
    "grpc_health_port": 0,
    "metrics_port": 0,
    "drain_timeout": "1s",
    "secure_serving": False,
    "ha_enable_leader_election": True,
    "pool_namespace": "models",
    "pool_name": "llama",
}


@pytest.fixture(autouse=True)
def _over_each_transport(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HERE, "transport", transport)


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    fake = FakeKube()
    await fake.start()
    yield fake
    await fake.kill()


@pytest.fixture
async def endpoint() -> AsyncIterator[str]:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="vllm:num_requests_waiting 0\nvllm:num_requests_running 0\nvllm:kv_cache_usage_perc 0\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", page)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def kubeconfig(fake: FakeKube, tmp_path: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(fake.kubeconfig())
    return str(path)


def replica(kubeconfig: str, endpoint: str, name: str, timing: Timing = Timing(), **flags: Any) -> Service:
    settings = EppSettings(**HERE, kubeconfig=kubeconfig, endpoints=(endpoint,), **flags)
    service = build(settings)
    service.components[service.components.index(part(service, Leadership))] = Leadership(
        settings, part(service, Cluster), service.telemetry.instruments, environ={"POD_NAME": name}, timing=timing
    )
    return service


async def statuses(ports: Ports, names: tuple[str, ...] = (*READY, "liveness")) -> set[str]:
    found = set()
    async with aio.insecure_channel(f"127.0.0.1:{ports.health}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for name in names:
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            found.add(str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)))
    return found


async def readyz(ports: Ports) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{ports.metrics}/readyz") as answer:
        return answer.status, await answer.text()


async def is_ready(ports: Ports) -> bool:
    return (await readyz(ports))[0] == 200


async def test_the_follower_is_warm_and_takes_over_when_the_lease_is_let_go(
    fake: FakeKube, kubeconfig: str, endpoint: str
) -> None:
    first, second = replica(kubeconfig, endpoint, "first"), replica(kubeconfig, endpoint, "second")
    async with contextlib.AsyncExitStack() as stack:
        leader = await stack.enter_async_context(running(first))
        await until(lambda: is_ready(leader))
        async with running(second) as follower:

            async def warm() -> bool:
                return (await readyz(follower))[1].startswith("not ready: not the leader (leader is first_")

            await until(warm)
            lease = fake.get(LEASES, "epp-models-llama.llm-d.ai", "models")
            assert lease["spec"]["holderIdentity"].startswith("first_")
            assert await readyz(follower) == (503, f"not ready: not the leader (leader is {lease['spec']['holderIdentity']})\n")
            assert await statuses(leader) == {"SERVING"}
            assert await statuses(follower, READY) == {"NOT_SERVING"}
            assert await statuses(follower, ("liveness",)) == {"SERVING"}
            # Whoever asks it all the same gets an answer: it knows the pool.
            (answer, *_) = await exchange(follower.grpc, chat(b'{"model": "m"}'))
            assert headers_of(answer)["x-gateway-destination-endpoint"] == endpoint
            await stack.aclose()
            async with asyncio.timeout(1):
                while not await is_ready(follower):  # noqa: ASYNC110  # another server's state
                    await asyncio.sleep(0.01)
            assert await statuses(follower) == {"SERVING"}


async def test_a_leader_that_was_replaced_serves_no_more(fake: FakeKube, kubeconfig: str, endpoint: str) -> None:
    quick = Timing(lease_s=15, renew_deadline_s=10, retry_s=0.05, look_s=0.05)
    async with running(replica(kubeconfig, endpoint, "first", quick)) as ports:
        await until(lambda: is_ready(ports))
        lease = fake.get(LEASES, "epp-models-llama.llm-d.ai", "models")
        fake.put(LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": "other"}})

        async def stepped_down() -> bool:
            return await statuses(ports, READY) == {"NOT_SERVING"}

        await until(stepped_down)
        assert await readyz(ports) == (503, "not ready: not the leader (leader is other)\n")


async def test_the_lease_s_name_may_be_chosen(fake: FakeKube, kubeconfig: str, endpoint: str) -> None:
    async with running(replica(kubeconfig, endpoint, "first", ha_lease_name="mine")) as ports:
        await until(lambda: is_ready(ports))
        assert fake.get(LEASES, "mine", "models")


async def test_who_does_not_know_its_pool_does_not_compete(fake: FakeKube, kubeconfig: str, endpoint: str) -> None:
    service = replica(kubeconfig, endpoint, "first")
    pool = pool_of(service)
    known = pool.unready
    pool.unready = lambda: "pool 'llama' does not exist"  # type: ignore[method-assign]
    async with running(service) as ports:
        for _ in range(5):
            assert await readyz(ports) == (503, "not ready: pool 'llama' does not exist\n")
        assert LEASES not in fake.objects
        pool.unready = known  # type: ignore[method-assign]
        await until(lambda: is_ready(ports))
        assert fake.objects[LEASES]


async def test_no_access_is_said_before_anything_listens(tmp_path: Path, endpoint: str) -> None:
    service = replica(str(tmp_path / "none"), endpoint, "first")
    with pytest.raises(SettingsError, match="--ha-enable-leader-election: "):
        await service.run(asyncio.Event())
