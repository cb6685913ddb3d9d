"""What a client of a server of pages may take: time, connections, and bytes behind an answer.

It stands between a transport and whoever serves the connection (`Connections`), and looks at when bytes come, not at what they
are. Who serves it bounds what a request may hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast


@dataclass(frozen=True, slots=True)
class Bounds:
    """All times are in seconds."""

    header_timeout_s: float = 10.0
    """From a connection's beginning, or a request's first byte, to the end of its headers; then it is closed."""
    body_timeout_s: float = 10.0
    """For a body that a page reads; then 408."""
    answer_timeout_s: float = 60.0
    """From a request's headers until the client has taken its answer; then it is cut."""
    idle_timeout_s: float = 75.0
    """Between two requests; then it is closed. Above Prometheus' usual interval of a minute."""
    linger_s: float = 5.0
    """How long what is left of a body is read behind an answer, for the client to see the answer."""
    linger_bytes: int = 512 * 2**10
    """Of what is left: more than a body that any page reads. What comes behind is dropped, slowly."""
    linger_pause_s: float = 0.0025
    """From one read that is dropped to the next, of all connections. Read as they come, uploads of 7 MB, four at once over and
    over, took half a core."""
    max_connections: int = 128
    """At once, TLS handshakes included. One more takes the place of one that has said half a request or nothing, or is in its
    handshake; refused when all wait for a page."""


class _Phase(enum.Enum):
    IDLE = enum.auto()
    """Between two requests."""
    HEADERS = enum.auto()
    """A request is to come, or has begun."""
    ANSWERING = enum.auto()
    """A page is made and sent. What it ends in is seen when the time is over, or when the client goes on."""


class Connections:
    """The connections of a server, within their bounds."""

    def __init__(self, bounds: Bounds, handlers: Callable[[], asyncio.Protocol]) -> None:
        """`handlers` makes what serves a connection."""
        self.bounds = bounds
        self._handlers = handlers
        self._open: dict[asyncio.Protocol, _Connection] = {}
        """By what serves them, the oldest first."""
        self.loop = asyncio.get_running_loop()
        self._drop_at_s = 0.0

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self, self._handlers())

    def __len__(self) -> int:
        return len(self._open)

    def made(self, connection: _Connection) -> bool:
        """Whether there is place for it."""
        if len(self._open) >= self.most and not self.make_room():
            return False
        self._open[connection.handler] = connection
        return True

    @property
    def most(self) -> int:
        """As many as there may be."""
        return self.bounds.max_connections

    def make_room(self, arriving_since_s: float | None = None) -> bool:
        """As `accept.Crowd`: who has said half a request or nothing goes, then who is between two requests."""
        half = next((each for each in self._open.values() if each.phase is _Phase.HEADERS), None)
        if arriving_since_s is not None and (half is None or half.since_s > arriving_since_s):
            return False
        least = half or next((each for each in self._open.values() if each.phase is _Phase.IDLE or each.taken), None)
        if least is None:
            return False
        least.abort()
        return True

    def lost(self, connection: _Connection) -> None:
        self._open.pop(connection.handler, None)

    def pause_s(self) -> float:
        """Until the next read whose bytes are dropped may be made."""
        now_s = self.loop.time()
        self._drop_at_s = max(now_s, self._drop_at_s) + self.bounds.linger_pause_s
        return self._drop_at_s - now_s

    @contextlib.contextmanager
    def answering(self, handler: object) -> Iterator[None]:
        """Around the making of an answer: the request's headers are here. `handler` is what serves the connection."""
        connection = self._open.get(cast(asyncio.Protocol, handler))
        if connection is not None:
            connection.answer(done=False)
        try:
            yield
        finally:
            if connection is not None:
                connection.answer(done=True)


class _Connection(asyncio.Protocol):
    """Between a transport and what serves it; looks at when bytes come, not at what they are."""

    def __init__(self, connections: Connections, handler: asyncio.Protocol) -> None:
        self.handler: Final = handler
        self.phase = _Phase.HEADERS
        self.since_s = 0.0
        """When it began to be in its phase, by the loop's clock."""
        self._done = False
        """Whether the page is made that is `ANSWERING`."""
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._admitted = False
        self._behind = 0
        """Bytes that came behind the answer."""

    @property
    def taken(self) -> bool:
        """Whether the answer is with the client, as far as we can see."""
        return self._done and (self._transport is None or self._transport.get_write_buffer_size() == 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._admitted = self._connections.made(self)
        if not self._admitted:
            self._transport.abort()
            return
        self._enter(_Phase.HEADERS, self._connections.bounds.header_timeout_s)
        self.handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._admitted:
            return
        if self._behind > self._connections.bounds.linger_bytes:
            self._drop()
            return
        if self._done:
            self._behind += len(data)
        if self.phase is _Phase.IDLE or (self.phase is _Phase.ANSWERING and self._done):
            self._enter(_Phase.HEADERS, self._connections.bounds.header_timeout_s)
        self.handler.data_received(data)

    def _drop(self) -> None:
        """Nothing more on this connection is heard, for the bytes of a body belong to no request; it is closed in its time."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._connections.loop.call_later(self._connections.pause_s(), self._go_on)

    def _go_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def answer(self, *, done: bool) -> None:
        """A page is about to be made, or is."""
        self._done = done
        if self._behind <= self._connections.bounds.linger_bytes:
            self._behind = 0
        if not done:
            self._enter(_Phase.ANSWERING, self._connections.bounds.answer_timeout_s)

    def abort(self) -> None:
        """Let it go at once."""
        self._connections.lost(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def eof_received(self) -> bool | None:
        return self.handler.eof_received() if self._admitted else None

    def pause_writing(self) -> None:
        self.handler.pause_writing()

    def resume_writing(self) -> None:
        self.handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._connections.lost(self)
        if self._admitted:
            self.handler.connection_lost(exc)
        self._transport = None

    def _enter(self, phase: _Phase, timeout_s: float) -> None:
        self.phase = phase
        self.since_s = self._connections.loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._connections.loop.call_later(timeout_s, self._over)

    def _over(self) -> None:
        bounds = self._connections.bounds
        if self.phase is _Phase.ANSWERING and self.taken:
            self._enter(_Phase.IDLE, max(0.0, bounds.idle_timeout_s - bounds.answer_timeout_s))
        else:
            self.abort()
