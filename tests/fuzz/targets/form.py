"""Forms: refused with InvalidBody or read as python-multipart reads them, cut ones too."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from python_multipart.exceptions import FormParserError

from extproc.errors import InvalidBody
from extproc.request.form import model_of_form, parameters
from tests.fuzz.source import Source
from tests.fuzz.target import Target
from tests.request.test_form_reference import reference

logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)  # it logs each form that it refuses

_MARKS: Final[set[str]] = set()
_MODEL: Final = b'Content-Disposition: form-data; name="model"'
_WORDS: Final = (
    *(b"--b", b"\r\n--b", b"\r\n", b"\r\n--b\r\n", b"\r\n--b--", b"--", b"-", b"\r", b"\n", b" ", b"b", _MODEL),
    *(b"content-disposition:form-data;name=model", _MODEL + b'; filename="f"', b"X: y", b"X", b":", b"\r\n\r\n", b"one"),
    *(b"--b\r\n" + _MODEL + b"\r\n\r\nm\r\n", b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'),
    *(
        b"; name*=utf-8''model",
        b"Content-Type: text/plain; charset=latin-1",
        b"\xe9",
        b"\\",
        b'"',
        b";",
        b"=",
        b"\r\n--b--\r\n",
    ),
    b"x" * 100,
)
_TYPES: Final = (
    *[b"multipart/form-data; boundary=b"] * 6,
    *(b'multipart/form-data; boundary="b"', b"multipart/form-data; charset=latin1; boundary=b", b"multipart/form-data"),
)


def _text(source: Source) -> bytes:
    if source.chance(6):
        return source.rest()
    out: list[bytes] = []
    while source.left and len(out) < 60:
        number = source.below(len(_WORDS) + 2)
        out.append(_WORDS[number] if number < len(_WORDS) else source.piece(8))
    return b"".join(out)


def _read(content_type: bytes, body: bytes, *, complete: bool) -> str | InvalidBody | None:
    try:
        return model_of_form(content_type, body, complete=complete)
    except InvalidBody as error:
        return error


def run(data: bytes) -> None:
    source = Source(data)
    kind = source.below(12)
    if kind == 11:
        header = source.rest()
        try:
            found = parameters(header)
        except InvalidBody:
            return
        assert sum(len(name) + len(value) for name, value in found.items()) <= len(header)
        _MARKS.add(f"{len(found)} parameters")
        return
    content_type = source.pick(_TYPES) if kind < 9 else b"multipart/form-data; boundary=" + source.piece(8)
    long = source.chance(30)
    cut = source.number(2)
    body = _text(source)
    if long:
        body = b"--b\r\n" + _MODEL + b"\r\n\r\n" + body * (1 + 20_000 // (len(body) + 1)) + b"\r\n--b--"
    found_whole = _read(content_type, body, complete=True)
    found_begun = _read(content_type, body, complete=False)
    _read(content_type, body[: cut % (len(body) + 1)], complete=False)
    if not isinstance(found_whole, InvalidBody):
        assert found_begun == found_whole
    # The reference leaves charsets to Starlette.
    if kind < 9 and content_type != _TYPES[-1] and len(body) <= 700 and b"harset" not in content_type + body.lower():
        with suppress(FormParserError):
            expected = reference(b"b", body)
            assert isinstance(found_whole, InvalidBody) or found_whole == expected
    why = found_whole.message[:60] if isinstance(found_whole, InvalidBody) else type(found_whole).__name__
    _MARKS.add(f"{why} / {type(found_begun).__name__} {long}")


def _program(*words: bytes) -> bytes:
    return bytes([0, 0, 0, 0, 0, 0, *[_WORDS.index(word) for word in words]])


TARGET: Final = Target(
    run,
    seeds=[
        _program(_WORDS[19], _WORDS[20], b"x" * 100, b"\r\n", b"--b", b"--"),
        _program(_WORDS[20], b"one", b"\r\n--b\r\n", _MODEL, b"\r\n\r\n", b"one", b"\r\n--b--\r\n"),
        _program(b"--b", b"\r\n", _MODEL, b"\r\n", _WORDS[22], b"\r\n\r\n", b"\xe9", b"\r\n--b--"),
        _program(b"--b", b"\r\n", _MODEL + b'; filename="f"', b"\r\n\r\n", b"one", b"\r\n--b", b"-", b"\r\n--b--"),
        _program(b"--b", b"\r\n", _MODEL, b"; name*=utf-8''model", b"\r\n\r\n", b"one", b"\r\n--b--"),
        b'\x0bform-data; name="a;b"; x="\\""; name=model',
        bytes([0, 0, 29, 0, 0, 0, 18, 18]),
    ],
    marks=_MARKS,
    modules=["extproc.request.form"],
    tokens=_WORDS,
    steps=(500_000, 200),  # some bodies are made of few bytes
)
