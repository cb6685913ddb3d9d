"""The server keeps its bounds, whatever a client sends, and ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog
from prometheus_client import Metric
from starlette.responses import StreamingResponse

from extproc.api.application import application
from extproc.api.ask import Inside
from extproc.api.auth import Caller, Open
from extproc.api.page import site
from extproc.api.page.site import Page
from extproc.api.protocol import MAX_FIELDS, MAX_HEADER_BYTES
from extproc.api.server import ApiServer
from extproc.observability.instruments import Instruments
from extproc.settings.tokens import Role
from extproc.slices import Slices
from extproc.sockets.bounds import Bounds
from extproc.sockets.listen import BindError
from tests.admin.pages import Client, brief, client
from tests.api.served import BASE, served
from tests.app.running import until
from tests.control.desks import Bench, document
from tests.fakes.page import counted

WHOLE = f"GET {BASE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.mark.parametrize("half", [b"", b"G", f"GET {BASE} HTTP/1.1\r\nHost: x\r\n".encode()])
async def test_half_a_request(half: bytes) -> None:
    async with served(bounds=brief(header_timeout_s=0.05)) as api, client(api.port) as one:
        one.say(half)
        assert await one.closed() == b""


async def test_a_connection_serves_many_requests() -> None:
    async with served(bounds=brief(header_timeout_s=0.2, answer_timeout_s=0.2)) as api, client(api.port) as one:
        for _ in range(20):
            one.say(WHOLE)
            assert (await one.answer()).status == 200
            await asyncio.sleep(0.02)  # longer in all than any of the times


async def test_requests_behind_each_other() -> None:
    async with served() as api, client(api.port) as one:
        one.say(WHOLE * 3)
        for _ in range(3):
            assert (await one.answer()).json() == {"endpoints": []}


async def test_connections_are_bounded() -> None:
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(served(bounds=brief(max_connections=4)))
        halves: list[Client] = [await stack.enter_async_context(client(api.port)) for _ in range(10)]
        for each in halves:
            each.say(b"GET /")
        assert (await api.get()).status == 200
        for each in halves[:6]:
            assert await each.closed() == b""


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n",
        b"GET / HTTP/1.1\r\na: %s\r\n\r\n" % (b"x" * MAX_HEADER_BYTES),
        b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * MAX_HEADER_BYTES),
        b"no HTTP at all\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["fields", "field", "line", "text", "length", "smuggling", "HTTP/2"],
)
async def test_what_is_no_request_or_too_much_of_one(request_: bytes) -> None:
    async with served() as api, client(api.port) as one:
        one.say(request_)
        answer = await one.answer()
        assert answer.status == 400
        assert answer.json()["error_code"] == "MALFORMED_REQUEST"
        assert await one.closed() == b""


async def test_an_answer_that_is_not_taken() -> None:
    async with served(bounds=brief(answer_timeout_s=1.5)) as api, client(api.port) as one:
        await api.post("", {**document(), "description": "x" * 4000})
        page = f"GET {BASE}:export HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        one.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(3000):
            one.say(page)

        async def it_is_let_go() -> bool:
            return repr(api.server) == "<ApiServer 0 connections>"

        await until(it_is_let_go, 30)
        one.reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await one.closed()) < 3000 * 4000


@pytest.mark.parametrize(("method", "path", "status"), [("POST", BASE, 400), ("POST", "/elsewhere", 404), ("PATCH", BASE, 405)])
async def test_an_upload_that_is_not_wanted_sees_its_answer(method: str, path: str, status: int) -> None:
    """And that the connection ends with it, so that nothing else is asked on it."""
    for wish in ("", "Connection: close\r\n"):
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{wish}Content-Length: 3000000\r\n\r\n"
        async with served() as api, client(api.port) as one:
            one.say(head.encode() + b" " * 3_000_000)
            answer = await one.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            assert await one.closed() == b""


async def test_nothing_is_heard_behind_the_last_request() -> None:
    async with served(bounds=brief(linger_s=0.05)) as api, client(api.port) as one:
        one.say(b"POST /elsewhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\n{")
        assert (await one.answer()).status == 404
        one.say(b"    " + WHOLE)
        assert await one.closed() == b""


@pytest.mark.parametrize("garbage", [b"\0\0\0", b"GET / HTTP/9\r\n\r\n", WHOLE + b"\r\n\0\r\n"])
async def test_what_was_asked_before_garbage_is_answered(garbage: bytes) -> None:
    async with served(bounds=brief(linger_s=0.05)) as api, client(api.port) as one:
        one.say(WHOLE + garbage + WHOLE)
        said = await one.closed()
    assert said.count(b"HTTP/1.1 200 OK") == 1 + garbage.count(WHOLE)
    assert said.rpartition(b"\r\n\r\n")[2] == b'{"endpoints":[]}'


async def test_a_body_that_is_garbage() -> None:
    head = f"POST {BASE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    async with served(bounds=brief(linger_s=0.05)) as api, client(api.port) as one:
        one.say(head + b"2\r\n{}\r\nno size\r\n")
        answer = await one.answer()
        assert (answer.status, answer.json()["error_code"]) == (400, "MALFORMED_REQUEST")
        assert await one.closed() == b""
        assert (await api.get()).status == 200


async def test_a_fault_of_ours_is_kept_from_the_caller() -> None:
    class Broken(Open):
        async def caller(self, headers: Any, address: str) -> Caller:
            raise RuntimeError("token dapi-secret")

    async with served(guard=Broken()) as api:
        with structlog.testing.capture_logs() as logs:
            answer = await api.get()
        assert answer.error == (500, "INTERNAL_ERROR", "The call failed by a fault of the gateway; its log says more")
        assert "dapi-secret" not in str(logs)
        (line,) = [line for line in logs if line["log_level"] == "error"]
        assert (line["reason"], line["call"]) == ("RuntimeError", f"GET {BASE}")
        assert line["where"][-1].startswith("test_server:")


async def test_an_answer_that_can_not_go_on_is_cut() -> None:
    def metrics() -> Iterator[Metric]:
        for number in range(sound):
            metric = Metric(f"m{number}", "x" * 2000, "gauge")
            metric.add_sample(metric.name, {"serving_endpoint": "chat"}, 1)
            yield metric
        raise RuntimeError("dapi-secret")

    page = f"GET {BASE}/chat/metrics HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    async with served(metrics=metrics) as api, client(api.port) as one:
        await api.post("", document())
        with structlog.testing.capture_logs() as logs:
            sound = 0
            assert (await api.get("/chat/metrics")).error[:2] == (500, "INTERNAL_ERROR")
            sound = 2000
            one.say(page)
            said = await one.closed()
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert not said.endswith(b"0\r\n\r\n"), "who reads it sees that it is not whole"
    assert [line["reason"] for line in logs if line["log_level"] == "error"] == ["RuntimeError"] * 2
    assert "dapi-secret" not in str(logs)


async def test_calls_are_counted() -> None:
    async with served() as api:
        await api.post("", document())
        await api.get("/chat")
        await api.get("/nope")
        await api.call("GET", "/elsewhere")
        page = counted(api.instruments)
    name = "extproc_api_requests_total"
    assert page[f'{name}{{call="POST {BASE}",code="200"}}'] == 1
    assert page[f'{name}{{call="GET {BASE}/{{name}}",code="200"}}'] == 1
    assert page[f'{name}{{call="GET {BASE}/{{name}}",code="404"}}'] == 1
    assert page[f'{name}{{call="other",code="404"}}'] == 1


async def test_no_line_a_call_but_for_debugging() -> None:
    async with served() as api:
        with structlog.testing.capture_logs() as logs:
            await api.get("?reason=private")
        assert {line["log_level"] for line in logs} == {"debug"}
        assert "private" not in str(logs)


async def test_a_port_that_is_taken() -> None:
    async with served() as api:
        server = ApiServer(application(_inside(), Instruments()))
        with pytest.raises(BindError, match=f"API port {api.port}: cannot listen on 127.0.0.1:{api.port}"):
            await server.start("127.0.0.1", api.port)
        await server.stop()


async def test_stopping_waits_for_calls_and_closes_the_rest() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Open):
        async def caller(self, headers: Any, address: str) -> Caller:
            asked.set()
            await go_on.wait()
            return await super().caller(headers, address)

    server = ApiServer(application(_inside(Slow()), Instruments()), Bounds())
    port = await server.start("127.0.0.1", 0)
    async with client(port) as idle, client(port) as one:
        one.say(WHOLE)
        await asked.wait()
        stopping = asyncio.create_task(server.stop())
        assert await idle.closed() == b""
        go_on.set()
        assert (await one.answer()).status == 503  # the desk of this test is not open
        await stopping
        await server.stop()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_stopping_does_not_wait_for_ever() -> None:
    class Stuck(Open):
        async def caller(self, headers: Any, address: str) -> Caller:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    asked = asyncio.Event()
    server = ApiServer(application(_inside(Stuck()), Instruments()))
    port = await server.start("127.0.0.1", 0)
    async with client(port) as one:
        one.say(WHOLE)
        await asked.wait()
        await server.stop()
        assert b"INTERNAL" not in await one.closed()
    assert repr(server) == "<ApiServer 0 connections>"


def _inside(guard: Open | None = None) -> Inside:
    bench = Bench()
    return Inside(bench.desk, bench.rollouts, lambda: bench.table, lambda _: True, lambda: (), guard or Open(), Slices())


async def test_what_is_still_open_at_the_end_is_let_go_without_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Pages that are open, an export that nobody reads to its end, a call that waits, and what stands in line behind one."""
    reading = asyncio.Event()

    async def records() -> AsyncIterator[bytes]:
        reading.set()
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    async def export(visit: Any) -> Any:
        return StreamingResponse(records())

    async def stuck(visit: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(
        site, "PAGES", [*site.PAGES, Page("GET", "/ui/forever", Role.VIEW, export), Page("GET", "/ui/stuck", Role.VIEW, stuck)]
    )

    async def gone() -> bool:
        return repr(api.server) == "<ApiServer 59 connections>"

    async with contextlib.AsyncExitStack() as stack:
        with structlog.testing.capture_logs() as lines:
            api = await stack.enter_async_context(served())
            clients = [await stack.enter_async_context(client(api.port)) for _ in range(60)]
            for each in clients[:50]:
                each.say(b"GET /ui/live?names=chat HTTP/1.1\r\nHost: x\r\n\r\n")
            for each in clients[50:55]:
                each.say(b"GET /ui/forever HTTP/1.1\r\nHost: x\r\n\r\n")
            for number, each in enumerate(clients[55:]):
                each.say(b"GET /ui/stuck HTTP/1.1\r\nHost: x\r\n\r\n" * (1 + number % 2))
            for each in clients[:50]:
                assert b"retry:" in await each.reader.readuntil(b"\n\n")
            await reading.wait()
            clients[55].writer.transport.abort()
            await until(gone)
            assert api.server is not None
            await api.server.stop()
        assert lines == []
    assert caplog.records == []
    assert repr(api.server) == "<ApiServer 0 connections>"
