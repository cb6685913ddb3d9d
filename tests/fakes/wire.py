"""Connections of ours, with a peer that is played by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from extproc.observability.instruments import Family, Instruments, Value
from extproc.observability.metrics import StreamMetrics, TransportMetrics
from extproc.protocol import StreamLimits
from extproc.transport.codec import Encoder
from extproc.transport.h2 import events as e
from extproc.transport.h2.call import Services
from extproc.transport.h2.calls import Calls
from extproc.transport.h2.connection import Connection
from extproc.transport.h2.headers import Fields, KnownBlocks
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.outbox import Stream
from extproc.transport.health import Health
from extproc.transport.held import Held
from extproc.transport.session import Decider
from extproc.transport.turns import Turns
from tests.fakes import http2
from tests.fakes.clock import FakeClock
from tests.fakes.decider import FakeDecider


class RequestReceived(NamedTuple):
    """A stream was opened."""

    stream: Stream
    fields: Fields
    ended: bool


class DataReceived(NamedTuple):
    """A piece of a stream's body."""

    stream: Stream
    data: bytes | memoryview
    ended: bool


class Heard(list[RequestReceived | DataReceived | e.Event]):
    """A layer above that remembers what it hears."""

    def opened(self, stream: Stream, fields: Fields, ended: bool) -> None:
        self.append(RequestReceived(stream, fields, ended))

    def data(self, stream: Stream, data: bytes | memoryview, ended: bool) -> None:
        self.append(DataReceived(stream, data, ended))

    def event(self, event: e.Event) -> None:
        self.append(event)


def show(event: RequestReceived | DataReceived | e.Event) -> str:
    """The event as a line, e.g. `data 1 b'x' end`."""
    if isinstance(event, RequestReceived):
        return f"request {event.stream.id} {event.fields.values[':path']}{' end' if event.ended else ''}"
    if isinstance(event, DataReceived):
        size = len(event.data)
        what = f" {bytes(event.data)!r}" if 0 < size < 32 else f" {size} bytes" if size else ""
        return f"data {event.stream.id}{what}{' end' if event.ended else ''}"
    if isinstance(event, e.StreamReset):
        return f"reset {event.stream.id} {_name(event.code)} {event.reason}{' by us' if event.by_us else ''}"
    if isinstance(event, e.PeerLeaves):
        return f"peer leaves {_name(event.code)}"
    if isinstance(event, e.PingAnswered):
        return f"ping answered {event.payload!r}"
    return f"ended {event.code.name} {event.reason}"


def _name(code: int) -> str:
    return http2.ERRORS[code] if code < len(http2.ERRORS) else f"{code:#x}"


class Wire:
    """A connection without services: frames go in, events come out as lines."""

    def __init__(
        self,
        limits: H2Limits = H2Limits(),
        *,
        greet: bool = True,
        known: KnownBlocks | None = None,
        held: Held | None = None,
        **settings: int,
    ) -> None:
        """`greet`: the preface and `settings` are sent and what that caused is forgotten."""
        self.clock = FakeClock()
        self.held = Held() if held is None else held
        self.connection = Connection(limits, self.clock, known if known is not None else KnownBlocks(), self.held)
        self.events = Heard()
        if greet:
            self.send(http2.PREFACE, http2.settings(**settings), http2.SETTINGS_ACK)
            self.sent()

    def send(self, *parts: bytes | http2.Frame) -> list[str]:
        """Bytes from the peer, in one read; what they mean."""
        before = len(self.events)
        self.connection.receive(b"".join(map(bytes, parts)), self.events)
        return [show(event) for event in self.events[before:]]

    def sent(self) -> list[str]:
        """The frames that we sent since the last look."""
        return http2.lines(self.connection.outbox.take())

    def open(self, *stream_ids: int) -> list[Any]:
        """Open these streams; the streams."""
        self.send(*(http2.headers(stream_id) for stream_id in stream_ids))
        return [self.connection.streams[stream_id] for stream_id in stream_ids]


class Timers:
    """What `call_later` was asked for; nothing happens until the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Timer] = []

    def __call__(self, seconds: float, then: Callable[[], None]) -> Timer:
        timer = Timer(self, seconds, then)
        self.waiting.append(timer)
        return timer

    def fire(self) -> None:
        """Let all of them be due."""
        waiting, self.waiting = self.waiting, []
        for timer in waiting:
            timer.then()


class Timer:
    def __init__(self, timers: Timers, seconds: float, then: Callable[[], None]) -> None:
        self._timers = timers
        self.seconds = seconds
        self.then = then

    def cancel(self) -> None:
        if self in self._timers.waiting:
            self._timers.waiting.remove(self)


def services_of(
    decider: Decider | None,
    *,
    health: Health | None = None,
    limits: StreamLimits = StreamLimits(request_timeout_s=0),
    max_message_bytes: int = 2**20,
    held: Held | None = None,
    turns: Turns | None = None,
) -> Services:
    """Services with metrics of their own."""
    instruments = Instruments()
    return Services(
        decider,
        limits,
        Encoder(),
        health or Health(),
        StreamMetrics(instruments),
        TransportMetrics(instruments),
        KnownBlocks(),
        max_message_bytes,
        Held() if held is None else held,
        turns,
    )


def counted(family: Family[Value]) -> dict[str, int]:
    """A counter's children that have counted something, by label."""
    return {values[0]: int(child.value) for values, child in family._children.items() if child.value}


class CallWire:
    """A connection with the services on it: frames go in, frames come out, as lines."""

    def __init__(
        self,
        decider: Decider | None = None,
        limits: H2Limits = H2Limits(),
        *,
        services: Services | None = None,
        **settings: int,
    ) -> None:
        self.services = services or services_of(decider or FakeDecider())
        self.connection = Connection(limits, FakeClock(), self.services.known, self.services.held)
        self.timers = Timers()
        self.woken = 0
        self.calls = Calls(self.connection, self.services, self._wake, self.timers)
        self.send(http2.PREFACE, http2.settings(**settings), http2.SETTINGS_ACK)

    def send(self, *parts: bytes | http2.Frame) -> list[str]:
        """Bytes from the peer, in one read; the frames that answer them."""
        self.calls.receive(b"".join(map(bytes, parts)))
        return self.sent()

    def sent(self) -> list[str]:
        """The frames that we sent since the last look."""
        return http2.lines(self.connection.outbox.take())

    @property
    def ended(self) -> dict[str, int]:
        """Streams that ended, by status."""
        return counted(self.services.streams.streams)

    @property
    def resets(self) -> dict[str, int]:
        """Streams that we reset, by reason."""
        return counted(self.services.transport.resets)

    @property
    def open(self) -> int:
        """ExtProc streams that are open, by the metrics."""
        return int(self.services.streams.open.value)

    def _wake(self) -> None:
        self.woken += 1
