"""A connection on its server, with a transport in place of the socket and time in place of the clock."""

from __future__ import annotations

import asyncio
from typing import Any

from extproc.transport.h2.call import Services
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.peer import Peer
from extproc.transport.h2.server import H2Server
from tests.fakes import http2
from tests.fakes.decider import FakeDecider
from tests.fakes.wire import counted, services_of


class FakeTransport(asyncio.Transport):
    """Keeps what is written, and what was asked of it."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("192.0.2.1", 4711)})
        self._protocol = protocol
        self.out = bytearray()
        self.asked: list[str] = []
        """What it was told to do beside writing."""
        self.high: int | None = None
        self.unwritten = 0
        """What the peer has not read yet, as a test has it."""

    def write(self, data: Any) -> None:
        assert not self.is_closing(), "written after close"
        assert "write eof" not in self.asked, "written after eof"
        self.out += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.asked.append("write eof")

    def is_closing(self) -> bool:
        return "close" in self.asked or "abort" in self.asked

    def close(self) -> None:
        if not self.is_closing():
            self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")


class PeerWire:
    """One connection of a server: frames go in, frames come out as lines, and time passes when the test says so."""

    def __init__(self, limits: H2Limits = H2Limits(), *, services: Services | None = None, greet: bool = True) -> None:
        self.services = services or services_of(FakeDecider())
        self.server = H2Server(self.services, limits)
        self.peer = Peer(self.server)
        self.transport = FakeTransport(self.peer)
        self.peer.connection_made(self.transport)
        if greet:
            self.send(http2.PREFACE, http2.settings(), http2.SETTINGS_ACK)

    def send(self, *parts: bytes | http2.Frame) -> list[str]:
        """Bytes from the peer, in one read; the frames that were written since the last look."""
        self.peer.data_received(b"".join(map(bytes, parts)))
        return self.sent()

    def sent(self) -> list[str]:
        """The frames that were written since the last look."""
        out = bytes(self.transport.out)
        self.transport.out.clear()
        return http2.lines(out)

    def wait(self, seconds: float) -> list[str]:
        """Let time pass, tick by tick; the frames that it brought."""
        for _ in range(round(seconds / self.server.tick_s)):
            self.peer.tick()
            self.server.look_at_held()
        return self.sent()

    def lose(self) -> None:
        """The socket is gone."""
        self.peer.connection_lost(None)

    @property
    def faults(self) -> dict[str, int]:
        """Connections that we ended, by reason."""
        return counted(self.services.transport.faults)

    @property
    def resets(self) -> dict[str, int]:
        """Streams that we reset, by reason."""
        return counted(self.services.transport.resets)

    @property
    def ended(self) -> dict[str, int]:
        """ExtProc streams that ended, by status."""
        return counted(self.services.streams.streams)
