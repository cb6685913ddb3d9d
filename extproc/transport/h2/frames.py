"""Frames of HTTP/2 (RFC 9113 section 6): their numbers, and their bytes."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
"""Of a frame, before its payload."""
MAX_FRAME_BYTES: Final = 16_384
"""Largest payload that we take: HTTP/2's own initial value."""
MAX_WINDOW: Final = 2**31 - 1
FIRST_WINDOW: Final = 65_535
"""Every window at the start (RFC 9113 section 6.9.2)."""
LAST_STREAM_ID: Final = 2**31 - 1


class Kind(IntEnum):
    """Frame types."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9

    __hash__ = int.__hash__  # Enum's own is written in Python


class Setting(IntEnum):
    """Parameters of SETTINGS (RFC 9113 section 6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

_head: Final = struct.Struct(">HBBBI")
pack_head: Final = _head.pack
unpack_head: Final = _head.unpack_from
"""length >> 8, length & 255, type, flags, stream id (with its reserved bit when read)."""
pack_message_head: Final = struct.Struct(">HBBBIBI").pack
"""A DATA frame's head and the five bytes before a gRPC message, in one go."""
_pack_setting: Final = struct.Struct(">HI").pack


def frame(kind: Kind, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    size = len(payload)
    return pack_head(size >> 8, size & 255, kind, flags, stream_id) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """SETTINGS with these parameters."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(_pack_setting(key, value) for key, value in values.items()))


def window_update(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE; stream 0 is the connection."""
    return frame(Kind.WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """RST_STREAM."""
    return frame(Kind.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def goaway(last_stream_id: int, code: ErrorCode, text: str = "") -> bytes:
    """GOAWAY; `text` is for people."""
    return frame(Kind.GOAWAY, 0, 0, last_stream_id.to_bytes(4, "big") + code.to_bytes(4, "big") + text.encode()[:256])


def header_frames(stream_id: int, block: bytes, *, end: bool, largest: int = MAX_FRAME_BYTES) -> bytes:
    """HEADERS, and CONTINUATION when the block is larger than `largest`."""
    ends = END_STREAM if end else 0
    if len(block) <= largest:
        return frame(Kind.HEADERS, END_HEADERS | ends, stream_id, block)
    pieces = [block[at : at + largest] for at in range(0, len(block), largest)]
    out = [frame(Kind.HEADERS, ends, stream_id, pieces[0])]
    out += [frame(Kind.CONTINUATION, 0, stream_id, piece) for piece in pieces[1:-1]]
    out.append(frame(Kind.CONTINUATION, END_HEADERS, stream_id, pieces[-1]))
    return b"".join(out)


class ConnectionFault(Exception):
    """The connection can't go on: GOAWAY with `code`. `reason` is a short name for metrics and logs."""

    def __init__(self, code: ErrorCode, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


class StreamFault(Exception):
    """One stream can't go on: RST_STREAM with `code`."""

    def __init__(self, stream_id: int, code: ErrorCode, reason: str, message: str) -> None:
        super().__init__(message)
        self.stream_id = stream_id
        self.code = code
        self.reason = reason
        self.message = message


def unpadded(data: bytes, begin: int, end: int) -> tuple[int, int]:
    """Where the content is (RFC 9113 section 6.1)."""
    if begin == end:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size", "a padded frame without its padding's length")
    padding = data[begin]
    if begin + 1 + padding > end:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad_padding", "padding longer than its frame")
    return begin + 1, end - padding
