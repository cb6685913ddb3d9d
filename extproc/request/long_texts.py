"""JSON with long texts in it, read faster than as a whole, and read the same.

A long prompt is most of its body. To find where a text ends, and that it is ASCII without escapes and control characters, are
passes of a few µs for 100 KB each; a JSON parser does all of it at once and takes several times as long. So long texts are
cut out, a mark is set in place of each, and what is left is parsed. The texts stay in the body: `document` has them.

A text is looked for as a stretch between two quotes, without quotes and backslashes in it. Such a stretch may also stand
between two strings (blanks, numbers). A mark is fine inside a string and no JSON outside of one, so then the rest does not
parse. Whatever is in doubt, that, a mark that is not found again (a text that is a key, or whose key comes again), a
character that the mark is made of: the whole is parsed as ever. So it is where texts are not ASCII, which would cost more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson
from librt.strings import read_i64_le

from extproc.document import MARK, Document, LongTexts, Span, marks_in

if TYPE_CHECKING:
    from mypy_extensions import i64

LONG_BYTES: Final = 16_384
"""Of a text, to be cut out, and twice as much of a body. Shorter ones cost as much that way."""
_MOST_LEFT: Final = 8
"""What is left must be no more than this part of the body: it is searched for marks."""
_FIRST: Final = 256
"""Bytes that tell of most texts that they are not ASCII."""
_CHECKED: Final = 2**15
"""Characters whose JSON is made at once: orjson asks for eight bytes for each, and what is small stays in the cache."""
_BLANKS: Final = b" " * 8
_HIGHEST: Final = b"\x80" * 8
COMPILED: Final = not __file__.endswith(".py")
"""Whether this is machine code: its numbers of 64 bits begin anew when they are full, Python's own grow."""
_MARK_BYTES: Final = MARK.encode()
_MARK_ESCAPED: Final = b"\\u007"


def loads(body: bytes, *, long_bytes: int = LONG_BYTES) -> object:
    """What `orjson.loads` returns, an object with texts of `long_bytes` or more as a `Document`. Raises as it does:
    orjson.JSONDecodeError."""
    if len(body) >= 2 * long_bytes:
        spans = _long_texts(body, long_bytes)
        if spans:
            payload = _without(body, spans)
            if payload is not None:
                return payload
    return orjson.loads(body)


def _long_texts(body: bytes, long_bytes: int) -> list[Span]:
    """In order; none when they are not most of the body. A stretch that is long enough holds one of the places that are looked
    at. Each is a string of JSON, if it stands where one may."""
    found: list[Span] = []
    size = len(body)
    room = size // _MOST_LEFT
    behind, at = 0, long_bytes
    while at < size:
        end = body.find(b'"', at)
        if end < 0:
            break
        begin = body.rfind(b'"', behind, at) + 1
        if begin > 1 and end - begin >= long_bytes and _means_itself(body, begin, end):
            room += end - begin
            found.append(Span(body, begin, end))
        if end > room:
            return []
        behind, at = end, end + long_bytes
    return found if size <= room else []


def _means_itself(body: bytes, begin: int, end: int) -> bool:
    """Whether what stands there is ASCII, and as a string of JSON means itself."""
    if body[begin - 2 : begin - 1] == b"\\" or body.find(b"\\", begin, end) >= 0:
        return False
    if body[begin : begin + 1] == _MARK_BYTES or not body[begin : begin + _FIRST].isascii():
        return False
    at = _plain_until(body, begin, end) if COMPILED else begin
    if at < 0:
        return False
    view = memoryview(body)
    try:
        while at < end:
            text = str(view[at : min(at + _CHECKED, end)], "ascii")
            # To write it is the fastest way to know that nothing in it has to be escaped, where there is no machine code.
            if len(orjson.dumps(text)) != len(text) + 2:
                return False
            at += _CHECKED
    except UnicodeDecodeError:
        return False
    return True


def _plain_until(body: bytes, begin: i64, end: i64) -> i64:
    """From `begin` on, up to where there are fewer than 32 bytes left, -1 when one before that is not ASCII or a control
    character: either has its highest bit set, or gets it when 32 is taken off. As a loop in Python's bytecode it would take
    longer than anything else, in machine code it is the fastest."""
    found: i64 = 0
    blanks: i64 = read_i64_le(_BLANKS, 0)
    at: i64 = begin
    while at + 32 <= end:
        first: i64 = read_i64_le(body, at)
        second: i64 = read_i64_le(body, at + 8)
        found |= first | (first - blanks) | second | (second - blanks)
        third: i64 = read_i64_le(body, at + 16)
        fourth: i64 = read_i64_le(body, at + 24)
        found |= third | (third - blanks) | fourth | (fourth - blanks)
        at += 32
    return at if found & read_i64_le(_HIGHEST, 0) == 0 else -1


def _without(body: bytes, spans: list[Span]) -> object | None:
    """The document, None when that can't be told from what stands outside of the texts."""
    pieces: list[bytes] = []
    behind = 0
    for number, span in enumerate(spans):
        pieces.append(body[behind : span.begin])
        pieces.append(b"\x7f%d" % number)
        behind = span.end
    pieces.append(body[behind:])
    rest = b"".join(pieces)
    if rest.count(_MARK_BYTES) != len(spans) or _MARK_ESCAPED in rest:
        return None
    try:
        payload: object = orjson.loads(rest)
    except orjson.JSONDecodeError:
        return None
    texts = LongTexts(spans)
    if not isinstance(payload, dict):
        return texts.filled(payload) if marks_in(payload) == len(spans) else None
    found = 0
    with_marks: set[str] = set()
    for name, value in payload.items():
        if isinstance(value, (str, dict, list)):
            marks = marks_in(value)
            if marks:
                found += marks
                with_marks.add(name)
    return Document(payload, texts, with_marks) if found == len(spans) else None
