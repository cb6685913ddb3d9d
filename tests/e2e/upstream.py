"""A model server in this process that can hold a thousand answers at once, and that knows trailers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from extproc.demo.ports import free_ports
from extproc.demo.stack import POOLS
from tests.e2e.raw import IDLE_PAGE


class Exchange:
    """A request that has come whole, and the answer to it."""

    def __init__(
        self, head: bytes, body: bytes, trailers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.head = head
        self.body = body
        self.trailers = trailers
        self._reader = reader
        self._writer = writer

    @property
    def headers(self) -> dict[str, str]:
        """Of the request, in lower case."""
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    def cut(self) -> None:
        """Close the connection."""
        self._writer.close()
        raise ConnectionResetError

    async def gone(self) -> None:
        """Wait for the peer to close the connection."""
        await self._reader.read(1)

    async def begin(self, content_type: str, *lines: str, status: int = 200) -> None:
        """The head of an answer in chunks."""
        head = [f"HTTP/1.1 {status} Said", f"content-type: {content_type}", "transfer-encoding: chunked", *lines]
        self._writer.write("\r\n".join([*head, "", ""]).encode())
        await self._writer.drain()

    async def chunk(self, data: bytes) -> None:
        """A piece of the body."""
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    async def end(self, *trailers: str) -> None:
        """The end of the body, and trailers."""
        self._writer.write("\r\n".join(["0", *trailers, "", ""]).encode())
        await self._writer.drain()


Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]


class Upstream:
    """Listens where the six model servers of the demo would; with `tls` as providers do."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        usual = [port for pool in POOLS for port in pool.ports]
        self.ports = dict(zip(usual, free_ports(len(usual)), strict=True))
        self._handler = handler
        self._tls = tls

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Upstream]:
        """Until the end, when every exchange must be over."""
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    while True:
                        await self._serve(reader, writer)
            finally:
                writer.close()
                tasks.discard(task)

        async with contextlib.AsyncExitStack() as stack:
            for port in self.ports.values():
                await stack.enter_async_context(
                    await asyncio.start_server(serve, "127.0.0.1", port, backlog=2048, ssl=self._tls)
                )
            yield self
        async with asyncio.timeout(10):
            while tasks:  # Envoy is gone, and with it the connections
                await asyncio.wait(tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(IDLE_PAGE), IDLE_PAGE))
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        trailers: dict[str, str] = {}
        if b"content-length" in fields:
            body = await reader.readexactly(int(fields[b"content-length"]))
        else:
            pieces = []
            while size := int(await reader.readline(), 16):
                pieces.append(await reader.readexactly(size))
                await reader.readexactly(2)
            body = b"".join(pieces)
            while line := (await reader.readline()).strip():
                name, _, value = line.decode().partition(": ")
                trailers[name] = value
        await self._handler(Exchange(head, body, trailers, reader, writer))
