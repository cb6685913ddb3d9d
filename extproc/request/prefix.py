"""The model of a JSON body of which only the beginning is known (BUFFERED_PARTIAL, STREAMED).

Walks the top-level keys of the object as far as the prefix goes. It believes the first `model` it finds whole, as nothing
later can be seen; a body that is known in full is parsed instead, where the last `model` counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import orjson

_BOM: Final = b"\xef\xbb\xbf"
# Possessive throughout: a body that is cut inside a string costs one pass.
_SPACE: Final = rb"[ \t\r\n]*+"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SCALAR: Final = rb"[^\s,\[\]{}\"]++"
_KEY: Final = re.compile(_SPACE + rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE, re.DOTALL)
_SPACE_RE: Final = re.compile(_SPACE)
_STRING_RE: Final = re.compile(_STRING, re.DOTALL)
_SCALAR_RE: Final = re.compile(_SCALAR)
_NESTED: Final = re.compile(_STRING + rb'|[\[\]{}"]', re.DOTALL)


class Member(NamedTuple):
    """A key of an object, as it is written, and where it and its value stand."""

    key: bytes
    """With its quotes and escapes."""
    begin: int
    value: int
    end: int


def model_of_prefix(body: bytes) -> object | None:
    """The value of the first top-level `model` that the prefix holds whole; None when it holds none."""
    for begin, end in models_of_prefix(body):
        try:
            value: object = orjson.loads(body[begin:end])
        except orjson.JSONDecodeError:
            return None
        return value
    return None


def models_of_prefix(body: bytes) -> Iterator[tuple[int, int]]:
    """Where the values of the top-level `model` keys begin and end, of those that the prefix holds whole."""
    for member in members_of_prefix(body):
        if _is_model(member.key):
            yield member.value, member.end


def members_of_prefix(body: bytes) -> Iterator[Member]:
    """The members of the object, of those that the prefix holds whole."""
    at = begin_of_object(body)
    if at is None:
        return
    while True:
        key = _KEY.match(body, at)
        if key is None:
            return
        end = _end_of_value(body, key.end())
        if end is None:
            return
        yield Member(key[1], key.start(1), key.end(), end)
        at = _skip_space(body, end)
        if body[at : at + 1] != b",":
            return
        at += 1


def begin_of_object(body: bytes) -> int | None:
    """Where the keys of the object begin, None when the body is no object."""
    at = _skip_space(body, len(_BOM) if body.startswith(_BOM) else 0)
    return at + 1 if body[at : at + 1] == b"{" else None


def _is_model(quoted: bytes) -> bool:
    if quoted == b'"model"':
        return True
    if b"\\" not in quoted:
        return False
    try:
        return bool(orjson.loads(quoted) == "model")
    except orjson.JSONDecodeError:
        return False


def _skip_space(body: bytes, at: int) -> int:
    match = _SPACE_RE.match(body, at)
    return match.end() if match else at


def _end_of_value(body: bytes, at: int) -> int | None:
    """Where the value that begins at `at` ends; None when the prefix ends before it."""
    first = body[at : at + 1]
    if first == b'"':
        match = _STRING_RE.match(body, at)
        return match.end() if match else None
    if first in (b"{", b"["):
        depth = 0
        for token in _NESTED.finditer(body, at):
            mark = token[0]
            if mark == b'"':  # a string that the prefix cuts
                return None
            if mark in (b"{", b"["):
                depth += 1
            elif mark in (b"}", b"]"):
                depth -= 1
                if depth == 0:
                    return token.end()
        return None
    match = _SCALAR_RE.match(body, at)
    # A number or word that reaches the end of the prefix may go on.
    return match.end() if match and match.end() < len(body) else None
