"""HTTP/2 by hand (RFC 9113): frames as bytes and as lines, and a peer that sends exactly what a test wants.

Written without the code under test, so that both can't be wrong in the same way. hyper-h2 is the peer for whole sessions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from hpack import Decoder, Encoder

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
KINDS: Final = (
    *("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS"),
    *("PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"),
)
ERRORS: Final = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED"),
    *("FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"),
    *("INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)
SETTINGS: Final = {
    "HEADER_TABLE_SIZE": 1,
    "ENABLE_PUSH": 2,
    "MAX_CONCURRENT_STREAMS": 3,
    "INITIAL_WINDOW_SIZE": 4,
    "MAX_FRAME_SIZE": 5,
    "MAX_HEADER_LIST_SIZE": 6,
}
END, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32

PROCESS: Final = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
GRPC: Final = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", PROCESS),
    (":authority", "extproc"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


class Frame(NamedTuple):
    """A frame; `bytes(frame)` is it on the wire."""

    kind: int
    flags: int = 0
    stream: int = 0
    payload: bytes = b""

    def __bytes__(self) -> bytes:
        return (
            struct.pack(">I", len(self.payload))[1:]
            + bytes([self.kind, self.flags])
            + self.stream.to_bytes(4, "big")
            + self.payload
        )

    def __str__(self) -> str:
        """The frame as a line, e.g. `DATA 1 b'x' end`."""
        name = KINDS[self.kind] if self.kind < len(KINDS) else f"frame {self.kind}"
        if name in ("SETTINGS", "PING") and self.flags & ACK:
            return f"{name} ack"
        end = " end" if name in ("DATA", "HEADERS") and self.flags & END else ""
        where = f" {self.stream}" if name not in ("SETTINGS", "PING", "GOAWAY") else ""
        return f"{name}{where}{self._content(name)}{end}"

    def _content(self, name: str) -> str:
        payload = self.payload
        if name == "RST_STREAM":
            return f" {ERRORS[int.from_bytes(payload, 'big')]}"
        if name == "GOAWAY":
            return f" {int.from_bytes(payload[:4], 'big')} {ERRORS[int.from_bytes(payload[4:8], 'big')]}"
        if name == "WINDOW_UPDATE":
            return f" +{int.from_bytes(payload, 'big')}"
        if name == "HEADERS" and self.flags & END_HEADERS:
            return "".join(f" {key}={value}" for key, value in fields_of(payload))
        if name == "SETTINGS":
            names = {number: key for key, number in SETTINGS.items()}
            return "".join(f" {names[key]}={value}" for key, value in struct.iter_unpack(">HI", payload))
        if not payload:
            return ""
        return f" {payload!r}" if len(payload) < 32 else f" {len(payload)} bytes"


def parse(data: bytes) -> list[Frame]:
    """The frames in `data`, which holds whole ones."""
    found = []
    at = 0
    while at < len(data):
        begin = at + 9
        end = begin + int.from_bytes(data[at : at + 3], "big")
        assert end <= len(data), "half a frame"
        found.append(Frame(data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : begin], "big"), data[begin:end]))
        at = end
    return found


def lines(data: bytes) -> list[str]:
    """The frames as lines."""
    return [str(frame) for frame in parse(data)]


def block(fields: Iterable[tuple[str, str]] = GRPC, *, encoder: Encoder | None = None) -> bytes:
    """A header block; with a table of its own unless `encoder` brings one."""
    return bytes((encoder or Encoder()).encode(list(fields)))


def literal(fields: Iterable[tuple[str, str]]) -> bytes:
    """A header block that leaves every table alone (literals without indexing), whatever the names and values are."""
    out = b""
    for name, value in fields:
        out += b"\0" + b"".join(_length(len(text)) + text for text in (name.encode("latin-1"), value.encode("latin-1")))
    return out


def _length(size: int) -> bytes:
    """HPACK's integer with a prefix of 7 bits (RFC 7541 section 5.1)."""
    if size < 127:
        return bytes([size])
    out, size = [127], size - 127
    while size >= 128:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])


def fields_of(encoded: bytes) -> list[tuple[str, str]]:
    """What a block without a dynamic table says."""
    return [(str(name), str(value)) for name, value in Decoder().decode(encoded)]


def with_path(path: str, *more: tuple[str, str]) -> bytes:
    """The block of a gRPC request for a method."""
    return block([*((name, path if name == ":path" else value) for name, value in GRPC), *more])


def headers(
    stream: int, encoded: bytes | None = None, *, end: bool = False, whole: bool = True, pad: int | None = None
) -> Frame:
    """HEADERS; `whole`: no CONTINUATION follows."""
    flags = (END if end else 0) | (END_HEADERS if whole else 0)
    return _padded(1, flags, stream, block() if encoded is None else encoded, pad)


def continuation(stream: int, encoded: bytes, *, whole: bool = True) -> Frame:
    return Frame(9, END_HEADERS if whole else 0, stream, encoded)


def data(stream: int, payload: bytes = b"", *, end: bool = False, pad: int | None = None) -> Frame:
    return _padded(0, END if end else 0, stream, payload, pad)


def _padded(kind: int, flags: int, stream: int, payload: bytes, pad: int | None) -> Frame:
    if pad is None:
        return Frame(kind, flags, stream, payload)
    return Frame(kind, flags | PADDED, stream, bytes([pad]) + payload + bytes(pad))


def priority(stream: int, depends: int = 0) -> Frame:
    return Frame(2, 0, stream, depends.to_bytes(4, "big") + b"\x0f")


def rst(stream: int, code: str = "CANCEL") -> Frame:
    return Frame(3, 0, stream, ERRORS.index(code).to_bytes(4, "big"))


def settings(**values: int) -> Frame:
    """SETTINGS by name, e.g. `INITIAL_WINDOW_SIZE=1`."""
    return Frame(4, 0, 0, b"".join(struct.pack(">HI", SETTINGS[name], value) for name, value in values.items()))


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> Frame:
    return Frame(6, ACK if ack else 0, 0, payload)


def goaway(last: int = 0, code: str = "NO_ERROR") -> Frame:
    return Frame(7, 0, 0, struct.pack(">II", last, ERRORS.index(code)))


def window(stream: int, increment: int) -> Frame:
    return Frame(8, 0, stream, increment.to_bytes(4, "big"))


SETTINGS_ACK: Final = Frame(4, ACK)


def message(raw: bytes = b"") -> bytes:
    """A gRPC message with its five bytes."""
    return b"\0" + len(raw).to_bytes(4, "big") + raw
