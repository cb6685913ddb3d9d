"""JSON with long texts in it, read faster than as a whole, and read the same.

A long prompt is most of its body. To find where a text ends, and that it is ASCII without escapes and control characters, are
passes of a few µs for 100 KB each; a JSON parser does all of it at once and takes several times as long. So long texts are
cut out, a mark is set in place of each, what is left is parsed, and the texts are put where the marks are.

A text is looked for as a stretch between two quotes, without quotes and backslashes in it. Such a stretch may also stand
between two strings (blanks, numbers). A mark is fine inside a string and no JSON outside of one, so then the rest does not
parse. Whatever is in doubt, that, a mark that is not found again (a text that is a key, or whose key comes again), a
character that the mark is made of: the whole is parsed as ever. So it is where texts are not ASCII, which would cost more.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson

LONG_BYTES: Final = 16_384
"""Of a text, to be cut out, and twice as much of a body. Shorter ones cost as much that way."""
_MOST_LEFT: Final = 8
"""What is left must be no more than this part of the body: it is searched for marks."""
_FIRST: Final = 256
"""Bytes that tell of most texts that they are not ASCII."""
_CHECKED: Final = 2**15
"""Characters whose JSON is made at once: orjson asks for eight bytes for each, and what is small stays in the cache."""
_MARK: Final = "\x7f"
_MARK_BYTES: Final = b"\x7f"
_MARK_ESCAPED: Final = b"\\u007"


class _Text(NamedTuple):
    """A stretch that is a string of JSON, if it stands where one may: where it is, without its quotes, and what it says."""

    begin: int
    end: int
    text: str


def loads(body: bytes, *, long_bytes: int = LONG_BYTES) -> object:
    """What `orjson.loads` returns. Raises as it does: orjson.JSONDecodeError. Texts of `long_bytes` or more are cut out."""
    if len(body) >= 2 * long_bytes:
        texts = _long_texts(body, long_bytes)
        if texts:
            payload = _without(body, texts)
            if payload is not None:
                return payload
    return orjson.loads(body)


def _long_texts(body: bytes, long_bytes: int) -> list[_Text]:
    """In order; none when they are not most of the body. A stretch that is long enough holds one of the places that are looked
    at."""
    found: list[_Text] = []
    size = len(body)
    room = size // _MOST_LEFT
    behind, at = 0, long_bytes
    while at < size:
        end = body.find(b'"', at)
        if end < 0:
            break
        begin = body.rfind(b'"', behind, at) + 1
        text = _text(body, begin, end) if begin > 1 and end - begin >= long_bytes else ""
        if text:
            room += end - begin
            found.append(_Text(begin, end, text))
        if end > room:
            return []
        behind, at = end, end + long_bytes
    return found if size <= room else []


def _text(body: bytes, begin: int, end: int) -> str:
    """What stands there, when it means itself in a string of JSON; else ''."""
    if body[begin - 2 : begin - 1] == b"\\" or body.find(b"\\", begin, end) >= 0 or not body[begin : begin + _FIRST].isascii():
        return ""
    try:
        text = str(memoryview(body)[begin:end], "ascii")
    except UnicodeDecodeError:
        return ""
    return text if _is_plain(text) else ""


def _is_plain(text: str) -> bool:
    """Whether nothing in it has to be escaped. To write it is the fastest way to know."""
    size = len(text)
    if size <= _CHECKED:
        return len(orjson.dumps(text)) == size + 2
    return all(_is_plain(text[at : at + _CHECKED]) for at in range(0, size, _CHECKED))


def _without(body: bytes, texts: list[_Text]) -> object | None:
    """The document, None when that can't be told from what stands outside of the texts."""
    pieces: list[bytes] = []
    behind = 0
    for number, each in enumerate(texts):
        pieces.append(body[behind : each.begin])
        pieces.append(b"\x7f%d" % number)
        behind = each.end
    pieces.append(body[behind:])
    rest = b"".join(pieces)
    if rest.count(_MARK_BYTES) != len(texts) or _MARK_ESCAPED in rest:
        return None
    try:
        payload: object = orjson.loads(rest)
    except orjson.JSONDecodeError:
        return None
    return payload if _put_back(payload, texts) else None


def _put_back(payload: object, texts: list[_Text]) -> bool:
    """Whether each mark was found, as a value."""
    missing = len(texts)
    holders: list[object] = [payload]
    while holders and missing:
        holder = holders.pop()
        if isinstance(holder, dict):
            for key, value in holder.items():
                if isinstance(value, str):
                    if value.startswith(_MARK):
                        holder[key] = texts[int(value[1:])].text
                        missing -= 1
                elif isinstance(value, (dict, list)):
                    holders.append(value)
        elif isinstance(holder, list):
            for at, value in enumerate(holder):
                if isinstance(value, str):
                    if value.startswith(_MARK):
                        holder[at] = texts[int(value[1:])].text
                        missing -= 1
                elif isinstance(value, (dict, list)):
                    holders.append(value)
    return not missing
