"""One HTTP/2 connection, the server's side, without I/O: bytes in, events out (RFC 9113).

`Connection.receive` reads frames and tells the layer above what each means before it looks at the next; that layer answers
through `outbox`, and `outbox.take` are the bytes to write. Nothing here waits, and nothing here knows gRPC but for the
message's five bytes, which are written together with a frame's head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from extproc.transport.h2 import frames as f
from extproc.transport.h2.control import Control
from extproc.transport.h2.events import (
    ConnectionEnded,
    Listener,
    StreamReset,
)
from extproc.transport.h2.frames import ConnectionFault, ErrorCode, Kind, StreamFault
from extproc.transport.h2.headers import Fields, HeaderReader, KnownBlocks, OpenBlock, bad_trailers
from extproc.transport.h2.intake import Intake, StreamBook
from extproc.transport.h2.limits import H2Limits, Meter
from extproc.transport.h2.outbox import Outbox, Stream
from extproc.transport.h2.table import ON_DATA, ON_HEADERS, ON_RST_STREAM, ON_WINDOW_UPDATE, Do, Row, State
from extproc.transport.held import Held

_VIEWED: Final = 4096
"""From this size on, data is a view of what was read from the socket."""
_END_STREAM: Final = f.END_STREAM
_WHOLE_BLOCK: Final = f.END_HEADERS | f.PADDED | f.PRIORITY_FLAG
"""Flags that decide whether a frame of HEADERS is a header block and nothing else."""
_OPEN: Final = State.OPEN
_HALF_CLOSED: Final = State.HALF_CLOSED_REMOTE


class Connection:
    """The state of one connection. One caller feeds it all its bytes."""

    def __init__(self, limits: H2Limits, clock: Callable[[], float], known: KnownBlocks, held: Held) -> None:
        self.limits = limits
        self.held = held
        self.outbox = Outbox(self._sent_all, held)
        self.intake = Intake(limits, self.outbox, held)
        self._book = StreamBook()
        self.streams = self._book.open
        self.refusing = False
        """The second step of a graceful end was taken."""
        self.ended = False
        self._last_served = f.LAST_STREAM_ID
        """What GOAWAY has told the peer, which never grows."""
        self._rest = b""
        self._left = 0
        """Bytes of a DATA frame that are still to come, `_left_for` the stream, None when they are dropped."""
        self._left_for: Stream | None = None
        self._left_ends = False
        self._greeted = False
        self._reader = HeaderReader(limits.max_header_bytes, known)
        self.control = Control(limits, clock, self.outbox, self.intake, self._reader, self.streams)
        self._block: OpenBlock | None = None
        self._resets = Meter("rapid_reset", limits.resets, clock)
        self._empty = Meter("empty_data_flood", limits.empty_data, clock)
        self._other = Meter("useless_frames", limits.other, clock)
        self._handlers: dict[int, Callable[[int, int, bytes, Listener], None]] = {
            Kind.PRIORITY: self._on_priority,
            Kind.RST_STREAM: self._on_rst_stream,
            Kind.SETTINGS: self.control.on_settings,
            Kind.PUSH_PROMISE: self._on_push_promise,
            Kind.PING: self.control.on_ping,
            Kind.GOAWAY: self.control.on_goaway,
            Kind.WINDOW_UPDATE: self._on_window_update,
        }

    # -- what the layer above says -------------------------------------------------------------------------------

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream at once; what waits is not sent. No event comes of it."""
        if self.streams.get(stream.id) is stream:
            self.outbox.control(f.rst_stream(stream.id, code))
            self._forget(stream, State.RESET)

    def ping(self, payload: bytes) -> None:
        """Ask for a sign of life; `payload` has 8 bytes."""
        self.outbox.control(f.frame(Kind.PING, 0, 0, payload))

    def announce_end(self) -> None:
        """First step of a graceful end: GOAWAY that names no stream, so that none that is on its way is lost."""
        self.outbox.control(f.goaway(f.LAST_STREAM_ID, ErrorCode.NO_ERROR))

    def refuse_new(self) -> None:
        """Second step: GOAWAY with the last stream that is served; later ones may be tried elsewhere."""
        if not self.refusing:
            self.refusing = True
            self._last_served = self._book.last_id
            self.outbox.control(f.goaway(self._last_served, ErrorCode.NO_ERROR))

    def fail(self, code: ErrorCode, reason: str, message: str) -> ConnectionEnded:
        """End the connection with GOAWAY."""
        self.ended = True
        self.outbox.control(f.goaway(min(self._last_served, self._book.last_id), code, message))
        return ConnectionEnded(code, reason, message)

    def release(self) -> None:
        """Nothing more comes. What refers to us is let go of, so that the memory is free now: in a circle it would wait for
        the garbage collector, which has so little to do in a server that it hardly ever looks."""
        self._handlers = {}
        self.outbox.release()
        self.intake.wake = _sleep_on

    # -- what the peer says --------------------------------------------------------------------------------------

    def receive(self, data: bytes, to: Listener) -> None:
        """Take what was read from the socket, in any pieces, and tell what it means, in order."""
        if self.ended:
            return
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, size = 0, len(data)
        try:
            if self._left:
                at = self._go_on_with_data(data, to)
            if not self._greeted:
                if not data.startswith(f.PREFACE):
                    if f.PREFACE.startswith(data):
                        self._rest = data
                        return
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not_http2", "no HTTP/2 preface")
                self._greeted = True
                at = len(f.PREFACE)
            while size - at >= 9:
                high, low, kind, flags, stream_id = f.unpack_head(data, at)
                length = high << 8 | low
                if length > f.MAX_FRAME_BYTES:
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame_too_large", f"frame of {length} bytes")
                begin = at + 9
                end = begin + length
                in_order = self._block is None and self.control.established
                is_data = kind == 0 and in_order
                if end > size:
                    if not is_data or flags & f.PADDED:
                        break
                    # What is there of a piece of body goes on at once: waiting for the rest would copy it.
                    self._left, self._left_for, self._left_ends = end - size, None, flags & _END_STREAM != 0
                    end = size
                stream_id &= f.LAST_STREAM_ID
                at = end
                try:
                    if is_data:
                        self._on_data(flags, stream_id, data, begin, end, length, to)
                    elif (
                        kind == 1 and flags & _WHOLE_BLOCK == f.END_HEADERS and self._block is None and self.control.established
                    ):
                        self._on_block(stream_id, data[begin:end], flags & _END_STREAM != 0, False, to)
                    else:
                        self._on_frame(kind, flags, stream_id, data[begin:end], to)
                except StreamFault as stream_fault:
                    self._reset_for(stream_fault, to)
        except ConnectionFault as fault:
            to.event(self.fail(fault.code, fault.reason, fault.message))
            return
        if at < size:
            self._rest = data[at:]

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes, to: Listener) -> None:
        if self._block is not None:
            if kind != Kind.CONTINUATION or stream_id != self._block.stream_id:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "broken_header_block", "a frame inside a header block")
            self._on_continuation(flags, payload, to)
            return
        if not self.control.established and kind != Kind.SETTINGS:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not_http2", "the first frame is not SETTINGS")
        if kind == Kind.HEADERS:
            self._on_headers(flags, stream_id, payload, to)
            return
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(flags, stream_id, payload, to)
        elif kind == Kind.CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "broken_header_block", "CONTINUATION without HEADERS")
        else:
            self._other.count()  # unknown: ignored (RFC 9113 section 5.5)

    def _go_on_with_data(self, data: bytes, to: Listener) -> int:
        """Take the rest of a DATA frame that was cut; return where the next frame begins."""
        size = min(self._left, len(data))
        self._left -= size
        stream = self._left_for
        if stream is not None and not stream.over:
            to.data(stream, memoryview(data)[:size], self._left_ends and self._left == 0)
        return size

    def _on_data(self, flags: int, stream_id: int, data: bytes, begin: int, end: int, size: int, to: Listener) -> None:
        """A DATA frame whose payload has `size` bytes, of which those from `begin` to `end` are there. What the whole
        frame does to its stream it does now, so that nothing depends on how it was cut."""
        intake = self.intake
        intake.credit -= size
        if intake.credit < intake.low:
            intake.spent()
        stream = self.streams.get(stream_id)
        if stream is None or stream.state is not _OPEN:  # the one state with a row that reads it
            state = stream.state if stream is not None else self._book.state_of(stream_id)
            self._refuse(ON_DATA[state], stream_id, "DATA")
            return
        stream.credit -= size
        if stream.credit < 0:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "window_ignored", "more data than the stream's window")
        if flags & f.PADDED:
            begin, end = f.unpadded(data, begin, end)
        left = self._left
        ends = flags & _END_STREAM != 0
        if ends:
            self._count(stream, end - begin + left, True)
        else:
            if stream.expected is not None:
                self._count(stream, end - begin + left, False)
            if stream.credit < intake.stream_low:
                intake.grant_stream(stream)  # before the piece is told: the stream may be over then
        if left:
            self._left_for = stream
            if begin < end:
                to.data(stream, memoryview(data)[begin:end], False)
        elif begin < end or ends:
            to.data(stream, data[begin:end] if end - begin < _VIEWED else memoryview(data)[begin:end], ends)
        else:
            self._empty.count()

    def _count(self, stream: Stream, size: int, ended: bool) -> None:
        """So much more of the body came. Raises StreamFault when that is not what was announced."""
        stream.got += size
        if ended:
            self._end_of_peer(stream)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes, to: Listener) -> None:
        begin, end = 0, len(payload)
        if flags & f.PADDED:
            begin, end = f.unpadded(payload, begin, end)
        itself = False
        if flags & f.PRIORITY_FLAG:
            if end - begin < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size", "HEADERS too short for its priority")
            itself = int.from_bytes(payload[begin : begin + 4], "big") & 0x7FFFFFFF == stream_id
            begin += 5
        block = payload if end - begin == len(payload) else payload[begin:end]
        ended = bool(flags & _END_STREAM)
        if flags & f.END_HEADERS:
            self._on_block(stream_id, block, ended, itself, to)
        else:
            self._block = OpenBlock(stream_id, ended, itself, bytearray(block))

    def _on_continuation(self, flags: int, payload: bytes, to: Listener) -> None:
        open_block = self._block
        assert open_block is not None
        open_block.data += payload
        open_block.frames += 1
        if open_block.frames > self.limits.max_continuations or len(open_block.data) > self.limits.max_header_bytes:
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM, "continuation_flood", "header block in too many frames or too large"
            )
        if flags & f.END_HEADERS:
            self._block = None
            self._on_block(open_block.stream_id, bytes(open_block.data), open_block.ended, open_block.itself, to)

    def _on_block(self, stream_id: int, block: bytes, ended: bool, itself: bool, to: Listener) -> None:
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad_stream_id", f"HEADERS on stream {stream_id}")
        stream = self.streams.get(stream_id)
        row = ON_HEADERS[stream.state if stream is not None else self._book.state_of(stream_id)]
        if row.do is Do.OPEN:
            self._open(stream_id, self._reader.request(block), ended, itself, to)
            return
        # Whatever becomes of the stream, the block changes the table that later blocks are read with.
        pairs = self._reader.decode(block)
        if row.do is not Do.TRAILERS or stream is None:
            self._refuse(row, stream_id, "HEADERS")
            return
        why = bad_trailers(pairs) if ended else "HEADERS in the middle of a stream"
        if why is not None:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "malformed_request", why)
        self._end_of_peer(stream)
        to.data(stream, b"", True)

    def _open(self, stream_id: int, fields: Fields, ended: bool, itself: bool, to: Listener) -> None:
        self._book.last_id = stream_id
        if self.refusing:
            self._book.remember(stream_id, State.RESET)  # the peer was told that this one is not served
            return
        stream = Stream(stream_id, self.outbox.first_window, self.limits.stream_window)
        self.streams[stream_id] = stream
        if len(self.streams) > self.limits.max_streams:
            self._other.count()
            raise StreamFault(
                stream_id, ErrorCode.REFUSED_STREAM, "too_many_streams", f"more than {self.limits.max_streams} streams"
            )
        why = "a stream that depends on itself" if itself else fields.fault
        if why is not None:
            self._other.count()
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "malformed_request", why)
        if fields.content_length is not None:
            stream.expected = fields.content_length
        if ended:
            self._end_of_peer(stream)
        to.opened(stream, fields, ended)

    def _end_of_peer(self, stream: Stream) -> None:
        stream.state = _HALF_CLOSED
        if stream.expected is not None and stream.got != stream.expected:
            raise StreamFault(
                stream.id, ErrorCode.PROTOCOL_ERROR, "malformed_request", "content-length is not the data's length"
            )

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes, to: Listener) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size", "RST_STREAM not of 4 bytes")
        stream = self.streams.get(stream_id)
        row = ON_RST_STREAM[stream.state if stream is not None else self._book.state_of(stream_id)]
        if row.do is not Do.RESET or stream is None:
            self._refuse(row, stream_id, "RST_STREAM")
            return
        if not stream.opened:
            self._resets.count()
        self._forget(stream, State.CLOSED)
        to.event(StreamReset(stream, int.from_bytes(payload, "big"), "reset_by_peer", False))

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes, to: Listener) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size", "WINDOW_UPDATE not of 4 bytes")
        increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad_window_update", "WINDOW_UPDATE by 0")
            self.outbox.widen(increment)
            self.intake.grant_again()
            return
        stream = self.streams.get(stream_id)
        row = ON_WINDOW_UPDATE[stream.state if stream is not None else self._book.state_of(stream_id)]
        if row.do is not Do.WINDOW or stream is None:
            self._refuse(row, stream_id, "WINDOW_UPDATE")
            return
        if increment == 0:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "bad_window_update", "WINDOW_UPDATE by 0")
        self.outbox.widen_stream(stream, increment)
        self.intake.grant_again()

    def _on_priority(self, flags: int, stream_id: int, payload: bytes, to: Listener) -> None:
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad_stream_id", "PRIORITY on stream 0")
        self._other.count()
        if len(payload) != 5:
            code, reason, why = ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size", "PRIORITY not of 5 bytes"
        elif int.from_bytes(payload[:4], "big") & 0x7FFFFFFF == stream_id:
            code, reason, why = ErrorCode.PROTOCOL_ERROR, "bad_priority", "a stream that depends on itself"
        else:
            return
        if stream_id in self.streams:
            raise StreamFault(stream_id, code, reason, why)
        # Nothing is sent on a stream that is idle or over, a reset neither (RFC 9113 sections 5.1 and 6.4), and whether the
        # answer was quicker than this frame must not decide whether its sender hears of it.
        raise ConnectionFault(code, reason, why)

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes, to: Listener) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "push_promise", "PUSH_PROMISE from a client")

    # -- what a fault does ---------------------------------------------------------------------------------------

    def _refuse(self, row: Row, stream_id: int, what: str) -> None:
        """Do what the row says of a frame that has no effect."""
        self._other.count()
        if row.do is Do.CONNECTION_FAULT:
            raise ConnectionFault(row.code, "bad_stream_state", f"{what} on stream {stream_id}: {row.state.value}")
        if row.do is Do.STREAM_FAULT:
            raise StreamFault(stream_id, row.code, "bad_stream_state", f"{what}: {row.state.value}")

    def _reset_for(self, fault: StreamFault, to: Listener) -> None:
        self.outbox.control(f.rst_stream(fault.stream_id, fault.code))
        stream = self.streams.get(fault.stream_id)
        if stream is None:
            self._book.remember(fault.stream_id, State.RESET)
            return
        self._forget(stream, State.RESET)
        to.event(StreamReset(stream, fault.code, fault.reason, True))

    def _sent_all(self, stream: Stream) -> None:
        """Our side has ended: the stream is over, as what the peer might still send does not matter."""
        if stream.state is _HALF_CLOSED:
            self._forget(stream, State.CLOSED)
        else:
            self.outbox.control(f.rst_stream(stream.id, ErrorCode.NO_ERROR))
            self._forget(stream, State.RESET)

    def _forget(self, stream: Stream, how: State) -> None:
        self._book.forget(stream, how)
        given_up = stream.waiting_bytes
        self.outbox.drop(stream)
        self.intake.forget(stream)
        if given_up:
            self.intake.grant_again()


def _sleep_on() -> None:
    """Nobody is there to wake."""
