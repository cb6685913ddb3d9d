"""The server on real sockets, with a client that is not ours; on both event loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio

from extproc.domain import Decision
from extproc.transport.h2 import server as module
from extproc.transport.h2.calls import Services
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.server import H2Server, Peer
from extproc.transport.listen import BindError, Tcp
from tests.fakes import messages
from tests.fakes.decider import FakeDecider
from tests.fakes.http2 import GRPC, PROCESS, data, goaway, headers, lines, message, ping, rst, settings, window, with_path
from tests.fakes.hyper import HyperClient
from tests.fakes.peers import FakeTransport, PeerWire
from tests.fakes.sockets import HandClient, Socket
from tests.fakes.wire import counted, services_of

REQUEST = messages.request_headers(modes=(0, 0), end=True)
WATCH = (*GRPC[:2], (":path", "/grpc.health.v1.Health/Watch"), *GRPC[3:])


class Running:
    """A server that listens, and what it says of itself."""

    def __init__(self, server: H2Server, port: int) -> None:
        self.server = server
        self.port = port

    @property
    def services(self) -> Services:
        return self.server.services

    @property
    def connections(self) -> tuple[int, int]:
        """Open now, and accepted so far."""
        metrics = self.services.transport
        return int(metrics.connections.value), int(metrics.accepted.value)

    @property
    def ended(self) -> dict[str, int]:
        return counted(self.services.streams.streams)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the server work until the condition holds."""
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0)  # the condition is what the server makes of its sockets


@asynccontextmanager
async def serving(limits: H2Limits = H2Limits(), *, decider: FakeDecider | None = None) -> AsyncIterator[Running]:
    services = services_of(decider or FakeDecider(Decision(ticket=object())))
    server = H2Server(services, limits)
    running = Running(server, await server.start(Tcp("127.0.0.1", 0)))
    try:
        yield running
    finally:
        async with asyncio.timeout(5):
            await server.stop(0)
    assert running.connections[0] == 0
    assert services.streams.open.value == 0
    assert services.health.watchers == 0


@asynccontextmanager
async def connected(running: Running, *, window: int = 65_535) -> AsyncIterator[Socket[HyperClient]]:
    sock = await Socket.connect(HyperClient(window=window), running.port)
    try:
        yield sock
    finally:
        await sock.close()


@asynccontextmanager
async def by_hand(running: Running) -> AsyncIterator[tuple[Socket[HandClient], list[str]]]:
    """A client by hand, and what it hears."""
    sock = await Socket.connect(HandClient(), running.port)
    try:
        await sock.until(lambda: "SETTINGS ack" in sock.client.heard)
        yield sock, sock.client.heard
    finally:
        await sock.close()


async def answered(sock: Socket[HyperClient], *raws: bytes) -> int:
    """Open a call and get its answers; its stream."""
    client = sock.client
    stream = client.open()
    for raw in raws:
        client.send(stream, raw)
    await sock.until(lambda: len(client.calls[stream].data) > 0)
    return stream


@pytest.fixture
async def stopping() -> AsyncIterator[Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]]:
    """Starts a stop that the test goes on during."""
    tasks: list[asyncio.Task[None]] = []

    def start(stop: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(stop))
        return tasks[-1]

    yield start
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)


async def test_a_call() -> None:
    async with serving() as running, connected(running) as sock:
        stream = await answered(sock, REQUEST)
        assert running.connections == (1, 1)
        sock.client.end(stream)
        call = sock.client.calls[stream]
        await sock.until(lambda: call.ended)
        assert call.status == (0, "")
        assert call.headers[":status"] == "200"
        assert len(call.messages) == 1
        assert running.ended == {"OK": 1}


async def test_a_large_body_through_small_windows() -> None:
    body = bytes(range(256)) * 2000
    async with serving() as running, connected(running, window=1000) as sock:
        client = sock.client
        stream = client.open()
        for raw in (
            messages.request_headers(),
            *(messages.request_body(body[at : at + 60_000]) for at in range(0, len(body), 60_000)),
        ):
            client.send(stream, raw)
        client.send(stream, messages.request_body(b"", end=True))
        client.end(stream)
        await sock.until(lambda: client.calls[stream].ended)
        told = messages.answers(client.calls[stream].messages)
        assert b"".join(a.request_body.response.body_mutation.streamed_response.body for a in told) == body


async def test_many_calls_at_once() -> None:
    async with serving() as running, connected(running) as one, connected(running) as other:
        for sock in (one, other):
            for _ in range(50):
                stream = sock.client.open()
                sock.client.send(stream, REQUEST)
                sock.client.end(stream)
        for sock in (one, other):
            calls = sock.client.calls.values()
            await sock.until(lambda calls=calls: all(call.ended for call in calls))  # type: ignore[misc]
            assert {call.status for call in calls} == {(0, "")}
        assert running.ended == {"OK": 100}
        assert running.connections == (2, 2)


async def test_ports_that_are_taken_are_named() -> None:
    async with serving() as running:
        with pytest.raises(BindError, match=rf"health port {running.port}: cannot listen on 127\.0\.0\.1:{running.port}: "):
            await H2Server(running.services, name="health").start(Tcp("127.0.0.1", running.port))


async def test_hosts_that_are_not_ours() -> None:
    with pytest.raises(BindError, match=r"ext_proc port 0: cannot listen on 192\.0\.2\.1:0"):
        await H2Server(services_of(None)).start(Tcp("192.0.2.1", 0))


async def test_ipv6() -> None:
    server = H2Server(services_of(None))
    try:
        port = await server.start(Tcp("::1", 0))
    except BindError as error:
        pytest.skip(f"no IPv6 here: {error}")
    sock = await Socket.connect(HyperClient(), port, host="::1")
    stream = sock.client.open()
    await sock.until(lambda: sock.client.calls[stream].ended)
    await sock.close()
    await server.stop(0)


async def test_a_client_of_http1_is_closed() -> None:
    async with serving(H2Limits(preface_timeout_s=0.1)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(5):
            told = await reader.read()
        assert lines(told)[-1] == "GOAWAY 0 PROTOCOL_ERROR"
        writer.close()
        await running.until(lambda: running.connections == (0, 1))
        assert counted(running.services.transport.faults) == {"not_http2": 1}


async def test_a_peer_that_says_nothing_is_closed() -> None:
    async with serving(H2Limits(preface_timeout_s=0.02)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
        assert counted(running.services.transport.faults) == {"preface_timeout": 1}


class TestPeersThatVanish:
    async def test_without_a_word(self) -> None:
        decider = FakeDecider(Decision(ticket=object()))
        async with serving(decider=decider) as running:
            sock = await Socket.connect(HyperClient(), running.port)
            await answered(sock, REQUEST)
            sock.client.open(WATCH)
            sock.client.open()
            sock.flush()
            await running.until(lambda: running.services.streams.open.value == 2)
            sock.vanish()
            await running.until(lambda: running.connections == (0, 1))
            assert running.ended == {"CANCELLED": 2}
            assert len(decider.ended) == 1

    async def test_by_half_closing(self) -> None:
        async with serving() as running, connected(running) as sock:
            await answered(sock, REQUEST)
            sock.half_close()
            await sock.until_lost()
            await running.until(lambda: running.connections == (0, 1))
            assert running.ended == {"CANCELLED": 1}

    async def test_inside_a_frame(self) -> None:
        async with serving() as running:
            _, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\6\4")
            await running.until(lambda: running.connections == (1, 1))
            writer.transport.abort()
            await running.until(lambda: running.connections == (0, 1))

    async def test_with_goaway(self) -> None:
        wire = PeerWire()
        wire.send(headers(1), goaway())
        assert wire.transport.asked == []
        wire.send(rst(1))
        assert wire.transport.asked == ["close"]


Stopping = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class TestDrain:
    async def test_in_two_steps(self, stopping: Stopping) -> None:
        async with serving() as running, by_hand(running) as (sock, heard):
            sock.client.send(headers(1), data(1, message(REQUEST)))
            await sock.until(lambda: heard[-1].startswith("DATA"))
            stop = stopping(running.server.stop(5))
            await sock.until(lambda: "PING b'draining'" in heard)
            assert heard[-2:] == ["GOAWAY 2147483647 NO_ERROR", "PING b'draining'"]
            # What was opened before that was read is served.
            sock.client.send(headers(3, end=True), ping(b"draining", ack=True))
            await sock.until(lambda: heard[-1].startswith("GOAWAY"))
            assert heard[-2:] == ["HEADERS 3 :status=200 content-type=application/grpc grpc-status=0 end", "GOAWAY 3 NO_ERROR"]
            sock.client.send(headers(5, end=True), data(1, end=True))
            assert not stop.done()
            await sock.until_lost()
            await stop
            assert heard[-1] == "HEADERS 1 grpc-status=0 end"
            assert running.ended == {"OK": 2}

    async def test_is_said_once(self) -> None:
        wire = PeerWire()
        wire.sent()
        wire.send(headers(1))
        wire.peer.drain()
        wire.peer.drain()
        assert wire.sent() == ["GOAWAY 2147483647 NO_ERROR", "PING b'draining'"]
        assert wire.send(ping(b"draining", ack=True)) == ["GOAWAY 1 NO_ERROR"]
        assert wire.send(ping(b"draining", ack=True)) == []
        assert wire.transport.asked == []

    async def test_a_peer_that_does_not_answer_the_ping(self, monkeypatch: pytest.MonkeyPatch, stopping: Stopping) -> None:
        monkeypatch.setattr(module, "_GOAWAY_WAIT_S", 0.01)
        async with serving() as running, by_hand(running) as (sock, heard):
            await stopping(running.server.stop(5))
            await sock.until_lost()
            assert heard[-3:] == ["GOAWAY 2147483647 NO_ERROR", "PING b'draining'", "GOAWAY 0 NO_ERROR"]

    async def test_grpcs_own_client(self, stopping: Stopping) -> None:
        """Its open call is finished, and the next one goes elsewhere."""
        async with serving() as running, aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            call: Any = channel.stream_stream(PROCESS)()
            await call.write(REQUEST)
            await call.read()
            stopping(running.server.stop(5))
            await running.until(lambda: not running.server._listeners)
            await call.done_writing()
            assert await call.read() is aio.EOF
            assert await call.code() is grpc.StatusCode.OK

    async def test_nobody_can_connect(self, stopping: Stopping) -> None:
        async with serving() as running, by_hand(running) as (sock, heard):
            sock.client.send(headers(1))
            sock.flush()
            stopping(running.server.stop(5))
            await sock.until(lambda: "PING b'draining'" in heard)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", running.port)
            sock.vanish()

    async def test_a_connection_that_comes_late_is_drained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_LEAVE_S", 0.01)
        wire = PeerWire()
        await wire.server.stop(0)
        assert wire.transport.asked == ["close", "abort"]
        peer = Peer(wire.server)
        late = FakeTransport(peer)
        peer.connection_made(late)
        assert lines(bytes(late.out))[-2:] == ["GOAWAY 2147483647 NO_ERROR", "PING b'draining'"]

    async def test_the_end_of_the_grace(self, stopping: Stopping) -> None:
        """What is under way goes on without us, what is undecided is told."""
        async with serving() as running, by_hand(running) as (sock, heard):
            sock.client.send(headers(1), data(1, message(REQUEST) + message(messages.response_headers())))
            sock.client.send(headers(3), data(3, message(messages.request_headers())))
            sock.client.send(headers(5, with_path("/grpc.health.v1.Health/Watch")), data(5, message()))
            await sock.until(lambda: any(line.startswith("DATA 5") for line in heard))
            stopping(running.server.stop(0.01))
            await sock.until_lost()
            ends = [line for line in heard if line.endswith(" end")]
            gone = "grpc-status=14 grpc-message=the server is shutting down end"
            assert ends[0] == "HEADERS 1 grpc-status=0 end"
            assert ends[1] == f"HEADERS 3 :status=200 content-type=application/grpc {gone}"
            assert ends[2] == f"HEADERS 5 {gone}"
            assert running.ended == {"OK": 1, "UNAVAILABLE": 1}

    async def test_a_second_stop_ends_at_once(self, stopping: Stopping) -> None:
        async with serving() as running, by_hand(running) as (sock, heard):
            sock.client.send(headers(1))
            first = stopping(running.server.stop(60))
            await sock.until(lambda: "PING b'draining'" in heard)
            async with asyncio.timeout(3):
                await running.server.stop(0)
                await first

    async def test_a_peer_that_reads_nothing_cannot_hold_it_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What it sent comes back to it, until all the buffers on the way are full."""
        monkeypatch.setattr(module, "_LEAVE_S", 0.05)
        async with serving() as running:
            sock = await Socket.connect(HandClient(), running.port, buffer=4096)
            sock._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.client.send(settings(INITIAL_WINDOW_SIZE=2**30), window(0, 2**30))
            start = messages.request_headers(modes=(0, 4), end=True), messages.response_headers()
            whole = b"".join(map(message, (*start, messages.response_body(bytes(1_000_000)))))
            for stream in range(1, 33, 2):
                pieces = [data(stream, whole[at : at + 16_384]) for at in range(0, len(whole), 16_384)]
                sock.client.send(headers(stream), *pieces)
            sock.flush()
            await running.until(lambda: any(peer._paused for peer in running.server._peers))
            async with asyncio.timeout(3):
                await running.server.stop(0)
            assert running.connections == (0, 1)
            sock.vanish()

    async def test_without_anybody(self) -> None:
        async with serving() as running:
            await running.server.stop(60)


async def test_a_failing_connection_leaves_the_others_alone() -> None:
    async with serving() as running, connected(running) as good:
        stream = await answered(good, REQUEST)
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"nonsense" * 10)
        await running.until(lambda: counted(running.services.transport.faults) == {"not_http2": 1})
        good.client.end(stream)
        await good.until(lambda: good.client.calls[stream].ended)
        writer.close()
