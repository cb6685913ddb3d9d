"""How connections end: gracefully, in two steps, and without losing what was said last; on both event loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc
import pytest
from grpc import aio

from extproc.domain import Decision
from extproc.transport.h2 import peer
from extproc.transport.h2 import server as module
from extproc.transport.h2.outbox import SLICE
from extproc.transport.h2.peer import Peer
from tests.fakes import messages
from tests.fakes.decider import FakeDecider
from tests.fakes.http2 import PROCESS, data, goaway, headers, lines, message, ping, settings, window, with_path
from tests.fakes.peers import FakeTransport, PeerWire
from tests.fakes.sockets import HandClient, Socket
from tests.fakes.wire import services_of
from tests.transport.h2.serving import REQUEST, by_hand, serving

Stopping = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


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


class TestTheEnd:
    """Our side is closed, and the peer's bytes are read until it closes its own: a reset could take back our last words."""

    def drained(self) -> PeerWire:
        wire = PeerWire()
        wire.peer.drain()
        wire.send(ping(b"draining", ack=True))
        assert wire.transport.asked == ["write eof"]
        return wire

    async def test_of_a_peer_that_closes(self) -> None:
        wire = self.drained()
        assert wire.peer.eof_received() is False  # asyncio closes
        wire.lose()
        assert wire.services.transport.connections.value == 0
        wire.wait(10)
        assert wire.transport.asked == ["write eof"]

    async def test_of_a_peer_that_does_not(self) -> None:
        wire = self.drained()
        wire.wait(1)
        assert wire.transport.asked == ["write eof"]
        wire.wait(1)
        assert wire.transport.asked == ["write eof", "abort"]

    async def test_of_a_peer_that_still_reads(self) -> None:
        """What is still in the socket's buffer may be answers."""
        wire = self.drained()
        wire.transport.unwritten = 1
        wire.wait(59)
        assert wire.transport.asked == ["write eof"]
        wire.wait(1)
        assert wire.transport.asked == ["write eof", "abort"]

    async def test_of_a_peer_that_still_sends(self) -> None:
        wire = self.drained()
        assert wire.send(ping(), headers(1, end=True)) == []
        wire.lose()
        assert wire.services.streams.open.value == 0

    @pytest.mark.parametrize("fault", [False, True])
    async def test_over_tls(self, fault: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """TLS has no half close."""
        monkeypatch.setattr(FakeTransport, "can_write_eof", lambda _: False)
        wire = PeerWire()
        if fault:
            wire.send(ping(b""))
            assert wire.transport.asked == []
            wire.wait(2)
            assert wire.transport.asked == ["abort"]
        else:
            wire.send(goaway())
            assert wire.transport.asked == ["close"]

    async def test_on_a_socket(self) -> None:
        """A client that goes on sending after its GOAWAY sees the end, not a reset."""
        async with serving() as running, by_hand(running) as (sock, _):
            sock.client.send(goaway())
            sock.flush()
            await running.until(lambda: any(peer._closing for peer in running.server._peers))
            sock.client.send(ping())
            await sock.until_lost()
            await running.until(lambda: running.connections == (0, 1))


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
        monkeypatch.setattr(peer, "_GOAWAY_WAIT_S", 0.01)
        async with serving() as running, by_hand(running) as (sock, heard):
            stopping(running.server.stop(5))
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
        assert wire.transport.asked == ["write eof", "abort"]
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

    async def test_a_second_stop_ends_at_once(self, monkeypatch: pytest.MonkeyPatch, stopping: Stopping) -> None:
        monkeypatch.setattr(module, "_LEAVE_S", 0.05)  # for a peer that does not close its side
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


class TestLargeAnswers:
    """They are written in slices, each when the socket has taken the one before."""

    SIZE = 200 * 60_000

    async def under_way(self) -> PeerWire:
        wire = PeerWire(services=services_of(FakeDecider(Decision())))
        wire.send(settings(INITIAL_WINDOW_SIZE=2**30), window(0, 2**30))
        wire.send(headers(1), data(1, message(messages.request_headers(modes=(4, 0)))))
        for _ in range(200):
            for frame in (message(messages.request_body(bytes(60_000)))[at : at + 16_000] for at in range(0, 61_000, 16_000)):
                wire.peer.data_received(bytes(data(1, frame)))
        assert sum(line.startswith("DATA") for line in wire.sent()) == 0
        wire.peer.data_received(bytes(data(1, message(messages.request_body(b"", end=True)))))
        return wire

    async def test_wait_for_the_socket(self) -> None:
        wire = await self.under_way()
        out = wire.transport.out
        assert SLICE <= len(out) < SLICE + 2**20
        await asyncio.sleep(0)
        assert 2 * SLICE <= len(out) < 2 * SLICE + 2**20
        wire.peer.pause_writing()
        written = len(out)
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(out) == written
        assert wire.services.held.bytes == wire.peer._connection.outbox.unsent > self.SIZE - written
        wire.peer.resume_writing()
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(out) > self.SIZE
        assert wire.services.held.bytes == 0

    async def test_are_whole_before_the_end_of_our_side(self) -> None:
        wire = await self.under_way()
        wire.peer.leave()
        assert len(wire.transport.out) > self.SIZE
        assert wire.transport.asked == ["write eof"]
