"""The services on a connection: `ExternalProcessor/Process`, and `grpc.health.v1.Health`. Bytes in, bytes out, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from extproc import names
from extproc.errors import ProtocolError
from extproc.observability.logs import logger
from extproc.observability.metrics import StreamMetrics, TransportMetrics
from extproc.protocol import StreamLimits
from extproc.transport.codec import Encoder
from extproc.transport.h2.connection import Connection
from extproc.transport.h2.events import (
    ConnectionEnded,
    DataReceived,
    PeerLeaves,
    PingAnswered,
    RequestReceived,
    StreamReset,
)
from extproc.transport.h2.frames import ErrorCode
from extproc.transport.h2.grpc import OK_TRAILERS, CallFault, Code, Messages, status_block, timeout_s, whole
from extproc.transport.h2.headers import Fields, KnownBlocks, encode
from extproc.transport.h2.outbox import Stream
from extproc.transport.health import SERVICE as HEALTH_SERVICE
from extproc.transport.health import Health
from extproc.transport.session import Decider, Session

_log = logger(__name__)

_PROCESS: Final = names.EXT_PROC_METHOD
_MAX_HEALTH_BYTES: Final = 4096
DRAIN_PING: Final = b"draining"


class Services(NamedTuple):
    """What the connections of a server share. Without a decider only health is served."""

    decider: Decider | None
    limits: StreamLimits
    encoder: Encoder
    health: Health
    streams: StreamMetrics
    transport: TransportMetrics
    known: KnownBlocks
    max_message_bytes: int


class Plan(NamedTuple):
    """What a request's fields ask for; worked out once for all requests with the same block."""

    path: str
    timeout_s: float | None = None
    fault: CallFault | None = None
    http: tuple[int, str] | None = None
    """Not gRPC at all: an HTTP status, and words for people if there may be any."""
    process: bool = False
    """An ext_proc stream, and nothing is wrong with it."""


def plan_of(fields: Fields) -> Plan:
    """Read the fields as gRPC wants them."""
    values = fields.values
    path = values[":path"]
    if values[":method"] != "POST":
        text = "this port speaks gRPC, which is POST over HTTP/2" if values[":method"] != "HEAD" else ""
        return Plan(path, http=(405, text))
    content_type = values.get("content-type", "")
    if not (content_type == "application/grpc" or content_type.startswith(("application/grpc+", "application/grpc;"))):
        return Plan(path, http=(415, "this port speaks gRPC, content-type application/grpc"))
    encoding = values.get("grpc-encoding", "identity")
    if encoding != "identity":
        fault = CallFault(Code.UNIMPLEMENTED, f"grpc-encoding {encoding[:32]!r} is not supported, only identity is")
        return Plan(path, fault=fault)
    told = values.get("grpc-timeout")
    try:
        return Plan(path, None if told is None else timeout_s(told), process=path == _PROCESS)
    except CallFault as fault:
        return Plan(path, fault=fault)


class Timer(Protocol):
    """Something that happens later."""

    def cancel(self) -> None:
        """Let it not happen."""
        ...


class Call:
    """One call. A subclass says what a message does."""

    __slots__ = ("calls", "messages", "stream", "timer")
    max_message_bytes = _MAX_HEALTH_BYTES

    def __init__(self, calls: Calls, stream: Stream) -> None:
        self.calls = calls
        self.stream = stream
        self.messages: Messages | None = None
        self.timer: Timer | None = None
        """Of the call's grpc-timeout."""

    def data(self, data: bytes | memoryview, ended: bool) -> None:
        """A piece of the call's messages."""
        try:
            messages = self.messages
            if messages is None:
                messages = self.messages = Messages()
            for message in messages.feed(data, self.max_message_bytes):
                self.message(message)
            if messages.fault is not None:
                raise messages.fault
            if ended:
                self.half_closed(truncated=not messages.empty)
        except CallFault as fault:
            self.finish(fault.code, fault.message)

    def message(self, message: bytes) -> None:
        """A whole message. Raises CallFault."""
        raise NotImplementedError

    def half_closed(self, *, truncated: bool) -> None:
        """The peer has sent all; `truncated`: it stopped inside a message."""
        if truncated:
            self.finish(Code.INTERNAL, "the call ended inside a message")

    def finish(self, code: Code, message: str = "") -> None:
        """End the call with a status. Nothing happens when it is over."""
        stream = self.stream
        if stream.call is self:
            stream.call = None
            if self.timer is not None:
                self.timer.cancel()
            self.closed(code.name)
            block = OK_TRAILERS if code is Code.OK and stream.opened else status_block(code, message, opened=stream.opened)
            self.calls.connection.outbox.end(stream, block)

    def closed(self, code: str) -> None:
        """The call is over, by `finish` or because its stream is gone."""


class ProcessCall(Call):
    """One ext_proc stream."""

    __slots__ = ("held", "session")

    def __init__(self, calls: Calls, stream: Stream, session: Session) -> None:
        self.calls = calls
        self.stream = stream
        self.messages = None
        self.timer = None
        self.session = session
        self.held = 0
        calls.services.streams.open.value += 1

    def data(self, data: bytes | memoryview, ended: bool) -> None:
        calls, messages = self.calls, self.messages
        connection, size = calls.connection, len(data)
        self.held += size
        connection.intake.held += size
        if messages is not None and not ended and messages.goes_on(data, size):
            return  # most frames of a large body are the middle of a message
        answered = False
        try:
            session, outbox, stream = self.session, connection.outbox, self.stream
            most = calls.services.max_message_bytes
            if messages is not None:
                raws = messages.feed(data, most)
            else:
                # Usually whole messages, and nothing is to be kept.
                raws, end = whole(data, most)
                if end < size:
                    messages = self.messages = Messages()
                    messages.begin(data[end:], most)
            for raw in raws:
                for answer in session.receive(raw):
                    answered = True
                    outbox.message(stream, answer)
            if messages is not None and messages.fault is not None:
                raise messages.fault
            if ended:
                if messages is None or messages.empty:
                    self.finish(Code.OK)
                else:
                    self.finish(Code.INTERNAL, "the call ended inside a message")
            elif answered:
                connection.intake.release(self.held)
                self.held = 0
        except CallFault as fault:
            self.finish(fault.code, fault.message)
        except ProtocolError as error:
            _log.warning("stream ended: the peer broke the protocol", error=error.message, session=repr(self.session))
            self.finish(Code.INVALID_ARGUMENT, error.message)
        except Exception:
            _log.exception("stream ended: a fault of ours", session=repr(self.session))
            self.finish(Code.INTERNAL, "internal error")

    def expire(self) -> None:
        """The request has had its time to be decided."""
        answers = self.session.expire()
        for answer in answers:
            self.calls.connection.outbox.message(self.stream, answer)
        if answers:
            self.finish(Code.OK)

    def closed(self, code: str) -> None:
        self.session.closed()
        if self.held:
            self.calls.connection.intake.release(self.held)
            self.held = 0
        metrics = self.calls.services.streams
        metrics.open.value -= 1
        if code == "OK":
            metrics.ok.value += 1
        elif code == "CANCELLED":  # how Envoy ends a stream that it needs no more
            metrics.cancelled.value += 1
        else:
            metrics.streams.child(code).value += 1


class HealthCheck(Call):
    """`Check`: one request, one answer."""

    __slots__ = ()

    def message(self, message: bytes) -> None:
        try:
            answer = self.calls.services.health.check(message)
        except ValueError as error:
            raise CallFault(Code.INTERNAL, str(error)) from error
        if answer is None:
            raise CallFault(Code.NOT_FOUND, "unknown service")
        self.calls.connection.outbox.message(self.stream, answer)
        self.finish(Code.OK)

    def half_closed(self, *, truncated: bool) -> None:
        self.finish(Code.INTERNAL, "the call ended before its request")


class HealthList(HealthCheck):
    """`List`: every service."""

    __slots__ = ()

    def message(self, message: bytes) -> None:
        self.calls.connection.outbox.message(self.stream, self.calls.services.health.list())
        self.finish(Code.OK)


class HealthWatch(Call):
    """`Watch`: an answer now, and one at each change, until the peer leaves."""

    __slots__ = ("_cancel",)

    def __init__(self, calls: Calls, stream: Stream) -> None:
        super().__init__(calls, stream)
        self._cancel: Callable[[], None] | None = None

    def message(self, message: bytes) -> None:
        if self._cancel is not None:
            raise CallFault(Code.INTERNAL, "a second request on a call that takes one")
        try:
            self._cancel = self.calls.services.health.watch(message, self._tell)
        except ValueError as error:
            raise CallFault(Code.INTERNAL, str(error)) from error

    def half_closed(self, *, truncated: bool) -> None:
        if truncated or self._cancel is None:
            self.finish(Code.INTERNAL, "the call ended before its request")

    def closed(self, code: str) -> None:
        if self._cancel is not None:
            self._cancel()

    def _tell(self, answer: bytes) -> None:
        self.calls.connection.outbox.message(self.stream, answer)
        self.calls.wake()


class NotGrpc(Call):
    """A request that is not gRPC: once it is whole, it gets an answer that people can read."""

    __slots__ = ("_status", "_text")

    def __init__(self, calls: Calls, stream: Stream, status: int, text: str) -> None:
        super().__init__(calls, stream)
        self._status = status
        self._text = text

    def data(self, data: bytes | memoryview, ended: bool) -> None:
        if not ended:
            return
        stream, outbox = self.stream, self.calls.connection.outbox
        stream.call = None
        allow = [("allow", "POST")] if self._status == 405 else []
        outbox.headers(stream, encode([(":status", str(self._status)), ("content-type", "text/plain"), *allow]))
        outbox.body(stream, f"{self._text}\n".encode() if self._text else b"")
        outbox.end(stream, b"")


_HEALTH: Final[Mapping[str, type[Call]]] = {
    f"/{HEALTH_SERVICE}/Check": HealthCheck,
    f"/{HEALTH_SERVICE}/List": HealthList,
    f"/{HEALTH_SERVICE}/Watch": HealthWatch,
}


class Calls:
    """The calls of one connection.

    `wake` is called when there is something to write that no read caused; `deadline` when a call has to end after so many
    seconds unless it is over by then.
    """

    def __init__(
        self,
        connection: Connection,
        services: Services,
        wake: Callable[[], None],
        deadline: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self.connection = connection
        self.services = services
        self.wake = wake
        self._deadline = deadline
        self.tick = 0
        """Counts up; a call remembers when it began."""
        self.peer_leaves = False
        self.drain_answered = False
        """The peer has read our first GOAWAY, as it answered the ping that followed it."""
        self.fault: ConnectionEnded | None = None
        """Why the connection has to be closed."""
        self._told: set[str] = set()

    def receive(self, data: bytes) -> None:
        """Take what was read; what to write is in the connection's outbox then."""
        events: list[Any] = self.connection.receive(
            data
        )  # mypy does not follow the comparisons of classes, isinstance is slower
        for event in events:
            kind = event.__class__
            if kind is DataReceived:
                stream, piece, ended = event
                call = stream.call
                if call is not None:
                    call.data(piece, ended)
            elif kind is RequestReceived:
                self._open(*event)
            elif isinstance(event, StreamReset):
                self._reset(event)
            elif isinstance(event, PeerLeaves):
                self.peer_leaves = True
            elif isinstance(event, ConnectionEnded):
                self.fault = event
            elif isinstance(event, PingAnswered):
                self.drain_answered = self.drain_answered or event.payload == DRAIN_PING

    def lost(self) -> None:
        """The connection is gone, and all its calls with it."""
        connection = self.connection
        for stream in list(connection.streams.values()):
            self._gone(stream)
            connection.outbox.drop(stream)
        connection.streams.clear()

    def reset(self, stream: Stream, code: ErrorCode, reason: str) -> None:
        """End a stream that went over a bound in time."""
        self.connection.reset(stream, code)
        self._reset(StreamReset(stream, code, reason, True))

    def shed(self) -> None:
        """Give up the call that holds most, so that the others can go on."""
        calls = [stream.call for stream in self.connection.streams.values() if isinstance(stream.call, ProcessCall)]
        most = max(calls, key=lambda call: call.held, default=None)
        if most is not None and most.held:
            self._count_reset("held_too_much", ErrorCode.ENHANCE_YOUR_CALM)
            most.finish(Code.RESOURCE_EXHAUSTED, "too much is held on this connection")

    def leave(self) -> None:
        """Our time is up: streams whose answer is under way and needs nothing more from us end well, so that Envoy lets the
        answer go on; the others are UNAVAILABLE."""
        for stream in list(self.connection.streams.values()):
            call = stream.call
            if isinstance(call, ProcessCall) and call.session.may_leave:
                call.finish(Code.OK)
            elif call is not None:
                call.finish(Code.UNAVAILABLE, "the server is shutting down")

    def _open(self, stream: Stream, fields: Fields, ended: bool) -> None:
        plan = fields.note
        if plan is None:
            plan = fields.note = plan_of(fields)
        assert isinstance(plan, Plan)
        services = self.services
        stream.tick = self.tick
        if plan.process and services.decider is not None:
            call: Call = ProcessCall(self, stream, Session(services.decider, services.encoder, services.limits))
        elif plan.http is not None:
            call = NotGrpc(self, stream, *plan.http)
        elif plan.fault is not None:
            self.connection.outbox.end(stream, _refusal(plan.fault))
            return
        else:
            kind = _HEALTH.get(plan.path)
            if kind is None:
                self.connection.outbox.end(stream, status_block(Code.UNIMPLEMENTED, "unknown method", opened=False))
                return
            call = kind(self, stream)
        stream.call = call
        if plan.timeout_s is not None:
            call.timer = self._deadline(plan.timeout_s, lambda: self._timed_out(call))
        if ended:
            call.data(b"", True)

    def _timed_out(self, call: Call) -> None:
        if call.stream.call is call:
            call.finish(Code.DEADLINE_EXCEEDED, "the call's grpc-timeout is over")
            self.wake()

    def _reset(self, event: StreamReset) -> None:
        if event.by_us:
            self._count_reset(event.reason, ErrorCode(event.code))
        self._gone(event.stream)

    def _count_reset(self, reason: str, code: ErrorCode) -> None:
        self.services.transport.resets.child(reason).value += 1
        if reason not in self._told:  # once a connection: the peer decides how often it happens
            self._told.add(reason)
            _log.warning("stream reset", reason=reason, code=code.name)

    @staticmethod
    def _gone(stream: Stream) -> None:
        call = stream.call
        if call is not None:
            stream.call = None
            if call.timer is not None:
                call.timer.cancel()
            call.closed("CANCELLED")


def _refusal(fault: CallFault) -> bytes:
    if fault.code is Code.UNIMPLEMENTED:
        told = [("grpc-status", str(int(fault.code))), ("grpc-message", fault.message), ("grpc-accept-encoding", "identity")]
        return encode([(":status", "200"), ("content-type", "application/grpc"), *told])
    return status_block(fault.code, fault.message, opened=False)
