"""A server's side of one connection on memory, and peers for it: one that keeps the rules, and bytes of one that does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias

from hpack import Encoder

from extproc.domain import Decision, Reply
from extproc.errors import ExtProcError, NoEndpoints
from extproc.observability.instruments import Instruments
from extproc.observability.metrics import StreamMetrics, TransportMetrics
from extproc.protocol import StreamLimits
from extproc.transport.codec import Encoder as AnswerEncoder
from extproc.transport.h2.call import Services
from extproc.transport.h2.calls import Calls
from extproc.transport.h2.connection import Connection
from extproc.transport.h2.frames import ErrorCode
from extproc.transport.h2.headers import KnownBlocks
from extproc.transport.h2.limits import Allowance, H2Limits
from extproc.transport.health import Health
from extproc.transport.held import Held
from extproc.transport.turns import Turns
from tests.fakes.clock import FakeClock
from tests.fakes.decider import FakeDecider
from tests.fuzz import wire as w
from tests.fuzz.source import Source

Outcome: TypeAlias = Decision | Reply | ExtProcError

STREAM_LIMITS: Final = StreamLimits(max_body_bytes=150_000, large_body_bytes=20_000)
MAX_MESSAGE_BYTES: Final = 90_000
ENCODER: Final = AnswerEncoder()
OUTCOMES: Final[tuple[Outcome, ...]] = (
    *[Decision((("X-Gateway-Model-Name", "m"),), (), (), "ticket", "10.0.0.1:8000")] * 5,
    Reply(200, b"ours"),
    NoEndpoints("none"),
)
LIMITS: Final = (
    H2Limits(),
    H2Limits(max_streams=3, max_header_bytes=400, max_continuations=2, stream_window=65_535, connection_window=65_535),
    H2Limits(stream_window=65_535, connection_window=2**17, max_stream_unsent=1000),
    H2Limits(
        resets=Allowance(2, 1),
        settings=Allowance(3, 1),
        pings=Allowance(2, 1),
        empty_data=Allowance(3, 1),
        other=Allowance(4, 1),
    ),
    H2Limits(stream_window=65_535, connection_window=65_535, max_stream_unsent=1000),
)

_instruments: Final = Instruments()
_STREAMS: Final = StreamMetrics(_instruments)
_TRANSPORT: Final = TransportMetrics(_instruments)
_HEALTH: Final = Health()


class Timer:
    """What a call's timeout leaves behind."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.then: Callable[[], None] | None = then

    def cancel(self) -> None:
        self.then = None


class Server:
    """Connection and calls, with nothing below and a decider above."""

    def __init__(
        self,
        limits: H2Limits,
        outcome: Outcome = OUTCOMES[0],
        *,
        held: Held | None = None,
        turns: bool = False,
    ) -> None:
        self.decider = FakeDecider(outcome)
        self.clock = FakeClock()
        known = KnownBlocks()
        self.held = Held() if held is None else held
        self.connection = Connection(limits, self.clock, known, self.held)
        services = Services(
            self.decider,
            STREAM_LIMITS,
            ENCODER,
            _HEALTH,
            _STREAMS,
            _TRANSPORT,
            known,
            max_message_bytes=MAX_MESSAGE_BYTES,
            held=self.held,
            turns=Turns(self._soon, self.clock) if turns else None,
        )
        self.timers: list[Timer] = []
        self.soon: list[Callable[[], None]] = []
        """Turns that are due."""
        self.calls = Calls(self.connection, services, self._wake, self._later)
        self.outcome = outcome
        self.leaving = False

    def _wake(self) -> None:
        """There is something to write, which the next `take` finds."""

    def _later(self, seconds: float, then: Callable[[], None]) -> Timer:
        assert seconds >= 0
        self.timers.append(Timer(then))
        return self.timers[-1]

    def _soon(self, seconds: float, then: Callable[[], None]) -> None:
        assert seconds == 0
        self.soon.append(then)

    def receive(self, data: bytes) -> bytes:
        """Take bytes; what to write."""
        self.calls.receive(data)
        return self.take()

    def take(self) -> bytes:
        while self.soon:
            self.soon.pop()()
        outbox = self.connection.outbox
        out = b"".join(outbox.take_pieces()) if outbox.large else outbox.take()
        while outbox.full:
            outbox.go_on()
            out += b"".join(outbox.take_pieces()) if outbox.large else outbox.take()
        return out

    def happens(self, source: Source) -> None:
        """What is done to a connection beside reading from it."""
        connection, calls = self.connection, self.calls
        kind = source.below(10)
        if connection.ended and kind in (0, 1, 8):
            return  # the server says nothing more on it
        if kind == 0:
            if not self.leaving:
                self.leaving = True
                connection.announce_end()
                connection.ping(b"draining")
        elif kind == 1:
            self.leaving = True
            connection.refuse_new()
        elif kind == 2:
            calls.leave()
        elif kind == 3:
            _HEALTH.set_ready(source.chance(2))
        elif kind == 4 and self.timers:
            timer = source.pick(self.timers[:200])
            if timer.then is not None:
                timer.then()
        elif kind == 5:
            self.clock.advance(source.below(5))
            calls.tick += 1
        elif kind < 8 and connection.streams:
            stream = source.pick(list(connection.streams.values())[:200])
            expire = getattr(stream.call, "expire", None)
            if kind == 6 and expire is not None:
                expire()
            elif kind == 7:
                calls.reset(stream, ErrorCode.CANCEL, "window_timeout")
        elif kind == 8:
            connection.ping(b"keepaliv")
        else:
            self.held.give_up_most(source.chance(2))

    def bounds(self) -> None:
        """What is kept is bounded."""
        connection = self.connection
        limits = connection.limits
        assert len(connection._rest) < 9 + 16_384 + 24
        assert len(connection.streams) <= limits.max_streams
        assert len(connection._book._over) <= 1000
        if connection._block is not None:
            assert len(connection._block.data) <= limits.max_header_bytes + 16_384
        outbox, intake, held = connection.outbox, connection.intake, self.held
        streams = connection.streams
        unsent = kept = promised = 0
        for stream in streams.values():
            waits, waiting = stream.waiting_bytes, stream.waiting
            assert waits == (0 if waiting is None else sum(map(len, waiting)))
            assert stream.credit <= limits.stream_window
            unsent += waits
            kept += stream.held
            promised += stream.promised
        assert outbox.unsent == unsent
        assert {stream.id for stream in outbox.stuck()} <= streams.keys()
        assert intake.credit <= limits.connection_window
        if len(held.holders) == 1:
            assert (held.bytes, held.promised) == (kept + unsent, promised)
            assert set(held.waiting) == set(intake._waiting.values())
        assert intake._waiting.keys() <= streams.keys()
        assert held.bytes <= held.most

    def close(self) -> None:
        """The connection is gone: everything is given back."""
        self.calls.lost()
        connection = self.connection
        assert not connection.intake._waiting
        if not self.held.holders:
            assert (self.held.bytes, self.held.promised, self.held.waiting) == (0, 0, {})
        assert not connection.streams
        assert connection.outbox.unsent == 0
        assert not connection.outbox.stuck()
        made = len(self.decider.asked) if isinstance(self.outcome, Decision) else 0
        assert len(self.decider.ended) == made


def begin() -> None:
    """Forget what an execution that failed has left."""
    _STREAMS.open.value = 0
    _HEALTH._watchers.clear()
    _HEALTH.set_ready(True)


def settled() -> None:
    """All connections are closed: nothing is open or watched."""
    assert _STREAMS.open.value == 0
    assert _HEALTH.watchers == 0


# -- bytes of a peer that does not keep the rules ---------------------------------------------------------------------

_SIZES: Final = (0, 1, 5, 100, 5000, 16_384, 16_385, 20_000)
_REQUESTS: Final = (
    *[w.request()] * 6,
    w.request("/grpc.health.v1.Health/Check"),
    w.request("/grpc.health.v1.Health/Watch"),
    w.request("/grpc.health.v1.Health/List"),
    w.request("/unknown"),
    w.request(w.PROCESS, ("grpc-timeout", "1S")),
    w.request(w.PROCESS, ("grpc-timeout", "x")),
    w.request(w.PROCESS, ("grpc-encoding", "gzip")),
    w.request(w.PROCESS, ("content-length", "12")),
    w.request(w.PROCESS, ("x-a", "v" * 300)),
    w.request(w.PROCESS, ("content-type", "text/plain")),
    w.request("/", method="GET"),
    w.request("/", method="HEAD"),
    ((":method", "POST"), ("x", "y")),
    (("connection", "close"), *w.request()),
)
_TRAILERS: Final = ((("x-trailer", "1"),), ((":path", "/"),))


def wild(source: Source, messages: list[bytes]) -> bytes:
    """Frames in any order, most of them well formed; `messages` is what DATA carries."""
    out = [w.PREFACE, w.settings(*((source.pick((1, 2, 3, 4, 4, 5, 6)), _setting(source)) for _ in range(source.below(3))))]
    bodies: dict[int, bytes] = {}
    whole = b"".join(map(w.grpc, messages))
    next_id = 1
    while source.left and len(out) < 80:
        kind = source.below(20)
        if kind < 5 or next_id == 1:
            stream_id = next_id if not source.chance(20) else source.below(256)
            next_id = max(next_id, stream_id) + 2
            out += _headers(source, stream_id)
            bodies[stream_id] = whole
        elif kind < 12:
            stream_id = 1 + 2 * source.below(next_id // 2 + 1) if not source.chance(30) else source.below(256)
            body = bodies.get(stream_id, b"abc")
            size = source.pick(_SIZES)
            bodies[stream_id] = body[size:]
            out.append(_data(source, stream_id, body[:size]))
        elif kind == 12:
            out.append(w.settings((source.pick((1, 2, 3, 4, 4, 5)), _setting(source))))
        elif kind == 13:
            out.append(w.frame(w.SETTINGS, w.ACK, 0))
        else:
            out.append(_control(source, kind, next_id))
    made = b"".join(out)
    if source.chance(6):
        changed = bytearray(made)
        for _ in range(1 + source.below(3)):
            changed[source.number(3) % len(changed)] = source.below(256)
        made = bytes(changed)
    return made


@lru_cache(maxsize=64)
def _compressed(fields: tuple[tuple[str, str], ...]) -> bytes:
    """A block as a new encoder makes it."""
    return bytes(Encoder().encode(fields))


def _setting(source: Source) -> int:
    return source.pick((0, 1, 100, 4096, 65_535, 2**20, 16_384, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1))


def _headers(source: Source, stream_id: int) -> list[bytes]:
    fields = source.pick(_REQUESTS) if not source.chance(12) else source.pick(_TRAILERS)
    block = w.stateless(fields) if not source.chance(6) else _compressed(fields)
    if source.chance(8):
        block = b"\x20" + block
    flags = w.END_STREAM if source.chance(12) else 0
    if source.chance(10):
        block = source.number(4).to_bytes(4, "big") + b"\x10" + block
        flags |= w.PRIORITIZED
    if source.chance(10):
        padding = source.below(256)
        block = bytes((padding,)) + block + bytes(min(padding, 255) if not source.chance(8) else 0)
        flags |= w.PADDED
    if not source.chance(10):
        return [w.frame(w.HEADERS, flags | w.END_HEADERS, stream_id, block)]
    pieces = source.cut(block, 4) or [b""]
    frames = [w.frame(w.HEADERS, flags, stream_id, pieces[0])]
    frames += [w.frame(w.CONTINUATION, 0, stream_id, piece) for piece in pieces[1:]]
    if not source.chance(12):
        frames.append(w.frame(w.CONTINUATION, w.END_HEADERS, stream_id))
    return frames


def _data(source: Source, stream_id: int, body: bytes) -> bytes:
    flags = w.END_STREAM if source.chance(8) else 0
    if source.chance(8):
        padding = source.below(256)
        body = bytes((padding,)) + body + bytes(padding if not source.chance(8) else 0)
        flags |= w.PADDED
    return w.frame(w.DATA, flags, stream_id, body)


def _control(source: Source, kind: int, next_id: int) -> bytes:
    stream_id = 1 + 2 * source.below(next_id // 2 + 1) if not source.chance(12) else source.below(8)
    if kind < 16:
        increment = source.pick((1, 100, 65_535, 2**20, 2**31 - 1, 0))
        return w.window_update(0 if source.chance(2) else stream_id, increment)
    if kind == 16:
        return w.frame(w.RST_STREAM, 0, stream_id, source.pick((b"\0\0\0\x08", b"\0\0\0\0", b"\0\0")))
    if kind == 17:
        return w.frame(w.PING, w.ACK if source.chance(3) else 0, 0, source.pick((b"12345678", b"draining", b"1")))
    if kind == 18:
        dependency = source.below(9).to_bytes(4, "big")
        return w.frame(w.PRIORITY, 0, stream_id, dependency + source.pick((b"\x10", b"", b"\x10")))
    other = source.below(256)
    return w.frame(source.below(12), other, stream_id if source.chance(2) else 0, source.piece(12))


def streams_of(sent: bytes, kind: int) -> set[int]:
    """The streams on which these bytes of a peer have frames of this kind."""
    found = set()
    at = len(w.PREFACE)
    while len(sent) - at >= 9:
        if sent[at + 3] == kind:
            found.add(int.from_bytes(sent[at + 5 : at + 9], "big") & 0x7FFFFFFF)
        at += 9 + int.from_bytes(sent[at : at + 3], "big")
    return found
