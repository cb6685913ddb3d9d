"""gRPC health and its HTTP pages of a whole service, over each transport and on both ports."""

from __future__ import annotations

from typing import Any

import aiohttp
import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.app import Service, build
from extproc.settings.commands import EppSettings
from tests.app.running import pool_of, running, until

READY = ("", "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor")
HERE: dict[str, Any] = {
    "host": "127.0.0.1",
    "grpc_port": 0,
    "grpc_health_port": 0,
    "metrics_port": 0,
    "drain_timeout": "1s",
    "secure_serving": False,
    "endpoints": ("127.0.0.1:1",),
}


@pytest.fixture
def service(transport: str) -> Service:
    return build(EppSettings.model_validate({**HERE, "transport": transport}))


def name_of(status: Any) -> str:
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))


async def checked(stub: Any, service: str) -> str:
    return name_of((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def page(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_names_upstream_has_and_those_it_has_not(service: Service) -> None:
    async with running(service) as ports:

        async def ready() -> bool:
            return (await page(ports.metrics, "/readyz"))[0] == 200

        await until(ready)
        for port in (ports.health, ports.grpc):
            async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                for name in (*READY, "liveness"):
                    assert await checked(stub, name) == "SERVING"
                with pytest.raises(aio.AioRpcError) as caught:
                    await checked(stub, "other")
                assert caught.value.code() is grpc.StatusCode.NOT_FOUND
                watch = stub.Watch(health_pb2.HealthCheckRequest(service="other"))
                assert name_of((await watch.read()).status) == "SERVICE_UNKNOWN"
                watch.cancel()
                request = health_pb2.HealthListRequest()  # type: ignore[attr-defined]  # newer than its stubs
                listed = await stub.List(request)
                assert {name: name_of(answer.status) for name, answer in listed.statuses.items()} == dict.fromkeys(
                    (*READY, "liveness"), "SERVING"
                )


async def test_unready_is_no_reason_to_be_restarted(service: Service) -> None:
    pool_of(service).unready = lambda: "pool 'epp' does not exist"  # type: ignore[method-assign]
    async with running(service) as ports:
        assert await page(ports.metrics, "/healthz") == (200, "ok\n")
        assert await page(ports.metrics, "/readyz") == (503, "not ready: pool 'epp' does not exist\n")
        async with aio.insecure_channel(f"127.0.0.1:{ports.health}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            for name in READY:
                assert await checked(stub, name) == "NOT_SERVING"
            assert await checked(stub, "liveness") == "SERVING"
