"""The client's model name put back: as in the whole body however it is cut, and no other byte is touched, lost or kept long."""

from __future__ import annotations

import json
import re
from typing import Final

from extproc.domain import BodyPath
from extproc.response import AnswerReader
from extproc.response.restore import ModelRestorer
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_NAMES: Final = ("s", "meta-llama/Llama-3.1-8B", "é/ü", 'model":', "a\\", '"', "model", " ")
_WORDS: Final = (
    *(b'"model"', b'"model":', b'"model":"s"', b'"model" : "s"', b'"model":"meta-llama/Llama-3.1-8B"', b'"', b"\\", b":"),
    *(b" ", b" " * 7, b" " * 9, b"\t", b"\n", b"\r", b'"s', b'"s"', b"mod", b'"mo', b'{"', b",", b'\\"model":"s"'),
    *(json.dumps(name).encode() for name in _NAMES),
    *(b'"\\u00e9\\/\\u00fc"', b'"meta-llama\\/Llama-3.1-8B"', "é/ü".encode(), b"data: ", b"\n\n", b"x" * 30),
)


def _body(source: Source) -> bytes:
    if source.chance(6):
        return source.rest()
    out: list[bytes] = []
    while source.left and len(out) < 200:
        number = source.below(len(_WORDS) + 4)
        out.append(_WORDS[number] if number < len(_WORDS) else source.piece(8))
    return b"".join(out)


def _wanted(body: bytes, served: str, client: str, lines: bool) -> bytes:
    """The whole body with one substitution."""
    spellings = {json.dumps(served).encode(), json.dumps(served, ensure_ascii=False).encode()}
    spellings |= {spelling.replace(b"/", b"\\/") for spelling in spellings}
    space = rb"[ \t]{0,8}" if lines else rb"[ \t\r\n]{0,8}"
    values = b"|".join(re.escape(spelling) for spelling in spellings)
    name = json.dumps(client, ensure_ascii=False).encode()
    return re.sub(rb'(?<!\\)("model"%s:%s)(?:%s)' % (space, space, values), lambda match: match[1] + name, body)


def run(data: bytes) -> None:
    source = Source(data)
    served, client = source.pick(_NAMES), source.pick(_NAMES)
    lines = source.chance(2)
    may_hold = not source.chance(4)
    through_reader = source.chance(3)
    cuts = Source(source.piece(16))
    body = _body(source)
    pieces = cuts.cut(body, 8)
    restorer = ModelRestorer(served, client, event_stream=lines, may_hold=may_hold)
    out: list[bytes] = []
    if through_reader:
        reader = AnswerReader(restore_model=(served, client))
        kind = b"text/event-stream; charset=utf-8" if lines else b"application/json"
        path = BodyPath.FREE if may_hold else BodyPath.PIECEWISE
        stale = reader.headers(200, {"content-type": kind, "content-length": b"%d" % len(body)}, path).remove_headers
        assert stale == (() if restorer.keeps_length else ("content-length",))
        out = [reader.body(piece, False) for piece in pieces]
        out.append(reader.rest())
    else:
        longest = len('"model"') + 17 + 2 * len(json.dumps(served))
        went = came = 0
        for piece in pieces:
            out.append(restorer.feed(piece, False))
            held = restorer._held
            assert len(held) <= longest
            assert may_hold or not held
            assert not (lines and held and piece.endswith(b"\n")), "a whole event was held back"
            went += len(out[-1]) + len(held)
            came += len(piece)
            assert went or not came
        out.append(restorer.feed(b"", True))
    made = b"".join(out)
    if may_hold or len(pieces) <= 1:
        assert made == _wanted(body, served, client, lines)
    if restorer.keeps_length:
        assert len(made) == len(body)
    if served == client and '"' not in served and "\\" not in served and "/" not in served and served.isascii():
        assert made == body
    _MARKS.add(f"{served} {lines} {may_hold} {through_reader} {min(made.count(json.dumps(client).encode()), 3)} {made == body}")


TARGET: Final = Target(
    run,
    seeds=[
        bytes([0, 1, 0, 0, 0, 4, 3, 0, 9, 1, 0, *range(24)]),
        bytes([1, 0, 1, 0, 0, 4, 6, 0, 9, 1, 0, *range(20, len(_WORDS))]),
        bytes([2, 1, 1, 0, 2, 4, 3, 0, 9, 1, 0, 0, 7, 23, 24, 7, 0, 7, 29, 0, 7, 8, 23]),
        bytes([0, 1, 0, 0, 0, 1, 8, 5]) + b'{"model": "s", "x": "\\"model\\":\\"s\\""}{"model"   :\n"s"',
        bytes([1, 0, 1, 0, 0, 2, 5, 9, 5]) + b'data: {"id":"1","model":"meta-llama/Llama-3.1-8B","choices":[]}\n\n' * 2,
    ],
    marks=_MARKS,
    modules=["extproc.response.restore", "extproc.response.reader"],
    tokens=_WORDS,
)
