"""The server on real sockets, with a client that is not ours; on both event loops."""

from __future__ import annotations

import asyncio

import pytest

from extproc.domain import Decision
from extproc.sockets.listen import BindError, Tcp
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.server import H2Server
from tests.fakes import messages
from tests.fakes.decider import FakeDecider
from tests.fakes.http2 import GRPC, goaway, headers, lines, rst
from tests.fakes.hyper import HyperClient
from tests.fakes.peers import PeerWire
from tests.fakes.sockets import Socket
from tests.fakes.wire import counted, services_of
from tests.transport.h2.serving import REQUEST, answered, connected, serving

WATCH = (*GRPC[:2], (":path", "/grpc.health.v1.Health/Watch"), *GRPC[3:])


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
        assert wire.transport.asked == ["write eof"]


async def test_a_failing_connection_leaves_the_others_alone() -> None:
    async with serving() as running, connected(running) as good:
        stream = await answered(good, REQUEST)
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"nonsense" * 10)
        await running.until(lambda: counted(running.services.transport.faults) == {"not_http2": 1})
        good.client.end(stream)
        await good.until(lambda: good.client.calls[stream].ended)
        writer.close()
