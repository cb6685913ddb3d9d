"""gRPC's framing: the same messages and the same refusal however the bytes are cut, and no more kept than has come."""

from __future__ import annotations

import struct
from typing import Final

from extproc.protocol import Pieces
from extproc.transport.h2.grpc import CallFault, Code, Messages, whole
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_LIMITS: Final = (64, 0, 5, 5000, 70_000)
_PATTERN: Final = bytes(range(256)) * 300
_SIZES: Final = (0, 1, 4, 5, 6, 63, 64, 65, 300, 1023, 1024, 1025, 4999, 5000, 5001, 32_763, 70_000)


def _wire(source: Source) -> bytes:
    """Messages, most of them as they should be, and what a broken peer sends."""
    if source.chance(6):
        return source.rest()
    out: list[bytes] = []
    while source.left > 8 and len(out) < 40:
        size = source.pick(_SIZES)
        kind = source.below(16)
        told = size if kind < 14 else source.number(4)
        flag = source.below(4) if kind == 12 else 0
        out.append(struct.pack(">BI", flag, told) + _PATTERN[:size])
        if kind == 13:
            out[-1] = out[-1][: source.below(10)]
    return b"".join(out)


def _reference(wire: bytes, most: int) -> tuple[list[bytes], Code | None, bytes]:
    """The messages, why there are no more, and what is left over."""
    found: list[bytes] = []
    while len(wire) >= 5:
        flag, size = struct.unpack(">BI", wire[:5])
        if flag:
            return found, Code.INTERNAL, wire
        if size > most:
            return found, Code.RESOURCE_EXHAUSTED, wire
        if len(wire) < 5 + size:
            break
        found.append(wire[5 : 5 + size])
        wire = wire[5 + size :]
    return found, None, wire


def _kept(parts: Pieces | list[bytes | bytearray | memoryview]) -> tuple[int, int, int]:
    """Of what is carried over: its bytes, its pieces, and the memory that they keep alive."""
    reads = {id(part.obj): len(bytes(part.obj)) for part in parts if isinstance(part, memoryview)}
    alive = sum(reads.values()) + sum(len(part) for part in parts if not isinstance(part, memoryview))
    return sum(map(len, parts)), len(parts), alive


def run(fuzzed: bytes) -> None:
    source = Source(fuzzed)
    most = source.pick(_LIMITS)
    as_views = source.chance(2)
    padding = bytes(source.pick((0, 0, 0, 60_000)))
    cuts = Source(source.piece(16))
    wire = _wire(source)
    expected, refusal, rest = _reference(wire, most)
    pieces = cuts.cut(wire, 8)
    messages: Messages | None = None
    found: list[bytes] = []
    fault: CallFault | None = None
    stay: Pieces = []
    try:
        for piece in pieces:
            # As a transport has it: a piece of something larger that was read from the socket.
            data = memoryview(padding + piece)[len(padding) :] if as_views else piece
            # As a call does it: no Messages while frames hold whole messages.
            if messages is not None:
                if not messages.goes_on(data, len(data)):
                    for each in messages.feed(data, most):
                        if isinstance(each, bytes):
                            found.append(each)
                        elif messages.may_stay(_kept([*messages._parts, *stay, *each])[0]):
                            found.append(b"".join(each))
                            stay += each
                        else:
                            found.append(messages.joined(each))
            else:
                begun, end = whole(data, most)
                found += begun
                if end == len(data):
                    continue
                messages = Messages()
                messages.begin(data[end:], most)
            if messages.fault is not None:
                break
            if stay and cuts.chance(4):
                stay = []
                messages.answered()
            held = _kept([*messages._parts, *stay])[0]
            messages.settle(held)
            size, parts, _ = _kept(messages._parts)
            assert size <= most + 5 + len(piece)
            assert parts <= 2 + size // 512
            alive = _kept([*messages._parts, *stay])[2]
            assert alive <= 2 * held, f"{alive} bytes are kept alive for {held}"
        fault = None if messages is None else messages.fault
    except CallFault as raised:
        fault = raised
    assert found == expected
    assert (None if fault is None else fault.code) is refusal
    if refusal is None:
        assert (messages is None or messages.empty) == (not rest)
        assert messages is None or _kept(messages._parts)[0] == len(rest)
    _MARKS.add(f"{refusal} {len(expected) > 0} {len(rest) > 0} most={most} views={as_views}")
    _MARKS.add(f"{len(found)} messages{' in pieces' if stay else ''}")


TARGET: Final = Target(
    run,
    seeds=[
        bytes([3, 0, 0, 4, 3, 0, 9, 1, 0, *range(15), *[0] * 20]),
        bytes([0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        bytes([0, 1, 3, 2, 9, 9, 1, 12, 2, 3, 0, 0, 5, 13, 4, 4, 14, 0, 0, 1, 0]),
        bytes([0, 0, 0, 0, 5]) + b"\0\0\0\0\3abc\0\0\0\0\2de\0\0\0",
        bytes([1, 1, 3, 8]) + bytes(range(40)),
    ],
    marks=_MARKS,
    modules=["extproc.transport.h2.grpc"],
    tokens=[b"\0\0\0\0\0", b"\0\0\0\0\1", b"\1\0\0\0\1", b"\0\0\0\x13\x88", b"\0\xff\xff\xff\xff"],
)
