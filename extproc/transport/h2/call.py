"""A call: what its messages do and how it ends; and the call that all this is for, an ext_proc stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from extproc.errors import ProtocolError
from extproc.observability.logs import peer_logger
from extproc.observability.metrics import StreamMetrics, TransportMetrics
from extproc.protocol import Pieces, StreamLimits
from extproc.transport.codec import Encoder, Message
from extproc.transport.h2.connection import Connection
from extproc.transport.h2.grpc import OK_TRAILERS, CallFault, Code, Messages, status_block, whole
from extproc.transport.h2.headers import KnownBlocks
from extproc.transport.h2.outbox import Stream
from extproc.transport.health import Health
from extproc.transport.held import SMALL, TOO_MUCH, Held, Holder, overloaded
from extproc.transport.session import Decider, Session
from extproc.transport.turns import Turns
from extproc.transport.waiting import Timer

_log = peer_logger(__name__)

_MAX_SMALL_BYTES: Final = 4096


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
    held: Held
    turns: Turns | None = None
    """For decisions on large bodies; None: at once."""


class Calling(Holder):
    """Where calls live: all calls of one connection. A base class and no protocol, as compiled code looks into it at once."""

    connection: Connection
    services: Services
    wake: Callable[[], None]
    """There is something to write that no read caused."""
    later: Callable[[float, Callable[[], None]], Timer]
    """Call in so many seconds."""
    unsettled: dict[ProcessCall, None]
    """Calls that keep views of the read that is looked at."""


class Call:
    """One call. A subclass says what a message does."""

    __slots__ = ("calls", "messages", "stream", "timer")
    max_message_bytes = _MAX_SMALL_BYTES

    def __init__(self, calls: Calling, stream: Stream) -> None:
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
                assert isinstance(message, bytes)  # large ones only come in pieces
                self.message(message)
                if self.stream.call is not self:
                    return  # answered: what stands behind is for nobody
            if messages.unsettled:
                messages.settle(0)
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
            self.closed(code)
            block = OK_TRAILERS if code is Code.OK and stream.opened else status_block(code, message, opened=stream.opened)
            self.calls.connection.outbox.end(stream, block)

    def closed(self, code: Code) -> None:
        """The call is over, by `finish` or because its stream is gone."""


class ProcessCall(Call):
    """One ext_proc stream."""

    __slots__ = ("ends", "session")

    def __init__(self, calls: Calling, stream: Stream, session: Session) -> None:
        self.calls = calls
        self.stream = stream
        self.messages = None
        self.timer = None
        self.session = session
        session.carrier = self
        self.ends = False
        """The peer has sent all, and an answer has its turn later."""
        calls.services.streams.open.value += 1

    def data(self, data: bytes | memoryview, ended: bool) -> None:
        calls, messages, stream = self.calls, self.messages, self.stream
        connection, size = calls.connection, len(data)
        stream.held += size
        connection.held.bytes += size
        if messages is not None and not ended and messages.goes_on(data, size):
            if messages.unsettled:
                calls.unsettled[self] = None
            return  # most frames of a large body are the middle of a message
        answered = False
        try:
            session, outbox = self.session, connection.outbox
            most = calls.services.max_message_bytes
            came: Sequence[bytes | Pieces]
            if messages is not None:
                came = messages.feed(data, most)
            else:
                # Usually whole messages, and nothing is to be kept.
                came, end = whole(data, most)
                if end < size:
                    messages = self.messages = Messages()
                    messages.begin(data[end:], most)
            for message in came:
                for answer in session.receive(message) if isinstance(message, bytes) else self._receive_pieces(message):
                    answered = True
                    outbox.message(stream, answer)
            if messages is not None and messages.unsettled:
                calls.unsettled[self] = None
            if messages is not None and messages.fault is not None:
                raise messages.fault
            if ended:
                if session.is_late:
                    self.ends = True
                elif messages is None or messages.empty:
                    self.finish(Code.OK)
                else:
                    self.finish(Code.INTERNAL, "the call ended inside a message")
            elif answered:
                self._release()
        except CallFault as fault:
            self.finish(fault.code, fault.message)
        except ProtocolError as error:
            _log.warning("stream ended: the peer broke the protocol", error=error.message, session=repr(self.session))
            self.finish(Code.INVALID_ARGUMENT, error.message)
        except Exception:
            _log.exception("stream ended: a fault of ours", session=repr(self.session))
            self.finish(Code.INTERNAL, "internal error")

    def _receive_pieces(self, message: Pieces) -> list[Message]:
        """The answers to a message that came in pieces, which stay as they are while that keeps little else in memory."""
        messages = self.messages
        assert messages is not None
        session = self.session
        body = session.body_in(message)
        if body is not None and messages.may_stay(self.stream.held):
            return session.receive_body(body)
        return session.receive(messages.joined(message))

    def settle(self) -> None:
        """A read is over of which messages were kept."""
        if self.messages is not None and self.stream.call is self:
            self.messages.settle(self.stream.held)

    def _release(self) -> None:
        """What the stream held is answered."""
        self.calls.connection.intake.release(self.stream)
        if self.messages is not None:
            self.messages.answered()

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """As a session's carrier."""
        return self.calls.later(delay_s, call)

    def resume(self, outcome: object) -> None:
        """As a session's carrier: a decision that had to wait goes on, outside of any read."""
        self._go_on(lambda: self.session.resume(outcome))

    def ask(self) -> bool:
        """As a session's carrier: a turn for a large decision."""
        turns = self.calls.services.turns
        if turns is None:
            return False
        turns.ask(self._take_turn)
        return True

    def _take_turn(self) -> None:
        if self.stream.call is self:
            self._go_on(self.session.take_turn)
            if self.ends:
                self.finish(Code.OK)
                self.calls.wake()

    def _go_on(self, what: Callable[[], list[Message]]) -> None:
        """Send what the session answers, outside of any read."""
        connection = self.calls.connection
        try:
            answers = what()
            for answer in answers:
                connection.outbox.message(self.stream, answer)
            if answers:
                self._release()
                held = connection.held
                if held.bytes > held.most:
                    held.relieve()
        except ProtocolError as error:
            _log.warning("stream ended: the peer broke the protocol", error=error.message, session=repr(self.session))
            self.finish(Code.INVALID_ARGUMENT, error.message)
        except Exception:
            _log.exception("stream ended: a fault of ours", session=repr(self.session))
            self.finish(Code.INTERNAL, "internal error")
        self.calls.wake()

    def expire(self) -> None:
        """The request has had its time to be decided."""
        answers = self.session.expire()
        for answer in answers:
            self.calls.connection.outbox.message(self.stream, answer)
        if answers:
            self.finish(Code.OK)

    def give_up(self) -> None:
        """Too much is held: the request is answered if that still can be, and the call is over."""
        answers = self.session.give_up(overloaded())
        for answer in answers:
            self.calls.connection.outbox.message(self.stream, answer)
        if answers:
            self.finish(Code.OK)
        else:
            self.finish(Code.RESOURCE_EXHAUSTED, TOO_MUCH)

    def to_come(self) -> int:
        """Bytes that may still come before this is answered: as many as were announced, or as are allowed."""
        announced, held = self.session.announced, self.stream.held
        if announced is None or held > announced + announced // 8 + SMALL:  # which may not be true
            return self.calls.services.max_message_bytes - held
        return announced + announced // 64 - held

    def closed(self, code: Code) -> None:
        self.session.closed()
        if self.stream.held:
            self.calls.connection.intake.release(self.stream)
        metrics = self.calls.services.streams
        metrics.open.value -= 1
        if code is Code.OK:
            metrics.ok.value += 1
        elif code is Code.CANCELLED:  # how Envoy ends a stream that it needs no more
            metrics.cancelled.value += 1
        else:
            metrics.streams.child(code.name).value += 1
