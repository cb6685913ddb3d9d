"""Model servers, well and badly behaved, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from extproc.domain import Endpoint

DEADLINE_S = 5.0

Answer: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reply(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """An HTTP/1.1 response with a content-length, which `length` makes a lie."""
    head = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status}\r\n{head}content-length: {len(body) if length is None else length}\r\n\r\n".encode() + body


class ModelServer:
    """Calls `answer` for each request on each connection; counts both, and keeps the requests' heads."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.connections = 0
        self.open = 0
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.port)

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def stop(self) -> None:
        """Accept no more, and wait until the client has let go of every connection."""
        assert self._server is not None
        self._server.close()
        await self.until(lambda: self.open == 0)

    def crash(self) -> None:
        """Refuse connections, and reset those that are open."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until requests or connections have made the condition true."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError):
            while True:
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    break
                self.heads.append(head.decode())
                self._changed.set()
                await self.answer(reader, writer)
                if writer.is_closing():
                    break
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self._writers.discard(writer)
        self.open -= 1
        self._changed.set()


@contextlib.asynccontextmanager
async def serving(answer: Answer | bytes) -> AsyncIterator[ModelServer]:
    """A server on a free port. Leaving fails if the client has not closed all its connections by then, or soon after."""

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(answer, bytes)
        writer.write(answer)

    server = ModelServer(send if isinstance(answer, bytes) else answer)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
