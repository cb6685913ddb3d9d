"""TLS's first message: nothing is raised, and what was read stays true when more comes."""

from __future__ import annotations

import ssl
from typing import Final

from extproc.sockets.clienthello import MAX_BYTES, offered_protocols
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()


def _client_hello(*protocols: str) -> bytes:
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    sent = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="a.example")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError("a handshake without a peer")


_HELLOS: Final = (_client_hello(), _client_hello("h2"), _client_hello("http/1.1", "h2", "x" * 255))


def _sent(source: Source) -> bytes:
    """A message that a TLS library wrote, in records of any size, or changed, or anything."""
    if source.chance(4):
        return source.rest()
    sent = bytearray(source.pick(_HELLOS))
    for _ in range(source.below(4)):
        sent[source.number(2) % len(sent)] = source.below(256)
    if source.chance(3):
        message, sent = sent[5:], bytearray()
        while message:
            size = 1 + source.number(2) % (len(message) + 2)
            sent += b"\x16\x03\x01" + size.to_bytes(2, "big") + message[:size]
            message = message[size:]
            if source.chance(9):
                sent += b"\x17"
    if source.chance(20):
        sent += bytes(MAX_BYTES)
    return bytes(sent)


def run(data: bytes) -> None:
    source = Source(data)
    cuts = Source(source.piece(12))
    sent = _sent(source)
    so_far = b""
    before: tuple[bytes, ...] | None = None
    for piece in cuts.cut(sent):
        so_far += piece
        offered = offered_protocols(so_far)
        assert before is None or offered == before
        assert offered is not None or len(so_far) <= MAX_BYTES
        assert sum(map(len, offered or ())) <= len(so_far)
        before = offered
    if sent in _HELLOS:
        assert offered_protocols(sent) in ((), (b"h2",), (b"http/1.1", b"h2", b"x" * 255))
    _MARKS.add(f"{before if before is None else len(before)} of {len(sent).bit_length()} bits")


TARGET: Final = Target(
    run,
    seeds=[
        *(bytes([4, 3, 0, 9, 1, 0, kind, 0, 0]) for kind in range(3)),
        *(bytes([4, 3, 0, 9, 1, 0, kind, 0, 2, 0, 50, 0, 10]) for kind in range(3)),
        *(bytes([0, 3]) + hello for hello in _HELLOS[:2]),
    ],
    marks=_MARKS,
    modules=["extproc.sockets.clienthello"],
    tokens=[b"\x16\x03\x01", b"\x00\x10", b"\x02h2", b"\x01\x00", b"\xff\xff"],
)
