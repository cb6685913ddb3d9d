"""The end of a service and the beginning of its replacement: who is told what, and who gets the connections."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from extproc.app import Ports, PortsTaken, Service, build
from extproc.names import EXT_PROC_METHOD
from extproc.settings.commands import BbrSettings, EppSettings
from tests.app.running import chat, exchange, headers_of, running, until
from tests.app.test_service import HERE, get, health


async def test_health_at_the_end() -> None:
    """NOT_SERVING at once, while what is open goes on."""
    service = build(BbrSettings(**HERE))
    stop = asyncio.Event()
    ports: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(service.run(stop, ports.set_result))
    where = await ports
    await until(lambda: _is(health(where.health, ""), "SERVING"))
    async with aio.insecure_channel(f"127.0.0.1:{where.grpc}") as channel:
        stream: Any = channel.stream_stream(EXT_PROC_METHOD)()
        await stream.write(chat(b"{}")[0].SerializeToString())
        await until(lambda: _is(_streams(service), 1.0))
        stop.set()
        await until(lambda: _is(health(where.health, ""), "NOT_SERVING"))
        assert await health(where.health, "liveness") == "SERVING"
        assert (await get(where.metrics, "/readyz")) == (503, "not ready: draining\n")
        assert not task.done()
        stream.cancel()
    await task


class TestHandOver:
    """With --reuse-port: who gets the connections of a shared port."""

    async def test_who_is_not_ready_gets_none(self, endpoint: str) -> None:
        shared: dict[str, Any] = {**HERE, "reuse_port": True}
        with socket.create_server(("127.0.0.1", 0)) as silent:
            hangs = f"127.0.0.1:{silent.getsockname()[1]}"
            async with running(build(EppSettings(**shared, endpoints=(endpoint,)))) as first:
                await until(lambda: _is(get(first.metrics, "/readyz"), (200, "ok\n")))
                assert await health(first.health, "") == "SERVING"
                same = {**shared, "grpc_port": first.grpc, "grpc_health_port": first.health}
                service = build(EppSettings(**same, endpoints=(hangs,)))
                async with running(service) as second:
                    status, text = await get(second.metrics, "/readyz")
                    assert (status, text) == (503, "not ready: pool 'epp': 1 of 1 endpoints not asked yet\n")
                    while service.unready() is not None:
                        accepted = service.telemetry.transport.accepted.value
                        assert service.unready() is None or accepted == 0
                        await exchange(first.grpc, chat(b'{"model": "m"}'))
                    await until(lambda: _is(_picked(first.grpc), hangs))

    async def test_who_leaves_gets_none(self) -> None:
        shared: dict[str, Any] = {**HERE, "reuse_port": True}
        old = build(BbrSettings(**shared))
        stop = asyncio.Event()
        ports: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(old.run(stop, ports.set_result))
        where = await ports
        new = build(BbrSettings(**{**shared, "grpc_port": where.grpc, "grpc_health_port": where.health}))
        async with running(new), aio.insecure_channel(f"127.0.0.1:{where.grpc}") as channel:
            stream: Any = channel.stream_stream(EXT_PROC_METHOD)()
            await stream.write(chat(b"{}")[0].SerializeToString())
            await until(lambda: _is(_all_streams(old, new), 1.0))
            stop.set()
            await until(lambda: _is(get(where.metrics, "/readyz"), (503, "not ready: draining\n")))
            for _ in range(10):
                assert await health(where.health, "") == "SERVING"
                assert len(await exchange(where.grpc, chat(b'{"model": "m"}'))) == 2
            stream.cancel()
            await task

    async def test_a_path_that_can_not_be_had_later(self, tmp_path: Path) -> None:
        path = tmp_path / "grpc.sock"
        with socket.create_server(("127.0.0.1", 0)) as silent:
            hangs = f"127.0.0.1:{silent.getsockname()[1]}"
            flags = {**HERE, "reuse_port": True, "grpc_socket": str(path)}
            service = build(EppSettings(**flags, endpoints=(hangs,)))
            with pytest.raises(ExceptionGroup) as caught:
                await service.run(asyncio.Event(), lambda _: path.touch())
        assert caught.group_contains(PortsTaken, match="ext_proc socket: cannot listen on .*: a file is there")


async def _picked(port: int) -> str:
    return headers_of((await exchange(port, chat(b'{"model": "m"}')))[0])["x-gateway-destination-endpoint"]


async def _all_streams(*services: Service) -> float:
    return sum(service.telemetry.streams.open.value for service in services)


async def _is(value: Any, expected: object) -> bool:
    return bool(await value == expected)


async def _streams(service: Service) -> float:
    return service.telemetry.streams.open.value
