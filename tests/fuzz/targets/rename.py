"""Another model's name in a request: a typed error, or the same request under that name and nothing else changed."""

from __future__ import annotations

import json
from typing import Any, Final

from extproc.domain import InferenceRequest, Splice, spliced
from extproc.errors import ExtProcError
from extproc.protocol import CHUNK_BYTES, ReplyChunk
from extproc.protocol.splices import changed_pieces, changed_replies
from extproc.request import ParseOptions, Renamed, parse, renamed
from extproc.request.scan import ModelScanner
from tests.fakes.encoders import ENCODERS
from tests.fakes.events import head
from tests.fuzz.source import Source
from tests.fuzz.target import Target
from tests.fuzz.targets.form import _WORDS as FORM_WORDS
from tests.fuzz.targets.form import _text as form_text
from tests.fuzz.targets.scan import _WORDS as JSON_WORDS
from tests.fuzz.targets.scan import _body as json_body

_MARKS: Final[set[str]] = set()
_OPTIONS: Final = ParseOptions(max_inflated_bytes=20_000)
_NAMES: Final = ("n", "org/new", 'é"\\\u2028', "😀", "m")
_TYPES: Final = (*["application/json"] * 6, "text/plain", "multipart/form-data; boundary=b", "multipart/form-data; boundary=b")
_PATHS: Final = (*["/v1/chat/completions"] * 6, "/tokenize", "/v2/models/a%20b/infer?x", "/v1/models/a/b:predict")
_CODINGS: Final = (*["", ""] * 3, "gzip", "br", "zstd", "deflate", "rot13")
_WIDE: Final = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-8-sig")


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs, so that no key hides another."""


def _pairs(body: bytes) -> _Pairs | None:
    try:
        found = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, _Pairs) else None


def _check_json(before: bytes, after: bytes, model: str) -> None:
    """All keys name the model, and the rest is the same, in the same order."""
    old, new = _pairs(before), _pairs(after)
    assert (old is None) == (new is None)
    if old is None or new is None:
        return
    assert {repr(value) for key, value in new if key == "model"} == {repr(model)}
    assert repr([pair for pair in old if pair[0] != "model"]) == repr([pair for pair in new if pair[0] != "model"])


def _check_replies(body: bytes, splices: tuple[Splice, ...], after: bytes, pieces: list[bytes]) -> None:
    """Every way in which the body goes on comes to the same."""
    at = 0
    for begin, end, _ in splices:
        assert at <= begin <= end <= len(body)
        at = end
    assert spliced(body, splices) == after
    new = changed_pieces(pieces, splices)
    assert b"".join(old if became is None else became for old, became in zip(pieces, new, strict=True)) == after
    chunks = [reply for reply in changed_replies(body, splices, None, ends=True) if isinstance(reply, ReplyChunk)]
    assert b"".join(bytes(chunk.body) for chunk in chunks) == after
    assert all(len(chunk.body) <= CHUNK_BYTES for chunk in chunks)


def _check_scanner(pieces: list[bytes], splices: tuple[Splice, ...]) -> None:
    scanner = ModelScanner()
    if all(scanner.feed(piece) is None for piece in pieces) and scanner.spans:
        assert [(begin, end) for begin, end, _ in splices] == scanner.spans


def _check(request: InferenceRequest, body: bytes, complete: bool, model: str, told: Renamed, pieces: list[bytes]) -> None:
    if told.set_headers:
        assert not told.splices
        ((name, path),) = told.set_headers
        assert parse(head(path), body).model == model
        assert name == ":path"
        return
    if not told.splices:
        assert request.model is None
        return
    after = spliced(body, told.splices)
    _check_replies(body, told.splices, after, pieces)
    headers = {name: value for name, value in request.head.headers.items() if name not in told.remove_headers}
    again = parse(request.head._replace(headers=headers), after, complete=complete, options=ParseOptions())
    assert again.model == model
    if not request.head.headers.get("content-encoding") and b"form" not in request.head.headers["content-type"] and complete:
        _check_json(body, after, model)
        _check_scanner(pieces, told.splices)


def run(data: bytes) -> None:
    source = Source(data)
    cuts = Source(source.piece(12))
    model, path, coding = source.pick(_NAMES), source.pick(_PATHS), source.pick(_CODINGS)
    content_type = source.pick(_TYPES)
    complete = not source.chance(5)
    wide = source.pick(_WIDE) if source.chance(6) else ""
    body = form_text(source) if "form" in content_type else json_body(source)
    if wide:
        body = body.decode("latin-1").encode(wide)
    if coding in ENCODERS:
        body = ENCODERS[coding](body)
    headers = {"content_type": content_type, **({"content_encoding": coding} if coding else {})}
    asked = head(path, None, **headers)
    try:
        request = parse(asked, body, complete=complete, options=_OPTIONS)
        told = renamed(request, body, complete, model, _OPTIONS)
    except ExtProcError as error:
        _MARKS.add(f"{error.code} {error.message[:30]}")
        return
    _check(request, body, complete, model, told, cuts.cut(body, 6))
    _MARKS.add(
        f"{min(len(told.splices), 3)} {told.remove_headers} {request.model is None} {wide} {complete} {bool(told.set_headers)}"
    )


def _json(*words: bytes, model: int = 0, wide: int = 0, coding: int = 0) -> bytes:
    chosen = (5, wide - 1) if wide else (0,)
    return bytes([0, model, 0, coding, 0, 0, *chosen, 0, *[JSON_WORDS.index(word) for word in words]])


TARGET: Final = Target(
    run,
    seeds=[
        _json(b'"model":"m"', b'"a":1', b'"mod\\u0065l":"m"', model=2),
        _json(b'"model":"m"', b'"model":"n"', b'"model":1', b'"model":null', b'"a":[1,2,{"model":"x"}]', model=1),
        _json(b'"a":{"model":"x","b":["}"]}', b'"model":"m"', wide=1, model=3),
        _json(b'"a":"\\"}"', b'"model":"m"', wide=6),
        _json(b'"a":true', b'"a":null'),
        _json(b'"model":"m"', coding=6),
        bytes([0, 1, 7, 0, 0, 0, 0]),
        bytes([0, 2, 0, 0, 7, 0, 0, 0, FORM_WORDS.index(FORM_WORDS[19]), FORM_WORDS.index(b"--b"), FORM_WORDS.index(b"--")]),
        bytes([0, 0, 0, 0, 0, 4, 0, 4]) + bytes([JSON_WORDS.index(b'"model":"m"'), JSON_WORDS.index(b",")]),
    ],
    marks=_MARKS,
    modules=["extproc.request.rename", "extproc.request.prefix", "extproc.protocol.splices", "extproc.request.form"],
    tokens=(*JSON_WORDS, *FORM_WORDS),
    steps=(500_000, 400),
)
