"""The calls of a connection: `ExternalProcessor/Process`, and `grpc.health.v1.Health`. Bytes in, bytes out, without I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from extproc.observability.logs import peer_logger
from extproc.transport.h2.call import Call, Calling, ProcessCall, Services
from extproc.transport.h2.connection import Connection
from extproc.transport.h2.events import (
    ConnectionEnded,
    Event,
    PeerLeaves,
    PingAnswered,
    StreamReset,
)
from extproc.transport.h2.frames import ErrorCode
from extproc.transport.h2.grpc import Code, status_block
from extproc.transport.h2.headers import Fields
from extproc.transport.h2.outbox import Stream
from extproc.transport.h2.plan import Plan, plan_of, refusal
from extproc.transport.h2.probes import HEALTH_CALLS, NotGrpc
from extproc.transport.held import SMALL
from extproc.transport.session import Session
from extproc.transport.waiting import Timer

_log = peer_logger(__name__)

DRAIN_PING: Final = b"draining"


class Calls(Calling):
    """The calls of one connection.

    `wake` is called when there is something to write that no read caused; `later` when something is to be done after so many
    seconds.
    """

    def __init__(
        self,
        connection: Connection,
        services: Services,
        wake: Callable[[], None],
        later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self.connection = connection
        connection.intake.wake = wake
        services.held.holders[self] = None
        self.services = services
        self.wake = wake
        self.later = later
        self.tick = 0
        """Counts up; a call remembers when it began."""
        self.peer_leaves = False
        self.drain_answered = False
        """The peer has read our first GOAWAY, as it answered the ping that followed it."""
        self.fault: ConnectionEnded | None = None
        """Why the connection has to be closed."""
        self.unsettled = {}
        self._told: set[str] = set()

    def receive(self, data: bytes) -> None:
        """Take what was read; what to write is in the connection's outbox then."""
        connection = self.connection
        connection.receive(data, self)
        if self.unsettled:
            for call in self.unsettled:
                call.settle()
            self.unsettled.clear()
        held = connection.held
        if held.bytes > held.most:
            held.relieve()

    # -- what the connection tells -------------------------------------------------------------------------------

    def opened(self, stream: Stream, fields: Fields, ended: bool) -> None:
        """A stream was opened: its call begins, or is refused."""
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
            self.connection.outbox.end(stream, refusal(plan.fault))
            return
        else:
            kind = HEALTH_CALLS.get(plan.path)
            if kind is None:
                self.connection.outbox.end(stream, status_block(Code.UNIMPLEMENTED, "unknown method", opened=False))
                return
            call = kind(self, stream)
        stream.call = call
        if plan.timeout_s is not None:
            call.timer = self.later(plan.timeout_s, lambda: self._timed_out(call))
        if ended:
            call.data(b"", True)

    def data(self, stream: Stream, data: bytes | memoryview, ended: bool) -> None:
        """A piece of a call's messages."""
        call = stream.call
        if call is not None:
            call.data(data, ended)

    def event(self, event: Event) -> None:
        """What concerns the connection, and resets."""
        if isinstance(event, StreamReset):
            self._reset(event)
        elif isinstance(event, PeerLeaves):
            self.peer_leaves = True
        elif isinstance(event, ConnectionEnded):
            self.fault = event
        elif isinstance(event, PingAnswered):
            self.drain_answered = self.drain_answered or event.payload == DRAIN_PING

    # -- what the server says ------------------------------------------------------------------------------------

    def lost(self) -> None:
        """The connection is gone, and all its calls with it."""
        connection = self.connection
        for stream in list(connection.streams.values()):
            self._gone(stream)
            connection.outbox.drop(stream)
            connection.intake.forget(stream)
        connection.streams.clear()
        self.services.held.holders.pop(self, None)
        self.wake = _sleep_on
        connection.release()

    def reset(self, stream: Stream, code: ErrorCode, reason: str) -> None:
        """End a stream that went over a bound in time."""
        self.connection.reset(stream, code)
        self._reset(StreamReset(stream, code, reason, True))

    def most_held(self, all_of_them: bool) -> int:
        """As a holder."""
        which = self._largest(all_of_them)
        return 0 if which is None else which.held + which.waiting_bytes

    def _largest(self, all_of_them: bool) -> Stream | None:
        most, which = 0 if all_of_them else SMALL, None
        for stream in self.connection.streams.values():
            size = stream.held + stream.waiting_bytes
            if size > most and (all_of_them or not stream.promised):
                most, which = size, stream
        return which

    def give_up(self, all_of_them: bool) -> None:
        """As a holder: the request is answered if it is still undecided, else its stream is reset."""
        which = self._largest(all_of_them)
        if which is None:
            return
        call = which.call
        if isinstance(call, ProcessCall) and which.held > which.waiting_bytes:
            self._count_reset("held_too_much", ErrorCode.NO_ERROR)
            call.give_up()
        else:
            self.reset(which, ErrorCode.CANCEL, "held_too_much")
        self.wake()

    def leave(self) -> None:
        """Our time is up: streams whose answer is under way and needs nothing more from us end well, so that Envoy lets the
        answer go on; the others are UNAVAILABLE."""
        for stream in list(self.connection.streams.values()):
            call = stream.call
            if isinstance(call, ProcessCall) and call.session.may_leave:
                call.finish(Code.OK)
            elif call is not None:
                call.finish(Code.UNAVAILABLE, "the server is shutting down")

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
            call.closed(Code.CANCELLED)


def _sleep_on() -> None:
    """Nobody is there to wake."""
