"""gRPC over HTTP/2 (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): messages, statuses, timeouts."""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from functools import lru_cache
from typing import Final

from extproc.protocol import Pieces
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
_LARGE: Final = 32 * 2**10
"""From this size on, a message is given in the pieces in which it came: to join them is a copy of all of it."""
_PIECE: Final = 4096
"""Bytes of such a piece, on average; smaller ones are joined, as each is an object."""


class Messages:
    """The beginning of a message that goes on in later DATA frames.

    It is kept as views of what was read from the socket, and so all of that. What is wasted, bytes that were read and are kept
    for nobody, may be as much as is held, which the owner knows. It says when a read is over of which views are kept
    (`settle`), asks whether a large message may stay in the pieces that `feed` gave (`may_stay`), or has them `joined`, and
    says when nothing of those is kept any more (`answered`).
    """

    __slots__ = ("_given_waste", "_have", "_need", "_own", "_parts", "_read", "_waste", "fault", "unsettled")

    def __init__(self) -> None:
        self._parts: list[bytes | bytearray | memoryview] = []
        self._have = 0
        self._own = 0
        """Parts that are no views."""
        self._read: object = None
        """What was read last and is viewed: to count it once."""
        self._waste = 0
        """Bytes that live because of views in this message and in those that were given, and are in neither."""
        self._given_waste = 0
        """The same of those that were given alone."""
        self._need = 0
        """Bytes until the next message is whole, its five-byte head included; 0 while that is unknown."""
        self.unsettled = False
        """A read is viewed that was not settled."""
        self.fault: CallFault | None = None
        """Why there are no more messages than those that `feed` has returned."""

    @property
    def empty(self) -> bool:
        """Nothing has begun."""
        return self._have == 0

    def feed(self, data: bytes | memoryview, most: int) -> list[bytes | Pieces]:
        """The messages that are whole now, in order; maybe a large one in the pieces in which it came. One that is compressed
        or over `most` bytes is a fault: raised, or kept in `fault` when whole messages came before it, so that a call's answers
        do not depend on how its bytes were cut."""
        whole: bytes | memoryview = data
        out: list[bytes | Pieces] = []
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
                self._begin_anew()
                self._forget_views()
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
            self._keep(whole[at:])
        return out

    def _ended(self, data: bytes | memoryview, rest: int) -> bytes | Pieces:
        """The message that has begun, with its `rest` from `data`; without its prefix."""
        last = data if rest == len(data) else memoryview(data)[:rest]
        parts, first = self._parts, memoryview(self._parts[0])[5:]
        if self._need >= _LARGE and len(parts) * _PIECE <= self._need:
            self._add(last)
            self._begin_anew()
            return [first, *[memoryview(part) for part in parts[1:]]]
        message = b"".join([first, *parts[1:], last])  # once: to cut the prefix off is a copy, too
        self._begin_anew()
        self._forget_views()
        return message

    def _begin_anew(self) -> None:
        self._parts = []
        self._have = self._need = self._own = 0

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
        self._parts.append(data)
        if isinstance(data, memoryview):
            read = data.obj
            if read is not self._read:
                self._read = read
                self.unsettled = True
                self._waste += len(read)  # type: ignore[arg-type]  # bytes
            self._waste -= len(data)

    # -- what stays in memory ------------------------------------------------------------------------------------

    def settle(self, held: int) -> None:
        """A read is over of which views are kept, and of all that came `held` bytes are not answered. A peer may cut its
        messages so that little of each read is kept, and all of it would live: what has begun is copied then."""
        self.unsettled = False
        self._read = None
        if self._waste > held:
            self._copy_views()

    def may_stay(self, held: int) -> bool:
        """Whether a message that `feed` gave in pieces may stay in those until the `held` bytes are answered."""
        begun = sum([len(part) for part in self._parts if isinstance(part, memoryview)])
        if self._waste + begun > held:
            return False
        self._given_waste = self._waste + begun
        return True

    def joined(self, pieces: Pieces) -> bytes:
        """A message that `feed` gave in pieces, of which nothing else is kept."""
        self._copy_views()
        return b"".join(pieces)

    def answered(self) -> None:
        """Of what was given nothing is kept any more."""
        self._given_waste = 0
        self._copy_views()

    def _copy_views(self) -> None:
        """What has begun keeps nothing else alive."""
        parts = self._parts
        for index in range(self._own, len(parts)):
            part = parts[index]
            if isinstance(part, memoryview):
                parts[index] = bytes(part)
        self._own = len(parts)
        self._forget_views()

    def _forget_views(self) -> None:
        """There are none but in what was given. A read that is viewed again counts again."""
        self._waste = self._given_waste
        self._read = None


def _unreadable(flag: int, length: int, most: int) -> CallFault:
    if flag == 0:
        return CallFault(Code.RESOURCE_EXHAUSTED, f"message of {length} bytes is larger than the limit of {most}")
    if flag == 1:
        return CallFault(Code.INTERNAL, "compressed message, but the call has no grpc-encoding")
    return CallFault(Code.INTERNAL, f"message with flags {flag:#04x}, expected 0 or 1")
