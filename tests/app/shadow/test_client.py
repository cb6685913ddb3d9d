"""The client of copies against servers with and without manners."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import uvloop

from extproc.app.shadow.client import IDLE_S, Client
from extproc.app.shadow.connection import MAX_HEAD_BYTES, AskFailed
from extproc.demo.ports import free_ports
from tests.app.shadow.servers import Asked, Do, ModelServer, chat, good, listening
from tests.fakes.clock import FakeClock

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


class Heard:
    """A sink."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, bytes] = {}
        self.body = b""
        self.pieces = 0

    def head(self, status: int, headers: dict[str, bytes]) -> None:
        assert not self.status, "said once"
        self.status, self.headers = status, headers

    def piece(self, piece: bytes) -> None:
        self.body += piece
        self.pieces += 1


class Asking:
    """A client and the server that it asks."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.clock = FakeClock()
        self.client = Client(self.clock)

    async def ask(self, max_bytes: int = 10_000) -> Heard:
        heard = Heard()
        async with asyncio.timeout(5):
            await self.client.ask("127.0.0.1", self.server.port, REQUEST, heard, max_bytes)
        return heard

    async def fails(self, max_bytes: int = 10_000) -> str:
        with pytest.raises(AskFailed) as failed:
            await self.ask(max_bytes)
        return failed.value.outcome


@contextlib.asynccontextmanager
async def asking(does: Do = good) -> AsyncIterator[Asking]:
    async with listening(ModelServer(does)) as server:
        made = Asking(server)
        try:
            yield made
        finally:
            made.client.close()


def raw(data: bytes, *, then_close: bool = False) -> Do:
    """These bytes as the answer."""

    async def do(asked: Asked) -> None:
        await asked.send(data)
        if then_close:
            raise ConnectionResetError
        await asked.gone()

    return do


class TestAnswers:
    async def test_whole_on_one_connection(self) -> None:
        async with asking() as made:
            for _ in range(3):
                heard = await made.ask()
                assert (heard.status, heard.headers["content-type"]) == (200, b"application/json")
                assert b"Hello there" in heard.body
            assert made.server.connections == 1
            assert made.server.asked[0].line == "POST /v1/chat/completions HTTP/1.1"

    async def test_in_chunks(self) -> None:
        async def do(asked: Asked) -> None:
            await asked.stream()
            for piece in (b"data: 1\n\n", b"data: 2\n\n"):
                await asked.chunk(piece)
            await asked.send(b"0\r\nx-trailer: 1\r\n\r\n")

        async with asking(do) as made:
            assert (await made.ask()).body == b"data: 1\n\ndata: 2\n\n"
            await made.ask()
            assert made.server.connections == 1

    async def test_to_the_end_of_the_connection(self) -> None:
        async with asking(raw(b"HTTP/1.1 200 OK\r\ncontent-type: a/b\r\n\r\nall of it", then_close=True)) as made:
            assert (await made.ask()).body == b"all of it"

    async def test_after_others_that_are_none_yet(self) -> None:
        first = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        async with asking(raw(first + b"HTTP/1.1 201 Made\r\ncontent-length: 2\r\n\r\nok")) as made:
            heard = await made.ask()
            assert (heard.status, heard.body, heard.headers) == (201, b"ok", {"content-length": b"2"})

    async def test_without_a_body(self) -> None:
        async with asking(raw(b"HTTP/1.1 204 Nothing\r\n\r\n")) as made:
            assert (await made.ask()).status == 204

    @pytest.mark.parametrize("status", [400, 429, 500, 503])
    async def test_errors_are_answers(self, status: int) -> None:
        async def do(asked: Asked) -> None:
            await asked.answer({"error": 1}, status)

        async with asking(do) as made:
            assert (await made.ask()).status == status


def test_on_the_loop_that_a_gateway_runs_on() -> None:
    """Its transports are of other classes than asyncio's."""

    async def asks() -> None:
        async with asking() as made:
            for _ in range(2):
                assert b"Hello there" in (await made.ask()).body
            assert made.server.connections == 1
            (made.server.port,) = free_ports(1)
            assert await made.fails() == "no connection"

    uvloop.run(asks())


class TestConnections:
    async def test_one_that_the_server_closes_is_not_asked_again(self) -> None:
        async def do(asked: Asked) -> None:
            await asked.answer(chat(), 200, "application/json", "connection: close")

        async with asking(do) as made:
            await made.ask()
            await made.ask()
            assert made.server.connections == 2

    async def test_one_that_was_closed_meanwhile_is_no_failure(self) -> None:
        async def once(asked: Asked) -> None:
            if len(made.server.asked) == 2:
                raise ConnectionResetError  # as if it had been closed when the question came
            await asked.answer(chat())

        async with asking(once) as made:
            await made.ask()
            assert (await made.ask()).status == 200
            assert (made.server.connections, len(made.server.asked)) == (2, 3)

    async def test_one_that_was_idle_for_long_is_closed(self) -> None:
        async with asking() as made:
            await made.ask()
            made.clock.now_s += IDLE_S
            made.client.sweep()
            await made.server.left()
            await made.ask()
            made.clock.now_s += IDLE_S
            await made.ask()
            assert made.server.connections == 3

    async def test_nobody_listens(self) -> None:
        async with asking() as made:
            (made.server.port,) = free_ports(1)
            assert await made.fails() == "no connection"

    async def test_who_gives_up_leaves_no_connection(self) -> None:
        async with asking(Asked.gone) as made:
            task = asyncio.create_task(made.ask())
            while not made.server.asked:  # noqa: ASYNC110
                await asyncio.sleep(0)
            task.cancel()
            await made.server.left()
            with pytest.raises(asyncio.CancelledError):
                await task


class TestWithoutManners:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"HTTP/1.1 200 OK\r\ncontent-le",
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe",
        ],
    )
    async def test_cut(self, data: bytes) -> None:
        async with asking(raw(data, then_close=True)) as made:
            assert await made.fails() == "cut"

    async def test_reset(self) -> None:
        async def do(asked: Asked) -> None:
            await asked.stream()
            asked.reset()

        async with asking(do) as made:
            assert await made.fails() == "cut"

    @pytest.mark.parametrize(
        "data",
        [
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n\x81\x00",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nx: " + b"x" * MAX_HEAD_BYTES * 2,
            b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (MAX_HEAD_BYTES // 3),
            b"HTTP/1.1 100 Go on\r\n\r\n" * (MAX_HEAD_BYTES // 8),
        ],
    )
    async def test_malformed(self, data: bytes) -> None:
        async with asking(raw(data)) as made:
            assert await made.fails() == "malformed"

    async def test_a_huge_answer(self) -> None:
        async with asking(raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 100_000)) as made:
            assert await made.fails(50_000) == "too large"

    async def test_an_endless_stream(self) -> None:
        async def do(asked: Asked) -> None:
            await asked.stream()
            while True:
                await asked.chunk(b"data: {}\n\n" * 100)

        async with asking(do) as made:
            assert await made.fails(50_000) == "too large"

    async def test_endless_chunk_extensions(self) -> None:
        async def do(asked: Asked) -> None:
            await asked.stream()
            await asked.send(b"1;x=")
            while True:
                await asked.send(b"y" * 4096)

        async with asking(do) as made:
            assert await made.fails(10_000) in ("too large", "malformed")

    async def test_more_than_one_answer(self) -> None:
        async with asking(
            raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")
        ) as made:
            assert (await made.ask()).body == b"ok"
            await made.server.left()  # what nobody asked for ends the connection
