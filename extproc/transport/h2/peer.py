"""One connection on asyncio: its socket, its ticks, its end. Everything from a read to its write is one synchronous call."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol, cast

from extproc.observability.logs import peer_logger
from extproc.transport.h2.call import ProcessCall, Services
from extproc.transport.h2.calls import DRAIN_PING, Calls
from extproc.transport.h2.connection import Connection
from extproc.transport.h2.frames import ErrorCode
from extproc.transport.h2.limits import H2Limits

_log = peer_logger(__name__)

_WRITE_BUFFER: Final = 2**20
"""With so much in a socket's write buffer, nothing more is read from it."""
_KEEPALIVE: Final = b"keepaliv"
_GOAWAY_WAIT_S: Final = 1.0
"""Between the two GOAWAYs at most: what was on its way when the first one left has come by then."""
_LAST_TICKS: Final = 2
"""For a peer to close its side: one whole tick at least."""


class Server(Protocol):
    """What a connection knows of the one that took it."""

    services: Services
    limits: H2Limits
    request_timeout_s: float
    """How long a request may take to be decided; 0 is for ever."""
    tick_s: float

    def joined(self, peer: Peer) -> None:
        """The connection was made."""

    def left(self, peer: Peer) -> None:
        """The connection is gone."""


class Peer(asyncio.Protocol):
    """One connection on its socket."""

    __slots__ = (
        "_calls",
        "_closed_at",
        "_closing",
        "_connection",
        "_draining",
        "_gathers",
        "_goes_on",
        "_idle",
        "_loop",
        "_paused",
        "_pinged",
        "_server",
        "_silent",
        "_stuck",
        "_ticks",
        "_transport",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        services = server.services
        self._connection = Connection(server.limits, self._loop.time, services.known, services.held)
        self._calls = Calls(self._connection, services, self._write, self._loop.call_later)
        self._transport: asyncio.Transport | None = None
        self._ticks = 0
        self._silent = 0
        """Ticks since the peer was heard."""
        self._idle = 0
        """Ticks without a stream."""
        self._pinged = False
        self._paused = 0
        """Ticks since the peer stopped reading, 0 while it reads."""
        self._stuck: dict[int, tuple[int, int]] = {}
        """Streams without a window: the tick since when, and what waited then."""
        self._draining = False
        self._closing = False
        self._gathers = False
        self._goes_on = False
        """The next slice of large answers is written soon."""
        self._closed_at = 0
        """The tick at which it was closed on our side."""

    # -- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # TLS would make a record of each piece.
        self._gathers = transport.get_extra_info("sslcontext") is None
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._server.joined(self)
        self._write()

    def data_received(self, data: bytes) -> None:
        self._silent = 0
        calls = self._calls
        calls.receive(data)
        self._write()
        if calls.fault is not None or calls.peer_leaves or self._draining:
            self._wind_up()

    def eof_received(self) -> bool:
        return False  # the peer has gone, and with it whoever could read an answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._calls.lost()
        self._server.left(self)
        self._transport = None

    def pause_writing(self) -> None:
        self._paused = max(self._paused, 1)
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = 0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            if self._connection.outbox.full:
                self._go_on()

    # -- the server's side ---------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Open no new streams: GOAWAY in two steps (RFC 9113 section 6.8)."""
        if self._draining or self._closing:
            return
        self._draining = True
        self._connection.announce_end()
        self._connection.ping(DRAIN_PING)
        self._write()
        self._loop.call_later(_GOAWAY_WAIT_S, self._refuse_new)

    def leave(self) -> None:
        """End what is left, and close once it is written."""
        self._calls.leave()
        while self._connection.outbox.full:  # large answers go out whole: nothing can be written behind the end
            self._write()
            self._connection.outbox.go_on()
        self._refuse_new()
        self._close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        if self._transport is not None:
            self._transport.abort()

    def tick(self) -> None:
        """Look after what time brings."""
        if self._transport is None:
            return
        self._ticks += 1
        self._calls.tick = self._ticks
        why = self._overdue()
        if why is not None:
            self._drop(*why)
            return
        self._look_at_streams()
        self._write()
        if self._draining:
            self._wind_up()

    def _overdue(self) -> tuple[ErrorCode, str] | None:
        """Why the connection can't be kept, if so."""
        limits, tick_s = self._server.limits, self._server.tick_s
        if self._closing:
            self._linger()
            return None
        connection = self._connection
        if self._paused:
            self._paused += 1
            late = over(self._paused - 1, tick_s, limits.read_timeout_s)
            return (ErrorCode.ENHANCE_YOUR_CALM, "peer_does_not_read") if late else None
        if not connection.control.established:
            late = over(self._ticks, tick_s, limits.preface_timeout_s)
            return (ErrorCode.PROTOCOL_ERROR, "preface_timeout") if late else None
        if not connection.control.acknowledged and over(self._ticks, tick_s, limits.settings_timeout_s):
            return ErrorCode.SETTINGS_TIMEOUT, "settings_timeout"
        self._silent += 1
        if self._silent == 1:
            self._pinged = False
        if limits.keepalive_s and over(self._silent, tick_s, limits.keepalive_s):
            if not self._pinged:
                self._pinged = True
                connection.ping(_KEEPALIVE)
            elif over(self._silent, tick_s, limits.keepalive_s + limits.keepalive_timeout_s):
                return ErrorCode.NO_ERROR, "keepalive_timeout"
        self._idle = 0 if connection.streams else self._idle + 1
        if over(self._idle, tick_s, limits.idle_timeout_s):
            self.drain()  # no fault: a peer that wants more opens another connection
        return None

    def _look_at_streams(self) -> None:
        connection, calls, server = self._connection, self._calls, self._server
        stuck: dict[int, tuple[int, int]] = {}
        for stream in connection.outbox.stuck():
            since, waited = self._stuck.get(stream.id, (self._ticks, stream.waiting_bytes))
            if stream.waiting_bytes != waited:
                since, waited = self._ticks, stream.waiting_bytes
            if over(self._ticks - since, server.tick_s, server.limits.window_timeout_s):
                calls.reset(stream, ErrorCode.CANCEL, "window_timeout")
            else:
                stuck[stream.id] = since, waited
        self._stuck = stuck
        if server.request_timeout_s:
            # Rounded up: a request gets all of its time.
            due = self._ticks - int(server.request_timeout_s / server.tick_s) - 1
            for stream in list(connection.streams.values()):
                if stream.tick == due and isinstance(stream.call, ProcessCall):
                    stream.call.expire()
                elif stream.tick > due:
                    break

    def _refuse_new(self) -> None:
        if self._transport is not None and not self._closing:
            self._connection.refuse_new()
            self._write()
            self._wind_up()

    def _wind_up(self) -> None:
        """Close the connection if nothing is left to do on it."""
        fault = self._calls.fault
        if fault is not None:
            if not self._closing:
                self._count(fault.reason, fault.code, fault.message)
                self._close()
            return
        if self._draining and self._calls.drain_answered:
            self._connection.refuse_new()
            self._write()
        if not self._connection.streams and (self._calls.peer_leaves or self._connection.refusing):
            self._close()

    def _drop(self, code: ErrorCode, reason: str) -> None:
        self._count(reason, code, "")
        self._connection.fail(code, reason, reason.replace("_", " "))
        self._write()
        if self._paused:
            self.abort()
        else:
            self._close()

    def _count(self, reason: str, code: ErrorCode, message: str) -> None:
        self._server.services.transport.faults.child(reason).value += 1
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        _log.warning("connection ended", reason=reason, code=code.name, error=message, peer=str(peer))

    def _write(self) -> None:
        outbox, transport = self._connection.outbox, self._transport
        if transport is None:
            return
        if self._closing:
            outbox.take()  # nothing is said after the end
            return
        full = outbox.full
        if outbox.large and self._gathers:
            transport.writelines(outbox.take_pieces())
        else:
            out = outbox.take()
            if out:
                transport.write(out)
        if full and not self._goes_on:
            self._goes_on = True
            self._loop.call_soon(self._go_on_soon)

    def _go_on_soon(self) -> None:
        self._goes_on = False
        if not self._paused:
            self._go_on()

    def _go_on(self) -> None:
        """The socket takes more of large answers."""
        self._connection.outbox.go_on()
        self._write()
        held = self._server.services.held
        if held.waiting:
            held.ease()

    def _close(self) -> None:
        """Say no more, and go on reading until the peer has closed as well: closing a socket with bytes unread would take back
        what we said last."""
        if self._closing:
            return
        self._closing = True
        self._closed_at = self._ticks
        transport = self._transport
        if transport is None:
            return
        if transport.can_write_eof():
            with contextlib.suppress(OSError):  # asyncio's own loop: the peer is gone, which we hear next
                transport.write_eof()
        elif self._calls.fault is None:  # TLS has no half close; the peer of a fault is likely to have bytes under way
            transport.close()

    def _linger(self) -> None:
        """End a connection whose peer does not close it: soon when everything is written, else as late as for any answer."""
        assert self._transport is not None
        ticks = self._ticks - self._closed_at
        written = self._transport.get_write_buffer_size() == 0
        if (written and ticks >= _LAST_TICKS) or over(ticks, self._server.tick_s, self._server.limits.read_timeout_s):
            self.abort()


def over(ticks: int, tick_s: float, limit_s: float) -> bool:
    """Whether so many ticks are a limit that there is; 0 is none."""
    return bool(limit_s) and ticks * tick_s >= limit_s
