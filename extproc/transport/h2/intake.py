"""What the peer may send: which streams there are, and how far its windows are open."""

from __future__ import annotations

from typing import Final

from extproc.transport.h2.frames import FIRST_WINDOW, ConnectionFault, ErrorCode, window_update
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.outbox import Outbox, Stream
from extproc.transport.h2.table import State

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


class Intake:
    """The windows that we grant. They open again when they are half used, unless the peer leaves us with too much.

    `held` counts the bytes of bodies that the layer above keeps; it adds to it, and gives back with `release`.
    """

    __slots__ = ("_limits", "_outbox", "_stinted", "credit", "held", "low", "stream_low")

    def __init__(self, limits: H2Limits, outbox: Outbox) -> None:
        if min(limits.stream_window, limits.connection_window) < FIRST_WINDOW:
            raise ValueError(f"windows below {FIRST_WINDOW} can't be announced in time")
        self._limits = limits
        self._outbox = outbox
        self.credit = limits.connection_window
        """What the peer may send on all streams together."""
        self.low = limits.connection_window // 2
        self.stream_low = limits.stream_window // 2
        self.held = 0
        self._stinted: dict[int, Stream] = {}
        """Streams whose window was not opened again."""

    def spent(self) -> None:
        """The connection's window is half used. Raises ConnectionFault when more than it was."""
        if self.credit < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "window_ignored", "more data than the connection's window")
        self._grant()

    @property
    def starved(self) -> bool:
        """The connection's window stays shut because of what is held."""
        return self.credit < self.low and self.held + self._outbox.unsent > self._limits.max_held

    def release(self, size: int) -> None:
        """So many bytes are no longer held."""
        self.held -= size
        if self.credit < self.low:
            self._grant()

    def grant_stream(self, stream: Stream) -> None:
        """Open a stream's window again, unless the peer does not take what we answer."""
        if stream.waiting_bytes <= self._limits.max_stream_unsent:
            self._outbox.control(window_update(stream.id, self._limits.stream_window - stream.credit))
            stream.credit = self._limits.stream_window
        else:
            self._stinted[stream.id] = stream

    def grant_again(self) -> None:
        """Something may have left: open the windows that were kept shut for it."""
        if self.credit < self.low:
            self._grant()
        if self._stinted:
            stinted, self._stinted = self._stinted, {}
            for stream in stinted.values():
                if stream.state is State.OPEN:
                    self.grant_stream(stream)

    def _grant(self) -> None:
        if self.held + self._outbox.unsent <= self._limits.max_held:
            self._outbox.control(window_update(0, self._limits.connection_window - self.credit))
            self.credit = self._limits.connection_window
