"""Clients that say half of something, or take nothing, are let go; the others are served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from extproc.kubernetes.reviews import Refusal
from extproc.sockets.bounds import Connections
from extproc.sockets.bounds import _Connection as Served
from tests.admin.pages import Client, brief, client, get, inside, serving
from tests.fakes.certificates import Authority, trusting

WHOLE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("half", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
async def test_half_a_request(half: bytes) -> None:
    async with serving(bounds=brief(header_timeout_s=0.05)) as port, client(port) as one:
        one.say(half)
        assert await one.closed() == b""


async def test_a_byte_now_and_then_gains_nothing() -> None:
    """The time is for all headers, and not from byte to byte."""

    async def drip(one: Client) -> None:
        while True:
            one.say(b"a: b\r\n")
            await asyncio.sleep(0.01)

    async with serving(bounds=brief(header_timeout_s=0.1)) as port, client(port) as one:
        one.say(b"GET /healthz HTTP/1.1\r\n")
        dripping = asyncio.create_task(drip(one))
        assert await one.closed() == b""
        dripping.cancel()


async def test_half_a_second_request() -> None:
    async with serving(bounds=brief(header_timeout_s=0.05)) as port, client(port) as one:
        one.say(WHOLE)
        assert (await one.answer()).body == b"ok\n"
        one.say(b"GET")
        assert await one.closed() == b""


async def test_silence_after_an_answer() -> None:
    async with serving(bounds=brief(idle_timeout_s=0.1, answer_timeout_s=0.05)) as port, client(port) as one:
        one.say(WHOLE)
        assert (await one.answer()).status == 200
        assert await one.closed() == b""


async def test_a_connection_serves_many_requests() -> None:
    async with serving(bounds=brief(header_timeout_s=0.2, answer_timeout_s=0.2)) as port, client(port) as one:
        for _ in range(20):
            one.say(WHOLE)
            assert (await one.answer()).status == 200
            await asyncio.sleep(0.02)  # longer in all than any of the times


async def test_half_a_body() -> None:
    def explain(*_: object) -> dict[str, object]:
        raise AssertionError("there is nothing to explain yet")

    async with serving(inside(explain=explain), bounds=brief(body_timeout_s=0.05)) as port, client(port) as one:
        one.say(b"POST /debug/explain HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        answer = await one.answer()
        assert (answer.status, answer.body) == (408, b"the body did not come within 0.05 s\n")
        assert await one.closed() == b""


async def test_an_answer_that_is_not_taken() -> None:
    def metrics() -> Iterator[Metric]:
        for number in range(3000):
            yield GaugeMetricFamily(f"m{number}", "x" * 10_000, value=1)

    async with serving(inside(metrics=metrics), bounds=brief(answer_timeout_s=0.3)) as port:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setblocking(False)
            sock.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0.5)  # nobody reads
            taken = 0
            with contextlib.suppress(ConnectionError):
                while some := await asyncio.get_running_loop().sock_recv(sock, 2**20):
                    taken += len(some)
            assert taken < 30_000_000


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /%s HTTP/1.1\r\n\r\n" % (b"a" * 9000), 400),
        (b"GET / HTTP/1.1\r\na: %s\r\n\r\n" % (b"a" * 9000), 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 400),
    ],
    ids=["line", "field", "fields"],
)
async def test_headers_are_bounded(request_: bytes, status: int) -> None:
    async with serving() as port, client(port) as one:
        one.say(request_)
        assert (await one.answer()).status == status


async def test_half_requests_in_numbers_keep_nobody_out() -> None:
    """One more takes the place of the one that has waited longest."""
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(bounds=brief(max_connections=8)))
        halves = [await stack.enter_async_context(client(port)) for _ in range(20)]
        for each in halves:
            each.say(b"GET /")
        assert (await get(port, "/healthz")).status == 200
        for each in halves[:12]:
            assert await each.closed() == b""
        halves[-1].say(b"healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await halves[-1].answer()).status == 200


async def test_idle_ones_make_room_after_halves() -> None:
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(bounds=brief(max_connections=2)))
        idle = await stack.enter_async_context(client(port))
        idle.say(WHOLE)
        await idle.answer()
        half = await stack.enter_async_context(client(port))
        half.say(b"GET")
        assert (await get(port, "/healthz")).status == 200
        assert await half.closed() == b""
        idle.say(WHOLE)
        assert (await idle.answer()).status == 200


async def test_those_who_wait_for_a_page_are_not_sent_away() -> None:
    """With all places theirs, one more is refused."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Slow:
        async def refusal(self, authorization: str, method: str, path: str) -> None:
            asked.set()
            await go_on.wait()

    async with serving(guard=Slow(), bounds=brief(max_connections=1)) as port, client(port) as one:
        one.say(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await asked.wait()
        async with client(port) as late:
            late.say(WHOLE)
            assert await late.closed() == b""
        go_on.set()
        assert (await one.answer()).status == 200


class Told(asyncio.Transport):
    """Remembers what it was told about reading."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def pause_reading(self) -> None:
        self.said.append("pause")

    def resume_reading(self) -> None:
        self.said.append("resume")

    def is_closing(self) -> bool:
        return False


class Heard(asyncio.Protocol):
    def __init__(self) -> None:
        self.bytes = 0

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)


async def test_what_is_left_of_a_body_is_dropped_slowly() -> None:
    """An upload that has its answer: no more of it is looked at than a request may have, and it is read with pauses."""
    transport, heard = Told(), Heard()
    connections = Connections(brief(linger_pause_s=0.0, linger_bytes=150_000), lambda: heard)
    one = connections()
    assert isinstance(one, Served)
    one.connection_made(transport)
    for _ in range(4):
        one.data_received(b"x" * 100_000)
    one.answer(done=False)
    one.answer(done=True)
    one.data_received(b"x" * 100_000)
    one.answer(done=False)
    assert (transport.said, heard.bytes) == ([], 500_000), "bodies that are wanted, and the next request"
    one.answer(done=True)
    for _ in range(2):
        one.data_received(b"x" * 100_000)
    assert (transport.said, heard.bytes) == ([], 700_000)
    one.data_received(b"x" * 100_000)
    assert (transport.said, heard.bytes) == (["pause"], 700_000)
    await asyncio.sleep(0.001)
    assert transport.said == ["pause", "resume"]
    one.data_received(b"x" * 100_000)
    one.connection_lost(None)
    await asyncio.sleep(0.001)
    assert (transport.said, heard.bytes) == (["pause", "resume", "pause"], 700_000), "and nothing after its end"


async def test_dropping_is_slow_for_all_together() -> None:
    connections = Connections(brief(linger_pause_s=10.0), Heard)
    pauses = [connections.pause_s() for _ in range(3)]
    assert pauses == pytest.approx([10.0, 20.0, 30.0], abs=1.0)


async def test_an_upload_that_is_not_wanted_sees_its_answer() -> None:
    """All of it may come, and the client reads 413."""
    async with serving(inside(explain=lambda *_: {}), bounds=brief(linger_s=0.5)) as port, client(port) as one:
        one.say(b"POST /debug/explain HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b" " * 3_000_000)
        answer = await one.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert await one.closed() == b""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET /healthz", 200),
        ("GET /metrics", 200),
        ("GET /nowhere", 404),
        ("PUT /healthz", 405),
        ("POST /debug/explain", 403),
    ],
)
async def test_an_answer_before_the_whole_request_is_the_last(request_: str, status: int) -> None:
    """A proxy that keeps the connection would put the next request behind what is dropped."""

    class Nobody:
        async def refusal(self, authorization: str, method: str, path: str) -> Refusal | None:
            return Refusal(403, "no") if path == "/debug/explain" else None

    for framing in ("Content-Length: 3000000", "Transfer-Encoding: chunked"):
        async with serving(guard=Nobody(), bounds=brief()) as port, client(port) as one:
            one.say(f"{request_} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
            answer = await one.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            one.say(b" " * 100)
            assert await one.closed() == b""


async def test_an_answer_to_a_whole_request_is_not() -> None:
    """Also of one whose body nobody reads."""
    async with serving() as port, client(port) as one:
        for _ in range(3):
            one.say(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345")
            answer = await one.answer()
            assert (answer.status, answer.headers.get("connection", "")) == (200, "")


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's, and a client's."""
    authority = Authority()
    folder = authority.issue().write(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context, trusting()


async def get_by_tls(port: int, context: ssl.SSLContext) -> bytes:
    """The first line of an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="x")
    try:
        writer.write(WHOLE)
        return await reader.readline()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_handshakes_count_and_keep_nobody_out(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """One more takes the place of the one that has been in it for the longest."""
    theirs, ours = tls
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(bounds=brief(max_connections=8), tls=theirs))
        silent = [await stack.enter_async_context(client(port)) for _ in range(20)]
        for each in silent[:12]:
            assert await each.closed() == b""
        assert await get_by_tls(port, ours) == b"HTTP/1.1 200 OK\r\n"
        assert await silent[12].closed() == b""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await silent[-1].closed()


async def test_handshakes_do_not_go_before_half_requests(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Or new ones would keep each other from their end while old halves stay."""
    theirs, ours = tls
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(bounds=brief(max_connections=3), tls=theirs))
        halves = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ours, server_hostname="x")
            stack.callback(writer.close)
            writer.write(b"GET /")
            halves.append(reader)
        new = await stack.enter_async_context(client(port))
        assert await get_by_tls(port, ours) == b"HTTP/1.1 200 OK\r\n"
        with contextlib.suppress(OSError):
            assert await halves[0].read() == b""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await new.closed()


async def test_who_waits_for_a_page_does_not_go_for_a_handshake(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Slow:
        async def refusal(self, authorization: str, method: str, path: str) -> None:
            asked.set()
            await go_on.wait()

    theirs, ours = tls
    async with serving(guard=Slow(), bounds=brief(max_connections=1), tls=theirs) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ours, server_hostname="x")
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await asked.wait()
        async with client(port) as late:
            assert await late.closed() == b""
        go_on.set()
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_it_stops_with_handshakes_under_way(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with serving(tls=tls[0]) as port:
            silent = await stack.enter_async_context(client(port))
        assert await silent.closed() == b""
