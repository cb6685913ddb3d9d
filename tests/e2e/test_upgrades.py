"""WebSockets through a real Envoy: decided on their headers, untouched both ways, in flight until they close."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived

from extproc.domain import Endpoint
from extproc.pool import PoolStore
from extproc.protocol import OnHeaders, StreamLimits
from extproc.request import UPGRADE_MARKS, is_upgrade
from tests.e2e.front import Front, envoy_before
from tests.fakes.deployment import Deployment
from tests.fakes.page import counted

pytestmark = pytest.mark.e2e

LIMITS = StreamLimits(max_body_bytes=4096, request_timeout_s=1.0, on_headers=OnHeaders(is_upgrade, UPGRADE_MARKS))
REALTIME = "/v1/realtime?model=whisper"


class Server:
    """A model server with a WebSocket that echoes, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def realtime(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        if "refused" in request.query:
            return web.json_response({"error": "no"}, status=403)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                await socket.send_str("echo " + message.data)
            elif message.type == aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data[::-1])
        return socket


class Through:
    """A gateway of two pools behind Envoy."""

    def __init__(self, front: Front, server: Server, deployment: Deployment, store: PoolStore) -> None:
        self.url = front.url
        self.server = server
        self.deployment = deployment
        self._store = store

    @property
    def in_flight(self) -> int:
        return self._store.describe()[0].in_flight

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # Envoy's last word


@pytest.fixture(params=["NONE", "FULL_DUPLEX_STREAMED"])
async def through(request: pytest.FixtureRequest, envoy_binary: Path, tmp_path: Path) -> AsyncIterator[Through]:
    deployment = Deployment()
    server = Server()
    director = Deferred()
    async with envoy_before(director, envoy_binary, tmp_path, request.param, limits=LIMITS) as front:
        store = deployment.add_pool("speech", [Endpoint("127.0.0.1", front.upstream)])
        deployment.add_pool("text", 1)
        director.is_now(
            deployment.director(
                deployment.headers(), deployment.routes(speech=["whisper"], text=["llama"]), deployment.picker(None)
            )
        )
        app = web.Application()
        app.router.add_get("/v1/realtime", server.realtime)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", front.upstream).start()
        try:
            yield Through(front, server, deployment, store)
        finally:
            await runner.cleanup()


class Deferred:
    """A decider that is made when the ports are known."""

    def __init__(self) -> None:
        self._real: Any = None

    def is_now(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@contextlib.asynccontextmanager
async def opened(through: Through, path: str = REALTIME) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session, session.ws_connect(through.url + path, timeout=WAIT) as socket:
        yield socket


WAIT = aiohttp.ClientWSTimeout(ws_receive=10, ws_close=10)


async def test_an_exchange(through: Through) -> None:
    async with opened(through) as socket:
        for number in range(20):
            await socket.send_str(f"piece {number}")
            assert await socket.receive_str() == f"echo piece {number}"
        await socket.send_bytes(bytes(range(256)) * 400)  # far over the limit of bodies
        assert await socket.receive_bytes() == (bytes(range(256)) * 400)[::-1]
        assert through.in_flight == 1
    await through.until(lambda: through.in_flight == 0)
    assert through.server.asked == [REALTIME]
    shown = counted(through.deployment.instruments, "inference_objective_request_total")
    assert list(shown.values()) == [1]
    assert 'model_name="whisper"' in next(iter(shown))


async def test_it_outlives_the_time_that_a_request_has(through: Through) -> None:
    async with opened(through) as socket:
        for _ in range(8):
            await asyncio.sleep(0.2)  # more than request_timeout_s together, which is what is tried
            await socket.send_str("still")
            assert await socket.receive_str() == "echo still"
        assert through.in_flight == 1


async def test_the_server_s_refusal_comes_through(through: Through) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with opened(through, REALTIME + "&refused=1"):
            pass
    assert caught.value.status == 403
    await through.until(lambda: through.in_flight == 0)


@pytest.mark.parametrize(("path", "status"), [("/v1/realtime", 400), ("/v1/realtime?model=nobody", 404)])
async def test_ours_do_too(through: Through, path: str, status: int) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with opened(through, path):
            pass
    assert caught.value.status == status
    assert through.server.asked == []


async def test_a_client_that_is_gone_is_no_longer_in_flight(through: Through) -> None:
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(through.url + REALTIME)
        await socket.send_str("x")
        assert await socket.receive_str() == "echo x"
        assert socket._response.connection is not None
        transport = socket._response.connection.transport
        assert transport is not None
        transport.abort()
        await through.until(lambda: through.in_flight == 0)


async def test_over_http2(through: Through) -> None:
    """Extended CONNECT (RFC 8441), which Envoy shows us as an upgrade."""
    host, _, port = through.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    peer = H2Connection(H2Configuration())
    peer.initiate_connection()
    stream = peer.get_next_available_stream_id()
    head = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", REALTIME)]
    # HTTP/1 upstream wants a key, which HTTP/2 has not and Envoy does not make.
    key = [("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]
    peer.send_headers(stream, [*head, (":authority", "x"), *key])
    peer.send_data(stream, MASKED_HELLO)
    writer.write(peer.data_to_send())
    status: object = None
    got = b""
    async with asyncio.timeout(5):
        while ECHOED_HELLO not in got:
            for event in peer.receive_data(await reader.read(65536)):
                if isinstance(event, ResponseReceived):
                    status = dict(event.headers).get(b":status")
                elif isinstance(event, DataReceived):
                    got += event.data
            writer.write(peer.data_to_send())
    assert status == b"200"
    assert through.in_flight == 1
    writer.close()
    await writer.wait_closed()
    await through.until(lambda: through.in_flight == 0)


MASKED_HELLO = bytes((0x81, 0x85, 0, 0, 0, 0)) + b"hello"
ECHOED_HELLO = bytes((0x81, 10)) + b"echo hello"
