"""Header blocks: as a decoder without memory of other connections reads them, and ConnectionFault for the rest."""

from __future__ import annotations

from typing import Final

from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple

from extproc.transport.h2.frames import ConnectionFault
from extproc.transport.h2.headers import Fields, HeaderReader, KnownBlocks, bad_trailers, encode
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_MOST: Final = 2000
_NAMES: Final = (":method", ":scheme", ":path", ":authority", "content-type", "te", "x-a", "content-length", "grpc-timeout")
_VALUES: Final = ("POST", "http", "/envoy.service.ext_proc.v3.ExternalProcessor/Process", "trailers", "", "7", "v" * 40, "\xe9")
_USUAL: Final = ((":method", "POST"), (":scheme", "http"), (":path", "/p"), ("content-type", "application/grpc"))
_ODD: Final = ("X-A", "", "connection", ":status", "a\nb", "\0", "x" * 300, ":path")


def _pairs(source: Source) -> list[tuple[str, str]]:
    pairs = list(_USUAL) if not source.chance(8) else []
    for _ in range(source.below(4)):
        name = source.pick(_NAMES) if not source.chance(10) else source.pick(_ODD)
        pairs.append((name, source.pick(_VALUES) if not source.chance(8) else source.piece(9).decode("latin-1")))
    return pairs


class _Peer:
    """Writes blocks: with a dynamic table until it has heard that ours has size 0."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def block(self, source: Source) -> bytes:
        kind = source.below(10)
        if kind == 9:
            return source.piece(40)
        pairs = _pairs(source)
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
        if kind == 8:
            block = bytes(self._encoder.encode([NeverIndexedHeaderTuple(*pair) for pair in raw], huffman=False))
        else:
            block = bytes(self._encoder.encode(raw, huffman=kind < 4))
        if block and source.chance(8):
            changed = bytearray(block)
            changed[source.below(len(changed))] = source.below(256)
            block = bytes(changed)
        return block

    def acknowledges(self) -> None:
        self._encoder.header_table_size = 0


def _read(reader: HeaderReader, block: bytes) -> dict[str, str] | str | None:
    """The fields; why they are no request; None when the connection ends."""
    try:
        fields = reader.request(block)
    except ConnectionFault as fault:
        _MARKS.add(fault.reason)
        return None
    assert fields is not None
    return fields.fault if fields.fault is not None else fields.values


def _updates(block: bytes) -> int:
    """How many changes of the table's size it begins with (RFC 7541 sections 5.1 and 6.3)."""
    found = at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:
        at += 1
        if block[at - 1] == 0x3F:
            while block[at : at + 1] > b"\x7f":
                at += 1
            if at == len(block):
                break
            at += 1
        found += 1
    return found


def _reference(decoder: Decoder, block: bytes) -> dict[str, str] | str | None:
    if _updates(block) > 16:
        return None
    try:
        pairs = [(bytes(n).decode("latin-1"), bytes(v).decode("latin-1")) for n, v in decoder.decode(block, raw=True)]
    except (HPACKError, IndexError, ValueError):
        return None
    assert sum(len(name) + len(value) + 32 for name, value in pairs) <= _MOST
    bad_trailers(pairs)
    fields = Fields(pairs)
    return fields.fault if fields.fault is not None else fields.values


def run(data: bytes) -> None:
    source = Source(data)
    known = KnownBlocks()
    first = HeaderReader(_MOST, known)
    decoder = Decoder(max_header_list_size=_MOST)
    peer = _Peer()
    acknowledged = False
    second = HeaderReader(_MOST, known)
    second.acknowledged()
    second.decode(b"\x20")
    for _ in range(4):
        if not source.left:
            break
        if not acknowledged and source.chance(4):
            acknowledged = True
            first.acknowledged()
            peer.acknowledges()
        block = peer.block(source)
        found = _read(first, block)
        if acknowledged and block[:1] and block[0] & 0xE0 == 0x20:
            decoder.max_allowed_table_size = 0
        assert found == _reference(decoder, block)
        if found is None:
            break
        if acknowledged and decoder.max_allowed_table_size == 0:
            # Nothing that one connection does may change what another one reads.
            fresh = Decoder(max_header_list_size=_MOST)
            fresh.max_allowed_table_size = 0
            fresh.header_table_size = 0
            assert _read(second, block) == _reference(fresh, block) == found
        _MARKS.add(f"{found if isinstance(found, str) else len(found)} known={len(known)}")
        if isinstance(found, dict) and source.chance(4):
            ours = encode(found.items())
            again = Decoder(max_header_list_size=10 * _MOST).decode(ours, raw=True)
            assert [(bytes(n).decode(), bytes(v).decode()) for n, v in again] == list(found.items())


TARGET: Final = Target(
    run,
    seeds=[
        bytes([0, 0, 0, 0, 0, 3, 0, 0, 3, 0, 0, 0, 0]),
        bytes([3, 0, 0, 0, 1, 4, 0, 0, 3, 0, 0, 5, 0, 2, 4, 0, 1, 5, 0, 2, 8, 0, 1, 6, 0, 1] * 3),
        bytes([3, 9, 1, 0x20, 3, 8, 0, 0, 8, 0, 0, 8, 0, 0]),
        bytes([0, 9, 12]) + b"\x82\x87\x84\x41\x8a\x08\x9d\x5c\x0b\x81\x70\xdc",
        bytes([0, 9, 9]) + b"\x3f\xe1\xff\xff\xff\xff\xff\xff\x01",
        bytes([0, 9, 20]) + b"\x20" * 20,
        bytes([0, 9, 20]) + b"\x3f\xe1\x00" * 7,
    ],
    marks=_MARKS,
    modules=["extproc.transport.h2.headers"],
    tokens=[
        b"\x20",
        b"\x3f\xe1\x1f",
        b"\x82\x86\x84",
        b"\x40\x01a\x01b",
        b"\x00\x01a\x01b",
        b"\x7f\x80\x80\x80\x80\x01",
        b"\xbe",
    ],
)
