"""gRPC over HTTP/2 (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): messages, statuses, timeouts."""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from functools import lru_cache
from typing import Final

from extproc.transport.h2.headers import encode


class Code(IntEnum):
    """Status codes (https://grpc.io/docs/guides/status-codes/)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class CallFault(Exception):
    """A call can't go on and ends with this status; `message` goes to the peer."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


OK_TRAILERS: Final = encode([("grpc-status", "0")])


@lru_cache(maxsize=128)
def status_block(code: Code, message: str, *, opened: bool) -> bytes:
    """The trailers of a status; with the response's headers in front when none were sent (Trailers-Only)."""
    head = [] if opened else [(":status", "200"), ("content-type", "application/grpc")]
    message_field = [("grpc-message", percent_encode(message))] if message else []
    return encode([*head, ("grpc-status", str(int(code))), *message_field])


def percent_encode(message: str) -> str:
    """`grpc-message`: UTF-8, and what is not printable ASCII, or is %, as %XX."""
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}" for byte in message.encode())


_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def timeout_s(value: str) -> float:
    """`grpc-timeout` in seconds. Raises CallFault."""
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise CallFault(Code.INTERNAL, f"malformed grpc-timeout: {value[:32]!r}, expected up to 8 digits and one of HMSmun")
    return int(match[1]) * _UNITS[match[2]]


_unpack_prefix: Final = struct.Struct(">BI").unpack_from
"""The five bytes before a message: flags, length."""


def whole(data: bytes | memoryview, most: int) -> tuple[list[bytes], int]:
    """The messages that `data` holds whole, and where the rest begins, which may be a message that can't be read.

    For the usual case, a frame of whole messages, that needs no `Messages`.
    """
    at, size = 0, len(data)
    out: list[bytes] = []
    while size - at >= 5:
        flag, length = _unpack_prefix(data, at)
        end = at + 5 + length
        if flag or length > most or end > size:
            break
        message = data[at + 5 : end]
        out.append(message if isinstance(message, bytes) else bytes(message))
        at = end
    return out, at


_SMALL: Final = 1024
_ALIVE_FOR_EACH: Final = 4
"""Bytes of what was read from a socket that may stay in memory for one byte that is kept, before it is copied out."""


class Messages:
    """The beginning of a message that goes on in later DATA frames."""

    __slots__ = ("_alive", "_have", "_need", "_own", "_parts", "fault")

    def __init__(self) -> None:
        self._parts: list[bytes | bytearray | memoryview] = []
        self._have = 0
        self._own = 0
        """Parts that are no views."""
        self._alive = 0
        """Bytes that live because the other parts are views of them."""
        self._need = 0
        """Bytes until the next message is whole, its five-byte head included; 0 while that is unknown."""
        self.fault: CallFault | None = None
        """Why there are no more messages than those that `feed` has returned."""

    @property
    def empty(self) -> bool:
        """Nothing has begun."""
        return self._have == 0

    def feed(self, data: bytes | memoryview, most: int) -> list[bytes]:
        """The messages that are whole now, in order. One that is compressed or over `most` bytes is a fault: raised, or kept in
        `fault` when whole messages came before it, so that a call's answers do not depend on how its bytes were cut."""
        whole: bytes | memoryview = data
        out: list[bytes] = []
        if self._have:
            rest = self._need - self._have
            if len(self._parts[0]) >= 5 and 0 < rest <= len(data):
                out.append(self._ended(data, rest))
                if rest == len(data):
                    return out
                whole = data[rest:]
            else:
                self._keep(data)
                if self._have < self._need:
                    return out
                whole = b"".join(self._parts)
                self._let_go_of_all()
        at, size = 0, len(whole)
        need = 0
        while size - at >= 5:
            flag, length = _unpack_prefix(whole, at)
            if flag or length > most:
                fault = _unreadable(flag, length, most)
                if not out:
                    raise fault
                self.fault = fault
                break
            need = length + 5
            if size - at < need:
                break
            message = whole[at + 5 : at + need]
            out.append(message if isinstance(message, bytes) else bytes(message))
            at += need
            need = 0
        self._have = 0
        self._need = need
        if at < size:
            self._keep(bytes(whole[at:]))  # a copy: the rest of what was read must not live as long as this
        return out

    def _ended(self, data: bytes | memoryview, rest: int) -> bytes:
        """The message that has begun, with its `rest` from `data`: joined without its prefix, as to cut that off is a copy."""
        parts = self._parts
        last = data if rest == len(data) else memoryview(data)[:rest]
        message = b"".join([memoryview(parts[0])[5:], *parts[1:], last])
        self._let_go_of_all()
        return message

    def _let_go_of_all(self) -> None:
        self._parts = []
        self._have = self._need = self._own = self._alive = 0

    def goes_on(self, data: bytes | memoryview, size: int) -> bool:
        """Take a piece that does not end the message that has begun; False when it was not taken."""
        have = self._have + size
        if have >= self._need or size < _SMALL:
            return False
        self._have = have
        self._add(data)
        return True

    def begin(self, data: bytes | memoryview, most: int) -> None:
        """What stands behind whole messages: a fault in it is kept in `fault`."""
        try:
            self.feed(data, most)
        except CallFault as fault:
            self.fault = fault

    def _keep(self, data: bytes | memoryview) -> None:
        size = len(data)
        self._have += size
        if size >= _SMALL:
            self._add(data)
            return
        # Tiny pieces are put together, or each costs many times its size.
        last = self._parts[-1] if self._parts else None
        if isinstance(last, bytearray):
            last += data
        else:
            self._parts.append(bytearray(data))

    def _add(self, data: bytes | memoryview) -> None:
        """Keep a piece as it is, unless too much else stays in memory because of it."""
        parts = self._parts
        last = parts[-1] if parts else None
        parts.append(data)
        if isinstance(data, memoryview) and not (isinstance(last, memoryview) and last.obj is data.obj):
            self._alive += len(data.obj)  # type: ignore[arg-type]  # bytes
            if self._alive > _ALIVE_FOR_EACH * self._have + _SMALL:
                self._let_go()

    def _let_go(self) -> None:
        """Copy what is kept: a peer may cut its messages so that little of each read is kept, and all of it would live."""
        parts = self._parts
        for index in range(self._own, len(parts)):
            part = parts[index]
            if isinstance(part, memoryview):
                parts[index] = bytes(part)
        self._own = len(parts)
        self._alive = 0


def _unreadable(flag: int, length: int, most: int) -> CallFault:
    if flag == 0:
        return CallFault(Code.RESOURCE_EXHAUSTED, f"message of {length} bytes is larger than the limit of {most}")
    if flag == 1:
        return CallFault(Code.INTERNAL, "compressed message, but the call has no grpc-encoding")
    return CallFault(Code.INTERNAL, f"message with flags {flag:#04x}, expected 0 or 1")
