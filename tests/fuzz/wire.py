"""HTTP/2 from the peer's side, written without ours: frames, header blocks, and a reader that is strict with what we send."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from hpack import Decoder, Encoder, NeverIndexedHeaderTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, PRIORITIZED, ACK = 0x1, 0x4, 0x8, 0x20, 0x1
MAX_WINDOW: Final = 2**31 - 1
PROCESS: Final = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return struct.pack(">HBBBI", size >> 8, size & 255, kind, flags, stream_id) + payload


def settings(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *value) for value in values))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def grpc(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def request(path: str = PROCESS, *more: tuple[str, str], method: str = "POST") -> tuple[tuple[str, str], ...]:
    """A call's header fields."""
    usual = ((":method", method), (":scheme", "http"), (":path", path), (":authority", "epp"))
    kind = () if any(name == "content-type" for name, _ in more) else (("content-type", "application/grpc"),)
    return (*usual, *kind, ("te", "trailers"), *more)


@lru_cache(maxsize=256)
def stateless(fields: tuple[tuple[str, str], ...]) -> bytes:
    """A block that neither uses nor changes a table."""
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(*pair) for pair in fields], huffman=False))


@lru_cache(maxsize=1024)
def _decoded(block: bytes) -> dict[str, str]:
    decoder = Decoder()
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    return {bytes(name).decode(): bytes(value).decode() for name, value in decoder.decode(block, raw=True)}


@dataclass
class Seen:
    """What came on one stream."""

    window: int
    """Bytes that we granted and did not get."""
    headers: dict[str, str] | None = None
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] | None = None
    ended: bool = False
    reset: int | None = None

    def messages(self) -> list[bytes]:
        """The gRPC messages, and no other byte."""
        found, at, body = [], 0, bytes(self.body)
        while at < len(body):
            assert body[at] == 0
            size = int.from_bytes(body[at + 1 : at + 5], "big")
            assert at + 5 + size <= len(body), "a message is cut"
            found.append(body[at + 5 : at + 5 + size])
            at += 5 + size
        return found

    def whole_messages(self) -> list[bytes]:
        """The same, of which the last may still be under way."""
        found, at, body = [], 0, bytes(self.body)
        while len(body) - at >= 5:
            assert body[at] == 0
            size = int.from_bytes(body[at + 1 : at + 5], "big")
            if at + 5 + size > len(body):
                break
            found.append(body[at + 5 : at + 5 + size])
            at += 5 + size
        return found


class Reader:
    """Reads what a server sends, and asserts that it keeps RFC 9113.

    `exact`: windows are followed to the byte. That needs every WINDOW_UPDATE and SETTINGS to be told with `grant` and
    `first_window` before their answers are read.
    """

    def __init__(self, *, exact: bool) -> None:
        self.streams: dict[int, Seen] = {}
        self.exact = exact
        self.window = 65_535
        self.first_window = 65_535
        self.largest_frame = 16_384
        self.opened: set[int] = set()
        """Streams that we have opened."""
        self.goaway: tuple[int, int] | None = None
        self.goaways = 0
        self.pongs: list[bytes] = []
        self.pings: list[bytes] = []
        self.acknowledged = 0
        self.granted: dict[int, int] = {0: 65_535}
        """What we may send: on stream 0 all together, and on streams beyond the first window."""
        self.their_first_window = 65_535
        self._began = False
        self._block: tuple[int, bool, bytearray] | None = None

    def opens(self, stream_id: int) -> None:
        """We send a request."""
        self.opened.add(stream_id)
        self.streams.setdefault(stream_id, Seen(self.first_window))

    def feed(self, sent: bytes) -> None:
        """Read whole frames."""
        at, size = 0, len(sent)
        while at < size:
            assert size - at >= 9, "a frame's head is cut"
            length = int.from_bytes(sent[at : at + 3], "big")
            assert length <= self.largest_frame, f"a frame of {length} bytes"
            kind, flags = sent[at + 3], sent[at + 4]
            stream_id = int.from_bytes(sent[at + 5 : at + 9], "big")
            at += 9
            assert at + length <= size, "a frame is cut"
            self._frame(kind, flags, stream_id, sent[at : at + length])
            at += length

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        assert self._began or kind == SETTINGS
        self._began = True
        if self._block is not None:
            assert kind == CONTINUATION
            assert stream_id == self._block[0]
            self._block[2].extend(payload)
            if flags & END_HEADERS:
                stream_id, ends, block = self._block
                self._block = None
                self._headers(stream_id, bytes(block), ends)
        elif kind == DATA:
            self._data(stream_id, payload, bool(flags & END_STREAM))
        elif kind == HEADERS:
            assert flags & (PADDED | PRIORITIZED) == 0
            if flags & END_HEADERS:
                self._headers(stream_id, payload, bool(flags & END_STREAM))
            else:
                self._block = stream_id, bool(flags & END_STREAM), bytearray(payload)
        elif kind == RST_STREAM:
            assert len(payload) == 4
            seen = self._seen(stream_id)
            assert seen.reset is None or len(self.opened) > 900, "reset twice"
            seen.reset = int.from_bytes(payload, "big")
        else:
            self._control(kind, flags, stream_id, payload)

    def _control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            increment = int.from_bytes(payload, "big")
            assert len(payload) == 4
            assert 0 < increment <= MAX_WINDOW
            if stream_id:
                assert self._seen(stream_id).reset is None
            self.granted[stream_id] = self.granted.get(stream_id, 0) + increment
        elif kind == SETTINGS:
            assert stream_id == 0
            if flags & ACK:
                assert not payload
                self.acknowledged += 1
            else:
                told = dict(struct.iter_unpack(">HI", payload))
                self.their_first_window = told.get(4, 65_535)
        elif kind == PING:
            assert stream_id == 0
            assert len(payload) == 8
            (self.pongs if flags & ACK else self.pings).append(payload)
        else:
            assert kind == GOAWAY, f"frame of type {kind}"
            assert stream_id == 0
            last, code = struct.unpack(">II", payload[:8])
            assert self.goaway is None or last <= self.goaway[0], "GOAWAY's last stream grows"
            self.goaway = last, code
            self.goaways += 1
            assert self.goaways <= 3

    def _seen(self, stream_id: int) -> Seen:
        if stream_id not in self.opened:  # those that the peer skipped are closed (RFC 9113 section 5.1.1)
            assert stream_id & 1, f"a frame on stream {stream_id}"
            assert stream_id < max(self.opened, default=0), f"a frame on stream {stream_id}, which is idle"
            self.opens(stream_id)
        return self.streams[stream_id]

    def _headers(self, stream_id: int, block: bytes, ends: bool) -> None:
        seen = self._seen(stream_id)
        assert seen.reset is None, "HEADERS after RST_STREAM"
        assert not seen.ended, "HEADERS after the end"
        fields = _decoded(block)
        if seen.headers is None:
            assert ":status" in fields
            seen.headers = fields
            if ends:
                seen.trailers = fields
        else:
            assert ends
            assert not any(name.startswith(":") for name in fields)
            seen.trailers = fields
        seen.ended = ends
        assert fields.get("grpc-message") != "internal error", "a fault of ours"

    def _data(self, stream_id: int, payload: bytes, ends: bool) -> None:
        seen = self._seen(stream_id)
        assert seen.reset is None, "DATA after RST_STREAM"
        assert not seen.ended, "DATA after the end"
        assert seen.headers is not None, "DATA before HEADERS"
        seen.body += payload
        seen.ended = ends
        if payload and self.exact:
            seen.window -= len(payload)
            self.window -= len(payload)
            assert seen.window >= 0, "more than the stream's window"
            assert self.window >= 0, "more than the connection's window"

    def grant(self, stream_id: int, increment: int) -> None:
        """We send WINDOW_UPDATE."""
        if stream_id:
            self.streams[stream_id].window += increment
        else:
            self.window += increment

    def resize(self, first_window: int) -> None:
        """We send SETTINGS_INITIAL_WINDOW_SIZE."""
        change = first_window - self.first_window
        self.first_window = first_window
        for seen in self.streams.values():
            seen.window += change
