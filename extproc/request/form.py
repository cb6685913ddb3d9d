"""The `model` field of a `multipart/form-data` body (RFC 7578), as audio transcription sends it.

The whole body is at hand, so reading it is a search for its boundary. It is read as python-multipart reads it, through
which vLLM and SGLang get their forms, and tests hold both against each other. That library itself takes 150 ns for each
byte of some bodies (seconds of them, for one request), and writes a line to the log for each form that it can't read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from extproc.errors import InvalidBody

_MAX_FIELD_BYTES: Final = 16 * 1024
_MAX_HEAD_BYTES: Final = 8 * 1024
MAX_PARTS: Final = 2000
"""Starlette, below vLLM, takes 1,000 fields and 1,000 files. Places that only look like a boundary count too."""
_MAX_PARAMETERS: Final = 200

_INVALID: Final = "request body is not valid multipart/form-data"
_NOT_CLOSED: Final = "it has no closing boundary"
_LEADING: Final = re.compile(rb"[\r\n]*+")
_REST_OF_LINE: Final = re.compile(rb"[ \t]*+\r\n")
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")
_SEGMENT: Final = re.compile(rb';((?:\\"|[^;"]|"(?:\\"|[^"])*+(?:"|\Z))*+)', re.DOTALL)
"""Up to the next semicolon that is not in quotes. Takes linear time whatever it is given."""
_CHARSETS: Final = {
    **dict.fromkeys((b"", b"utf-8", b"utf8", b"us-ascii", b"ascii"), "utf-8"),
    **dict.fromkeys((b"iso-8859-1", b"latin1", b"latin-1"), "latin-1"),
}


def model_of_form(content_type: bytes, body: bytes, *, complete: bool) -> str | None:
    """The value of the last field called `model`, None when there is none. A file called `model` is none.

    `complete` False allows a body that is cut anywhere. Raises InvalidBody when the body is no form.
    """
    fields = model_fields(content_type, body, complete=complete)
    if not fields:
        return None
    begin, end, charset = fields[-1]
    return _text(body[begin : min(end, begin + _MAX_FIELD_BYTES + 1)], charset)


def model_fields(content_type: bytes, body: bytes, *, complete: bool) -> list[tuple[int, int, str]]:
    """Where the values of the fields called `model` begin and end, and Python's name of their charset; in order.

    As for model_of_form, which reads the last.
    """
    options = parameters(content_type)
    _refuse_extended(options, b"boundary")
    boundary = options.get(b"boundary")
    charset = _charset(options)
    if not boundary:
        raise InvalidBody("multipart/form-data without a boundary in content-type")
    found: list[tuple[int, int, str]] = []
    try:
        for head, begin, end in _parts(body, b"\r\n--" + boundary):
            part = _content_type_of_model(head)
            if part is not None:
                found.append((begin, end, _charset(part) if b"charset" in part else charset))
    except InvalidBody:
        if complete:
            raise
    return found


def parameters(header: bytes) -> dict[bytes, bytes]:
    """The parameters of a content-type or content-disposition by their names in lower case; the last of a name counts.

    Raises InvalidBody when there are hundreds.
    """
    found: dict[bytes, bytes] = {}
    if header.count(b";") > _MAX_PARAMETERS:
        raise InvalidBody(f"{_INVALID}: a header has more than {_MAX_PARAMETERS} parameters")
    for segment in _SEGMENT.findall(b";" + header)[1:] if b";" in header else ():
        name, equals, value = segment.partition(b"=")
        name, value = name.strip(b" \t"), value.strip(b" \t")
        if len(value) > 1 and value[:1] == value[-1:] == b'"':
            value = value[1:-1].replace(b"\\\\", b"\\").replace(b'\\"', b'"')
        found[name.lower() if equals else name] = value
    return found


def _parts(body: bytes, mark: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The head of each part, and where its content begins and ends. Raises InvalidBody where the body is no form.

    `mark` is the boundary with the line break and the dashes that come before it (RFC 2046, section 5.1.1). What comes
    behind the last one is ignored.
    """
    leading = _LEADING.match(body)
    at = leading.end() if leading else 0
    if not body.startswith(mark[2:], at):
        raise InvalidBody(f"{_INVALID}: it does not begin with its boundary")
    at += len(mark) - 2
    seen = 0
    while not body.startswith(b"--", at):
        line = _REST_OF_LINE.match(body, at)
        if line is None:
            raise InvalidBody(f"{_INVALID}: the line of its first boundary does not end there")
        begin = line.end()
        head_end = begin if body.startswith(b"\r\n", begin) else body.find(b"\r\n\r\n", begin, begin + _MAX_HEAD_BYTES)
        if head_end < 0:
            cut = len(body) - begin < _MAX_HEAD_BYTES
            why = _NOT_CLOSED if cut else f"the headers of a part are longer than {_MAX_HEAD_BYTES} bytes"
            raise InvalidBody(f"{_INVALID}: {why}")
        head = body[begin:head_end]
        begin = at = head_end + (4 if head else 2)
        while True:
            end = body.find(mark, at)
            if end < 0:
                raise InvalidBody(f"{_INVALID}: {_NOT_CLOSED}")
            seen += 1
            if seen > MAX_PARTS:
                raise InvalidBody(f"{_INVALID}: it has more than {MAX_PARTS} parts")
            at = end + len(mark)
            if body.startswith(b"--", at) or _REST_OF_LINE.match(body, at):
                break
        yield head, begin, end


def _content_type_of_model(head: bytes) -> dict[bytes, bytes] | None:
    """The parameters of the part's content-type if it is a field called `model`, else None."""
    disposition = content_type = b""
    for line in head.split(b"\r\n") if head else ():
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise InvalidBody(f"{_INVALID}: a part has a line that is no header")
        name = name.lower()
        if name == b"content-disposition":
            disposition = value
        elif name == b"content-type":
            content_type = value
    if b"model" not in disposition and b"*" not in disposition:
        return None
    options = parameters(disposition)
    _refuse_extended(options, b"name")
    if options.get(b"name") != b"model" or b"filename" in options:
        return None
    return parameters(content_type)


def _refuse_extended(options: dict[bytes, bytes], name: bytes) -> None:
    """RFC 7578 (section 4.2) has no place for RFC 2231 here, and python-multipart reads it or not, by its version."""
    if any(option.startswith(name + b"*") for option in options):
        raise InvalidBody(f"{_INVALID}: {name.decode()}* is not allowed, only {name.decode()}")


def _charset(options: dict[bytes, bytes]) -> str:
    """Python's name of the charset. Those of which ASCII is no part would make other names of the same bytes."""
    codec = _CHARSETS.get(options.get(b"charset", b"").lower())
    if codec is None:
        raise InvalidBody(f"{_INVALID}: its charset is neither UTF-8 nor ISO-8859-1")
    return codec


def _text(value: bytes, codec: str) -> str:
    if len(value) > _MAX_FIELD_BYTES:
        raise InvalidBody(f"form field 'model' is longer than {_MAX_FIELD_BYTES} bytes")
    try:
        return value.decode(codec)
    except UnicodeDecodeError as error:
        raise InvalidBody("form field 'model' is not UTF-8") from error
