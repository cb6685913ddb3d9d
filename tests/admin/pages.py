"""A server of pages for tests, and clients that speak by the byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

from prometheus_client import Metric

from extproc.admin import AdminServer, Inside
from extproc.sockets.bounds import Bounds


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def inside(**fields: Any) -> Inside:
    """What a server with nothing in it shows."""

    def nothing() -> Iterable[Metric | None]:
        return ()

    return Inside(**{"metrics": nothing, "unready": lambda: None, **fields})


@contextlib.asynccontextmanager
async def serving(what: Inside | None = None, *, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[int]:
    """The pages; gives their port."""
    server = AdminServer(what or inside(), **options)
    port = await server.start("127.0.0.1", 0, tls=tls)
    try:
        yield port
    finally:
        await server.stop()


def brief(**times: Any) -> Bounds:
    """Bounds that are never reached, but for those that are given."""
    usual = {
        "header_timeout_s": 60.0,
        "body_timeout_s": 60.0,
        "answer_timeout_s": 60.0,
        "idle_timeout_s": 120.0,
        "linger_s": 0.05,
    }
    return Bounds(**{**usual, **times})


class Client:
    """A connection that says what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, text: bytes) -> None:
        self.writer.write(text)

    async def closed(self) -> bytes:
        """What still came until the server closed the connection."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    async def answer(self) -> Answer:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:]) if name}
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        else:
            body = await self.reader.readexactly(int(headers["content-length"]))
        return Answer(int(lines[0].split()[1]), headers, body)


@contextlib.asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def get(port: int, path: str, *headers: str) -> Answer:
    async with client(port) as one:
        one.say("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode())
        return await one.answer()


async def post(port: int, path: str, body: bytes) -> Answer:
    async with client(port) as one:
        one.say(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body))
        return await one.answer()
