"""What we send: at once while the peer's windows allow it, else in turns as they open."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from extproc.transport.h2.frames import (
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    ConnectionFault,
    ErrorCode,
    Kind,
    StreamFault,
    frame,
    header_frames,
    pack_head,
    pack_message_head,
)
from extproc.transport.h2.headers import encode
from extproc.transport.h2.table import State
from extproc.transport.held import Held

_DATA: Final = int(Kind.DATA)
_HEADERS: Final = int(Kind.HEADERS)
_GRPC_BLOCK: Final = encode([(":status", "200"), ("content-type", "application/grpc")])
_GRPC_HEAD: Final = (len(_GRPC_BLOCK) >> 8, len(_GRPC_BLOCK) & 255, int(Kind.HEADERS), END_HEADERS)


Pieces: TypeAlias = tuple[bytes | memoryview, ...]
"""A message in pieces, so that a large body is not copied to have its head put in front."""

SLICE: Final = 2**22
"""So much of large answers is written at once; what is behind it waits until the socket has taken it."""
_SHUT: Final = -(2**62)
"""The window of a stream that is over: no message fits, so that the usual path needs no look at the state."""


class Stream:
    """One stream: its state, its windows, and what waits for them."""

    __slots__ = (
        "call",
        "closing",
        "credit",
        "expected",
        "got",
        "held",
        "id",
        "opened",
        "promised",
        "state",
        "tick",
        "waiting",
        "waiting_bytes",
        "window",
    )

    def __init__(self, stream_id: int, window: int, credit: int) -> None:
        self.id = stream_id
        self.state = State.OPEN
        self.window = window
        """Bytes that we may send; below 0 after the peer made its windows smaller."""
        self.credit = credit
        """Bytes that the peer may send."""
        self.opened = False
        """Our HEADERS are out."""
        self.waiting: deque[memoryview] | None = None
        """What the windows did not let pass."""
        self.waiting_bytes = 0
        self.closing: bytes | None = None
        """The block that ends our side, once all has been sent; b'' when an empty DATA frame does."""
        self.expected: int | None = None
        """The content-length that the peer announced."""
        self.got = 0
        self.call: Any = None
        """The layer above's own."""
        self.tick = 0
        """The layer above's clock: when the stream was opened."""
        self.held = 0
        """Bytes that came and were not answered: the layer above adds to them."""
        self.promised = 0
        """Bytes that may still come on it, although much is held."""

    @property
    def over(self) -> bool:
        """Nothing is sent on it any more. The layer above may hear of that later than it acts."""
        return self.state is State.CLOSED or self.state is State.RESET

    def __repr__(self) -> str:
        return f"<Stream {self.id} {self.state.name} window={self.window} waiting={self.waiting_bytes}>"


class Outbox:
    """Bytes for the peer, in order. `ended` is called when a stream's last frame is out."""

    __slots__ = (
        "_beyond",
        "_blocked",
        "_ended",
        "_held",
        "_out",
        "_ready",
        "_taken",
        "first_window",
        "frame_bytes",
        "full",
        "large",
        "unsent",
        "window",
    )

    def __init__(self, ended: Callable[[Stream], None], held: Held) -> None:
        self._ended = ended
        self._held = held
        self._out: list[bytes | memoryview] = []
        self.window = FIRST_WINDOW
        """Bytes that the connection may send; 0 while the outbox is `full`."""
        self._beyond = 0
        """What the window is behind a full outbox."""
        self._taken = 0
        """Bytes of large answers that are to be written."""
        self.full = False
        """A slice of large answers is to be written, and the rest waits for `go_on`."""
        self.first_window = FIRST_WINDOW
        """A new stream's window: the peer's SETTINGS_INITIAL_WINDOW_SIZE."""
        self.frame_bytes = MAX_FRAME_BYTES
        """The peer's SETTINGS_MAX_FRAME_SIZE."""
        self._ready: dict[int, Stream] = {}
        """Streams that wait for the connection's window only, in the order of their turns."""
        self._blocked: dict[int, Stream] = {}
        """Streams that wait for their own window."""
        self.unsent = 0
        """Bytes of all streams that wait for windows."""
        self.large = False
        """There are large pieces to write."""

    def release(self) -> None:
        """Nothing more is written: forget whom to tell about ends."""
        self._ended = _nobody

    def take(self) -> bytes:
        """What is to be written now; nothing is kept."""
        out = self._out
        if not out:
            return b""
        joined = b"".join(out)
        out.clear()
        self.large = False
        self._taken = 0
        return joined

    def take_pieces(self) -> list[bytes | memoryview]:
        """The same, uncopied, for a socket that takes pieces: worth it when they are `large`."""
        out, self._out = self._out, []
        self.large = False
        self._taken = 0
        return out

    def go_on(self) -> None:
        """The socket has taken what was written: the next slice."""
        if self.full:
            self.full = False
            self.window, self._beyond = self._beyond, 0
            self._pump()

    def control(self, data: bytes) -> None:
        """A frame that no window holds back."""
        self._out.append(data)

    def headers(self, stream: Stream, block: bytes) -> None:
        """Open our side."""
        if stream.over:
            return
        stream.opened = True
        self._out.append(header_frames(stream.id, block, end=False, largest=self.frame_bytes))

    def message(self, stream: Stream, message: bytes | Pieces) -> None:
        """A gRPC message, uncompressed, whole or in pieces, after the usual response headers if it is the first."""
        out = self._out
        if not stream.opened:
            if stream.over:
                return
            stream.opened = True
            out.append(pack_head(*_GRPC_HEAD, stream.id) + _GRPC_BLOCK)
        size = 5 + sum(map(len, message)) if isinstance(message, tuple) else 5 + len(message)
        if stream.waiting is None and size <= stream.window and size <= self.window:
            stream.window -= size
            self.window -= size
            if size > self.frame_bytes:
                self._in_frames(stream.id, message if isinstance(message, tuple) else (message,), size)
                return
            out.append(pack_message_head(size >> 8, size & 255, _DATA, 0, stream.id, 0, size - 5))
            if isinstance(message, tuple):
                out += message
                self._count(size)
            else:
                out.append(message)
            return
        pieces = message if isinstance(message, tuple) else (message,)
        self._wait(stream, b"\0" + (size - 5).to_bytes(4, "big"), *pieces)

    def body(self, stream: Stream, data: bytes) -> None:
        """Bytes that are no gRPC message."""
        self._wait(stream, data)

    def end(self, stream: Stream, block: bytes) -> None:
        """Our side ends with this block, or with an empty DATA frame when it is empty, once all that waits is out.

        It opens our side as well if nothing has (gRPC's Trailers-Only). When the peer has not ended its side, it is told not
        to go on (RFC 9113 section 8.1).
        """
        if stream.over:
            return
        stream.closing = block
        if stream.waiting is None:
            self._close(stream)

    def widen(self, increment: int) -> None:
        """WINDOW_UPDATE for the connection. Raises ConnectionFault."""
        if self.window + self._beyond + increment > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "window_overflow", "connection window over 2^31-1")
        if self.full:
            self._beyond += increment
            return
        self.window += increment
        self._pump()

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """WINDOW_UPDATE for a stream. Raises StreamFault."""
        if stream.window + increment > MAX_WINDOW:
            raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "window_overflow", "stream window over 2^31-1")
        stream.window += increment
        self._unblock(stream)

    def resize(self, streams: list[Stream], first_window: int) -> None:
        """The peer changed SETTINGS_INITIAL_WINDOW_SIZE: all windows move by the difference. Raises ConnectionFault."""
        change = first_window - self.first_window
        self.first_window = first_window
        for stream in streams:
            if stream.window + change > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "window_overflow", "stream window over 2^31-1")
            stream.window += change
            self._unblock(stream)

    def drop(self, stream: Stream) -> None:
        """The stream is over: what waits is not sent, and nothing more is."""
        stream.window = _SHUT
        if stream.waiting is not None:
            self.unsent -= stream.waiting_bytes
            self._held.bytes -= stream.waiting_bytes
            stream.waiting, stream.waiting_bytes = None, 0
            self._ready.pop(stream.id, None)
            self._blocked.pop(stream.id, None)

    def stuck(self) -> list[Stream]:
        """Streams that have something to send and no window to send it in."""
        return [*self._ready.values(), *self._blocked.values()]

    def _in_frames(self, stream_id: int, pieces: Pieces, size: int) -> None:
        """A message that is larger than a frame; its bytes are looked at, not copied."""
        out, largest = self._out, self.frame_bytes
        self.large = True
        out.append(pack_message_head(largest >> 8, largest & 255, _DATA, 0, stream_id, 0, size - 5))
        left, room = size - largest, largest - 5
        for piece in pieces:
            view, at = memoryview(piece), 0
            while len(view) - at > room:
                out.append(view[at : at + room])
                at += room
                room = min(largest, left)
                left -= room
                out.append(pack_head(room >> 8, room & 255, _DATA, 0, stream_id))
            out.append(view[at:])
            room -= len(view) - at
        self._count(size)

    def _count(self, size: int) -> None:
        """So much more of large answers is to be written."""
        self._taken += size
        if self._taken >= SLICE and not self.full:
            self.full = True
            self._beyond, self.window = self.window, 0

    def _wait(self, stream: Stream, *parts: bytes | memoryview) -> None:
        if stream.over:
            return
        queue = stream.waiting
        if queue is None:
            queue = stream.waiting = deque()
        for part in parts:
            if part:
                queue.append(memoryview(part))
                stream.waiting_bytes += len(part)
                self.unsent += len(part)
                self._held.bytes += len(part)
        if not queue:
            stream.waiting = None
            return
        if stream.id not in self._ready and stream.id not in self._blocked:
            self._blocked[stream.id] = stream
        self._unblock(stream)

    def _unblock(self, stream: Stream) -> None:
        if stream.window > 0 and self._blocked.pop(stream.id, None) is not None:
            self._ready[stream.id] = stream
        if self._ready:
            self._pump()

    def _pump(self) -> None:
        """Frames in turns, one a stream, as long as the connection's window lasts."""
        ready = self._ready
        while ready and self.window > 0:
            stream_id, stream = next(iter(ready.items()))
            del ready[stream_id]
            if stream.window <= 0:
                self._blocked[stream_id] = stream
                continue
            if self._send_frame(stream):
                stream.waiting = None
                if stream.closing is not None:
                    self._close(stream)
            elif stream.window > 0:
                ready[stream_id] = stream
            else:
                self._blocked[stream_id] = stream

    def _send_frame(self, stream: Stream) -> bool:
        """One DATA frame of what waits; tell whether that was all."""
        assert stream.waiting is not None
        queue = stream.waiting
        room = size = min(stream.window, self.window, self.frame_bytes, stream.waiting_bytes)
        pieces: list[memoryview] = []
        while room > 0:
            piece = queue.popleft()
            if len(piece) > room:
                queue.appendleft(piece[room:])
                piece = piece[:room]
            room -= len(piece)
            pieces.append(piece)
        stream.window -= size
        self.window -= size
        stream.waiting_bytes -= size
        self.unsent -= size
        self._held.bytes -= size
        self._count(size)
        self._out.append(pack_head(size >> 8, size & 255, _DATA, 0, stream.id))
        self._out += pieces
        return not queue

    def _close(self, stream: Stream) -> None:
        block = stream.closing
        size = len(block) if block else 0
        if block and size <= self.frame_bytes:
            self._out.append(pack_head(size >> 8, size & 255, _HEADERS, END_HEADERS | END_STREAM, stream.id) + block)
        elif block:
            self._out.append(header_frames(stream.id, block, end=True, largest=self.frame_bytes))
        else:
            self._out.append(frame(Kind.DATA, END_STREAM, stream.id))
        stream.opened = True
        self._ended(stream)


def _nobody(stream: Stream) -> None:
    """Hears that a stream has ended."""
