"""Content codings: undone within their bounds, whatever the bytes are."""

from __future__ import annotations

import zlib
from typing import Final

from extproc.errors import BodyTooLarge, InvalidBody
from extproc.request.encoding import ANY_RATIO_BYTES, MAX_RATIO, codings_of, inflate
from tests.fakes.encoders import SKIPPABLE, VARIANTS
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_BODIES: Final = (
    b"",
    b'{"model":"m"}',
    b'{"model":"m","messages":"' + b"hello " * 60 + b'"}',
    bytes(range(256)) * 4,
    bytes(9000),
)
_ENCODED: Final = tuple(
    (name, body, encoder(body)) for name, encoder in VARIANTS.values() for body in _BODIES[: 3 if name == "gzip" else 5]
)
_CODINGS: Final = (b"gzip", b"deflate", b"br", b"zstd", b"gzip, br", b"zstd,gzip", b"identity", b"x-gzip", b"lzw")
_LIMITS: Final = (ANY_RATIO_BYTES, 10_000, 100, 0)


def _undo(body: bytes, codings: tuple[bytes, ...], *, complete: bool, most: int) -> bytes | None:
    try:
        made = inflate(body, codings, complete=complete, max_bytes=most)
    except (InvalidBody, BodyTooLarge) as error:
        _MARKS.add(f"{codings} {error.message[:50]}")
        return None
    if codings:
        assert len(made) <= most
        assert len(made) <= max(ANY_RATIO_BYTES, MAX_RATIO * len(body))
    return made


def _changed(source: Source) -> None:
    """What an encoder made, cut or changed."""
    name, body, encoded = _ENCODED[source.below(len(_ENCODED))]
    codings = (name.encode(),)
    most = source.pick(_LIMITS)
    kind = source.below(5)
    if kind == 0:
        made = _undo(encoded, codings, complete=True, most=most)
        assert made == body if len(body) <= most and encoded else not made
    elif kind == 1:
        cut = _undo(encoded[: source.number(2) % (len(encoded) + 1)], codings, complete=False, most=ANY_RATIO_BYTES)
        assert cut is not None
        assert body.startswith(cut)
    elif kind == 2:
        tail = source.pick((b"", b"\0", SKIPPABLE, encoded, source.piece(20)))
        _undo(encoded + tail, codings, complete=source.chance(2), most=most)
    elif encoded:
        changed = bytearray(encoded)
        for _ in range(1 + source.below(4)):
            changed[source.number(2) % len(changed)] = source.below(256)
        _undo(bytes(changed), codings, complete=kind == 3, most=most)
    _MARKS.add(f"{name} {kind} {most}")


def run(data: bytes) -> None:
    source = Source(data)
    kind = source.below(8)
    if kind < 5:
        _changed(source)
        return
    header = source.pick(_CODINGS) if kind < 7 else source.piece(20)
    codings = codings_of(header)
    most = source.pick(_LIMITS)
    body = source.rest()
    if codings is None:
        return
    made = _undo(body, codings, complete=True, most=most)
    begun = _undo(body, codings, complete=False, most=most)
    assert made is None or made == begun
    if made is not None and codings == (b"deflate",) and body[:1] == b"\x78":
        assert made == zlib.decompress(body)
    if not codings:
        assert made == body


TARGET: Final = Target(
    run,
    seeds=[
        *(bytes([0, number, 0, kind, 0, 9]) for number in range(len(_ENCODED)) for kind in range(4)),
        *(bytes([5, number, 0]) + encoded[:400] for number, (_, _, encoded) in enumerate(_ENCODED)),
        *(bytes([5, _CODINGS.index(name.encode()), 0]) + encoded[:300] for name, _, encoded in _ENCODED if name != "x-gzip"),
    ],
    marks=_MARKS,
    modules=["extproc.request.encoding"],
    tokens=[SKIPPABLE, b"\x1f\x8b\x08", b"\x78\x9c", b"\x28\xb5\x2f\xfd", b"\x03\x00"],
)
