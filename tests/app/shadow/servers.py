"""A model server on a real socket that does what a test says, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import orjson


class Asked:
    """A request that came whole, and the connection for its answer."""

    def __init__(self, head: bytes, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body = body
        self._reader = reader
        self._writer = writer

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    async def send(self, data: bytes) -> None:
        """Bytes as they are. Ends with a ConnectionError when the peer is gone."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, value: Any, status: int = 200, kind: str = "application/json", *more: str) -> None:
        """A whole answer."""
        body = value if isinstance(value, bytes) else orjson.dumps(value)
        lines = [f"HTTP/1.1 {status} Said", f"content-type: {kind}", f"content-length: {len(body)}", *more, "", ""]
        await self.send("\r\n".join(lines).encode() + body)

    async def stream(self, *more: str) -> None:
        """The head of an event stream in chunks."""
        lines = ["HTTP/1.1 200 OK", "content-type: text/event-stream", "transfer-encoding: chunked", *more, "", ""]
        await self.send("\r\n".join(lines).encode())

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def gone(self) -> None:
        """Until the peer has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass

    def reset(self) -> None:
        self._writer.transport.abort()


Do: TypeAlias = Callable[[Asked], Awaitable[None]]


def chat(text: str = "Hello there", reason: str = "stop", tokens: int = 2) -> dict[str, Any]:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return {"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": tokens}}


async def good(asked: Asked) -> None:
    await asked.answer(chat())


class ModelServer:
    """What it was asked, and how many connections it has seen."""

    def __init__(self, does: Do = good) -> None:
        self.does = does
        self.asked: list[Asked] = []
        self.connections = 0
        self.port = 0
        self._open = 0
        self._nobody = asyncio.Event()
        self._nobody.set()

    async def left(self) -> None:
        """Until it has no connection."""
        async with asyncio.timeout(5):
            await self._nobody.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open += 1
        self._nobody.clear()
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                asked = Asked(head, b"", reader, writer)
                asked.body = await reader.readexactly(int(asked.headers["content-length"]))
                self.asked.append(asked)
                await self.does(asked)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._open -= 1
            if not self._open:
                self._nobody.set()


@contextlib.asynccontextmanager
async def listening(server: ModelServer) -> AsyncIterator[ModelServer]:
    """It, on a port; every connection to it is closed at the end by whoever made it."""
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=2**20)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.left()
        await listener.wait_closed()
