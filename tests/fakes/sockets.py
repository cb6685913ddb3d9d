"""Clients on real sockets: what they send and receive is up to a client without I/O."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from tests.fakes import http2


class SansIo(Protocol):
    """A client that knows no sockets."""

    def take(self) -> bytes:
        """What is to be sent now."""
        ...

    def receive(self, data: bytes) -> None:
        """What the server sent, in any pieces."""
        ...


Client = TypeVar("Client", bound=SansIo)


class HandClient:
    """Frames by hand: what is sent is what the test says; `heard` are the server's frames as lines."""

    def __init__(self) -> None:
        self._out = http2.PREFACE + bytes(http2.settings()) + bytes(http2.SETTINGS_ACK)
        self._rest = b""
        self.heard: list[str] = []

    def send(self, *parts: bytes | http2.Frame) -> None:
        self._out += b"".join(map(bytes, parts))

    def take(self) -> bytes:
        out, self._out = self._out, b""
        return out

    def receive(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while len(data) - at >= 9 and at + 9 + int.from_bytes(data[at : at + 3], "big") <= len(data):
            at += 9 + int.from_bytes(data[at : at + 3], "big")
        self.heard += http2.lines(data[:at])
        self._rest = data[at:]


class Socket(Generic[Client]):
    """A client's connection. `until` sends what there is, and reads until the condition holds."""

    def __init__(self, client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client = client
        self._reader = reader
        self._writer = writer
        self.lost = False
        """The server has closed the connection."""

    @classmethod
    async def connect(cls, client: Client, port: int, *, host: str = "127.0.0.1", buffer: int = 65_536) -> Socket[Client]:
        return cls(client, *await asyncio.open_connection(host, port, limit=buffer))

    async def until(self, done: Callable[[], object]) -> None:
        """Raises TimeoutError when that takes too long, EOFError when the server closes before."""
        async with asyncio.timeout(5):
            self.flush()
            while not done():
                data = await self._read()
                if data:
                    self.client.receive(data)
                    self.flush()
                elif self.lost:
                    raise EOFError
                else:
                    self.lost = True
                    self._writer.close()  # as any client does

    async def until_lost(self) -> None:
        await self.until(lambda: self.lost)

    def flush(self) -> None:
        """Send what there is."""
        data = self.client.take()
        if data and not self.lost:
            self._writer.write(data)

    def half_close(self) -> None:
        """Say that nothing more comes."""
        self._writer.write_eof()

    def vanish(self) -> None:
        """End the connection without a word, as a process that was killed."""
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(65_536)
        except ConnectionError:
            return b""
