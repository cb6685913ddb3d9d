"""What the peer may send: which streams there are, and how far its windows are open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from extproc.transport.h2.frames import FIRST_WINDOW, ConnectionFault, ErrorCode, window_update
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.outbox import Outbox, Stream
from extproc.transport.h2.table import State
from extproc.transport.held import SMALL, Held, Waits

_REMEMBERED: Final = 1000
"""Streams that are over and whose end is remembered."""


class StreamBook:
    """The streams that are open, and how the last ones ended."""

    __slots__ = ("_over", "last_id", "open")

    def __init__(self) -> None:
        self.open: dict[int, Stream] = {}
        """In the order in which they were opened."""
        self.last_id = 0
        """Of the last stream that the peer opened."""
        self._over: dict[int, State] = {}

    def state_of(self, stream_id: int) -> State:
        """Of a stream that is not open. Raises ConnectionFault for 0, which is none."""
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad_stream_id", "a stream's frame on stream 0")
        if stream_id > self.last_id or not stream_id & 1:
            return State.IDLE
        return self._over.get(stream_id, State.FORGOTTEN)

    def forget(self, stream: Stream, how: State) -> None:
        """The stream is over."""
        del self.open[stream.id]
        stream.state = how
        self.remember(stream.id, how)

    def remember(self, stream_id: int, how: State) -> None:
        """How a stream ended, for frames that still come."""
        over = self._over
        over[stream_id] = how
        if len(over) > _REMEMBERED:
            for old in list(over)[: _REMEMBERED // 2]:
                del over[old]


class Stinted(Waits):
    """A stream that waits until less is held."""

    __slots__ = ("_intake", "stream")

    def __init__(self, intake: Intake, stream: Stream) -> None:
        self._intake = intake
        self.stream = stream

    def go_on(self) -> bool:
        return self._intake.try_again(self.stream)


class Intake:
    """The windows that we grant. They open again when they are half used; a stream's stays shut while its peer leaves us with
    too many answers, or all streams of the process with too much (`held`)."""

    __slots__ = ("_held", "_limits", "_outbox", "_stinted", "_waiting", "credit", "low", "stream_low", "wake")

    def __init__(self, limits: H2Limits, outbox: Outbox, held: Held) -> None:
        if min(limits.stream_window, limits.connection_window) < FIRST_WINDOW:
            raise ValueError(f"windows below {FIRST_WINDOW} can't be announced in time")
        self._limits = limits
        self._outbox = outbox
        self._held = held
        self.credit = limits.connection_window
        """What the peer may send on all streams together."""
        self.low = limits.connection_window // 2
        self.stream_low = limits.stream_window // 2
        self._stinted: dict[int, Stream] = {}
        """Streams whose window was not opened again, as the peer does not take what we answer."""
        self._waiting: dict[int, Stinted] = {}
        """Streams whose window was not opened again because of what is held."""
        self.wake: Callable[[], None] = _sleep_on
        """Called when a window was opened that no read of this connection opened."""

    def spent(self) -> None:
        """The connection's window is half used. Raises ConnectionFault when more than it was."""
        if self.credit < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "window_ignored", "more data than the connection's window")
        self._outbox.control(window_update(0, self._limits.connection_window - self.credit))
        self.credit = self._limits.connection_window

    def grant_stream(self, stream: Stream) -> None:
        """Open a stream's window again, unless the peer does not take what we answer, or too much is held."""
        if stream.waiting_bytes > self._limits.max_stream_unsent:
            self._stinted[stream.id] = stream
        elif self._held.is_free or stream.held < SMALL or self._promise(stream):
            self._open(stream)
        elif stream.id not in self._waiting:
            waits = self._waiting[stream.id] = Stinted(self, stream)
            self._held.waiting[waits] = None
            self._held.promised -= stream.promised
            stream.promised = 0

    def try_again(self, stream: Stream) -> bool:
        """It is the turn of a stream that waited; whether it goes on."""
        if not self._held.is_free and not self._promise(stream):
            return False
        del self._waiting[stream.id]
        self._open(stream)
        self.wake()
        return True

    def grant_again(self) -> None:
        """Something may have left: open the windows that were kept shut for it."""
        if self._stinted:
            stinted, self._stinted = self._stinted, {}
            for stream in stinted.values():
                if stream.state is State.OPEN:
                    self.grant_stream(stream)
        if self._held.waiting:
            self._held.ease()

    def release(self, stream: Stream) -> None:
        """What the stream held is answered."""
        held = self._held
        held.bytes -= stream.held
        stream.held = 0
        if stream.promised:
            held.promised -= stream.promised
            stream.promised = 0
        if held.waiting:
            if self._leave(stream) and stream.call is not None and stream.state is State.OPEN:
                self._open(stream)  # what still comes is not held
            held.ease()

    def forget(self, stream: Stream) -> None:
        """The stream is over, and with it its turn."""
        if self._waiting:
            self._leave(stream)
        if stream.held or stream.promised:
            self.release(stream)

    def _leave(self, stream: Stream) -> bool:
        """The stream waits no longer; whether it did."""
        waits = self._waiting.pop(stream.id, None)
        if waits is None:
            return False
        self._held.waiting.pop(waits, None)
        return True

    def _promise(self, stream: Stream) -> bool:
        """Promise a stream what its body may still bring, in place of what it was promised before, if that has room."""
        held = self._held
        more = max(stream.call.to_come(), self._limits.stream_window)
        if more > stream.promised and not held.has_room(stream.promised, more):
            return False
        held.promised += more - stream.promised
        stream.promised = more
        return True

    def _open(self, stream: Stream) -> None:
        self._outbox.control(window_update(stream.id, self._limits.stream_window - stream.credit))
        stream.credit = self._limits.stream_window


def _sleep_on() -> None:
    """Nobody is there to wake."""
