"""JSON of which long texts are cut out: it is read as orjson reads the whole, or refused with the same words."""

from __future__ import annotations

from typing import Final

import orjson

from extproc.document import Document, as_dict
from extproc.request.long_texts import loads
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_WORDS: Final = (
    *(b'"', b'"', b'"' + b"text " * 40 + b'"', b'"' + b"x" * 300 + b'"', b"y" * 200, b'"model":"m"', b'"a":', b'"b":', b'"a"'),
    *(b"{", b"}", b"[", b"]", b",", b":", b" ", b" " * 100, b"\n", b"1", b"1," * 60, b"null", b"NaN", b"1e999", b"[" * 200),
    *(b"\\", b'\\"', b"\\\\", b"\\n", b"\\u007f0", b"\\u007F1", b"\x7f", b'"\x7f0"', b'"\x7f1"', b"\x00", b"\x1f", b"\xff"),
    *("é".encode(), "漢".encode(), b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud800", b"0", b"-", b"true"),
)


def _outcome(body: bytes, long_bytes: int = 0) -> object:
    try:
        if not long_bytes:
            return orjson.loads(body)
        payload = loads(body, long_bytes=long_bytes)
        return as_dict(payload) if isinstance(payload, Document) else payload
    except orjson.JSONDecodeError as error:
        return error.msg, error.pos


def run(data: bytes) -> None:
    source = Source(data)
    long_bytes = source.pick((1, 8, 60, 150))
    kind = source.below(4)
    pieces: list[bytes] = []
    while source.left and len(pieces) < 40:
        number = source.below(len(_WORDS) + 2)
        pieces.append(_WORDS[number] if number < len(_WORDS) else source.piece(8))
    if kind:
        pieces = [b'{"a":', *pieces, b"}" if kind == 1 else b',"z":"' + b"long " * 2000 + b'"}']
    body = b"".join(pieces)
    found, expected = _outcome(body, long_bytes), _outcome(body)
    assert repr(found) == repr(expected)  # the order of keys, and the types too
    _MARKS.add(f"{long_bytes} {kind} {expected[0] if isinstance(expected, tuple) else type(expected).__name__}")


def _program(*words: bytes) -> bytes:
    return bytes([1, 1, *[_WORDS.index(word) for word in words]])


TARGET: Final = Target(
    run,
    seeds=[
        _program(_WORDS[2], b",", b'"b":', b"[", _WORDS[3], b",", b'"\x7f0"', b"]"),
        _program(_WORDS[3], b",", b'"a":', _WORDS[2]),
        _program(b'"', b"y" * 200, b'\\"', b"y" * 200, b'"'),
        _program(b'"', b"y" * 200, b"\\", b"\\", b'"', b",", b'"model":"m"'),
        _program(b'"a"', b" " * 100, b",", b'"b":', b'"', b"\\u007f0", b'"'),
        bytes([0, 2, 3]),
        bytes([2, 3, 2, 13, 6, 3]),
    ],
    marks=_MARKS,
    modules=["extproc.request.long_texts"],
    tokens=_WORDS,
)
