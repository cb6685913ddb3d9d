"""JSON bodies: the scanner's pieces against the whole, the scanner against parsers, the reader of a beginning against both."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Final

import orjson

from extproc.domain import RequestHead
from extproc.errors import BodyTooLarge, ExtProcError, InvalidBody, InvalidModel
from extproc.request import ParseOptions, parse
from extproc.request.parse import MAX_MODEL_BYTES
from extproc.request.prefix import model_of_prefix
from extproc.request.scan import ModelScanner
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_HEAD: Final = RequestHead({":path": b"/v1/chat/completions", "content-type": b"application/json"})
_WORDS: Final = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"\n", b"\t"),
    *(b'"model"', b'"model":', b'"model":"m"', b'"model":"n"', b'"mod\\u0065l":"m"', b'"\\u006dodel"', b'"Model":"x"'),
    *(b'"a":1', b'"a":true', b'"a":null', b'"a":-1.5e3', b'"a":[1,2,{"model":"x"}]', b'"a":{"model":"x","b":["}"]}'),
    *(b'"a":"\\"}"', b'"messages":[{"role":"user","content":"hi \\"there\\" ]}"}]', b'"m"', b'"\\u00e9\\ud83d\\ude00"'),
    *(
        b'"' + b"k" * 300 + b'":',
        b'"' + b"v" * 300 + b'"',
        b"[" * 60,
        b'{"b":' * 40,
        b"NaN",
        b"1e999",
        b"/*",
        b"*/",
        b"'",
        b"//",
    ),
    *(b'\\ud800"', b"\xef\xbb\xbf", b"\xff", b"\0", b"\xc3\xa9", b'"model":""', b'"model":1', b'"model":null'),
)


def _body(source: Source) -> bytes:
    kind = source.below(8)
    if kind == 7:
        return source.rest()
    out = [b"{"] if kind < 5 else []
    while source.left and len(out) < 100:
        number = source.below(len(_WORDS) + 3)
        out.append(_WORDS[number] if number < len(_WORDS) else source.piece(8))
        if kind < 3:
            out.append(b",")
    if kind < 3 and len(out) > 1:
        out.pop()
    return b"".join(out) + (b"}" if kind < 4 else b"")


def _scan(pieces: list[bytes]) -> tuple[ModelScanner, ExtProcError | None]:
    scanner = ModelScanner()
    error = None
    for piece in pieces:
        known = scanner.known
        error = scanner.feed(piece)
        assert scanner.known or not known
        assert len(scanner._held) <= 6 * MAX_MODEL_BYTES
    return scanner, error


def _loads(body: bytes) -> Any:
    """As the last of several keys counts; raises ValueError."""
    return orjson.loads(body)


def _models(body: bytes) -> list[object]:
    """The values of all top-level keys `model`, in order; raises ValueError or RecursionError."""
    found = json.loads(body, object_pairs_hook=_Pairs)
    return [value for key, value in found.pairs if key == "model"] if isinstance(found, _Pairs) else []


class _Pairs:
    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        self.pairs = pairs


def run(data: bytes) -> None:
    source = Source(data)
    cuts = Source(source.piece(16))
    options = ParseOptions(source.chance(4), source.chance(4))
    body = _body(source)
    scanner, error = _scan(cuts.cut(body, 8))
    whole, whole_error = _scan([body])
    assert scanner.known == whole.known
    assert scanner.model == whole.model
    assert type(error) is type(whole_error)
    try:
        parsed = _loads(body)
    except ValueError:
        parsed = None
    models: list[object] | None = None
    if isinstance(parsed, dict):
        models = _models(body)
        if error is None:
            assert all(model == scanner.model for model in models)
            assert scanner.known or not models
            assert parsed.get("model", scanner.model) == scanner.model
        else:
            # What every parser takes is only stopped for what its models are.
            assert not isinstance(error, InvalidBody)
            assert len(set(map(repr, models))) > 1 or not isinstance(models[0], str) or not models[0] or len(models[0]) > 64
    found = model_of_prefix(body)
    if models and not isinstance(models[0], list | _Pairs):
        assert found == models[0] or found is None
    if isinstance(found, str) and found and len(found) < 64 and not isinstance(whole_error, InvalidBody):
        assert whole.model == found
    for complete in (True, False):
        with suppress(InvalidBody, InvalidModel, BodyTooLarge):
            request = parse(_HEAD, body, complete=complete, options=options)
            if models and complete and isinstance(models[-1], str):
                assert (request.model or "") == models[-1]
    _MARKS.add(
        f"{type(error).__name__} {scanner!r:.22} known={scanner.known} {models is None or len(models)} {type(found).__name__}"
    )


def _program(kind: int, *words: bytes) -> bytes:
    return bytes([5, 4, 0, 9, 1, 0, 0, 0, kind, *[_WORDS.index(word) for word in words]])


TARGET: Final = Target(
    run,
    seeds=[
        _program(0, b'"model":"m"', b'"a":1', _WORDS[25], b'"a":[1,2,{"model":"x"}]'),
        _program(0, _WORDS[25], b'"a":"\\"}"', b'"mod\\u0065l":"m"', b'"model":"m"'),
        _program(0, b'"model":"m"', b'"a":{"model":"x","b":["}"]}', b'"model":"n"'),
        _program(4, b" ", b'"\\u006dodel"', b" ", b":", b"\n", b'"m"', b"\t", b",", b'"Model":"x"', b"}", b"\n"),
        _program(4, _WORDS[28], b"NaN", b",", b'"model":', _WORDS[29], b",", b'"a":1', b"}"),
        _program(4, *_WORDS),
        bytes([1, 4, 0, 0, 7]) + b'{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":16}',
        bytes([1, 4, 0, 0, 7]) + b'{"x":{"model":"n"},"y":[[],{},"\\""],"model":"m"} ',
    ],
    marks=_MARKS,
    modules=["extproc.request.scan", "extproc.request.parse", "extproc.request.prefix"],
    tokens=_WORDS,
)
