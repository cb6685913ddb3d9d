"""Tests of a text as regular expressions (RE2, which must match all of the text), and those of them that are such tests."""

from __future__ import annotations

from typing import Final

from extproc.interop.endpoint import EXACT, ONE_OF, PREFIX, PRESENT, SUFFIX, TextTest

_SPECIAL: Final = frozenset("\\.+*?()|[]{}^$")
ANY: Final = ".*"


def escaped(text: str) -> str:
    """The text as a pattern that matches it alone."""
    return "".join([f"\\{letter}" if letter in _SPECIAL else letter for letter in text])


def pattern_of(test: TextTest) -> str:
    """The pattern that means the same. Of `present` only the one that wants it there."""
    if test.kind == EXACT:
        return escaped(test.values[0])
    if test.kind == PREFIX:
        return escaped(test.values[0]) + ANY
    if test.kind == SUFFIX:
        return ANY + escaped(test.values[0])
    return ANY if test.kind == PRESENT else "|".join(map(escaped, test.values))


def read_pattern(pattern: str) -> TextTest | None:
    """The test that means the same as a pattern; None when none does."""
    body = pattern.removeprefix("^")
    if body.endswith("$") and not _escaped_end(body):
        body = body[:-1]
    if (inner := _inside(body)) is not None:
        body = inner
    if body == ANY:
        return TextTest(PRESENT)
    parts = _alternatives(body)
    if len(parts) == 1:
        if (text := _plain(body)) is not None:
            return TextTest(EXACT, (text,)) if text else None
        if body.startswith(ANY) and (text := _plain(body.removeprefix(ANY))):
            return TextTest(SUFFIX, (text,))
        if body.endswith(ANY) and (text := _plain(body.removesuffix(ANY))):
            return TextTest(PREFIX, (text,))
        return None
    words = [text for part in parts if (text := _plain(part))]
    return TextTest(ONE_OF, tuple(dict.fromkeys(words))) if len(words) == len(parts) else None


def _inside(pattern: str) -> str | None:
    """What is in the one group that is all of the pattern."""
    if not pattern.startswith("(") or not pattern.endswith(")") or _escaped_end(pattern):
        return None
    inner = pattern[1:-1].removeprefix("?:")
    return None if _bare(inner, "()") else inner


def _escaped_end(pattern: str) -> bool:
    """Whether the last character has a backslash before it that is none of a pair."""
    before = pattern[:-1]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _bare(text: str, letters: str) -> bool:
    """Whether one of the letters is in it without a backslash before it."""
    at = 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] in letters:
            return True
        at += 1
    return False


def _alternatives(pattern: str) -> list[str]:
    found, begin, at = [], 0, 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "|":
            found.append(pattern[begin:at])
            begin = at + 1
        at += 1
    return [*found, pattern[begin:]]


def _plain(pattern: str) -> str | None:
    """The one text that it matches; None when it matches others, or none."""
    found, at = [], 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "\\":
            at += 1
            letter = pattern[at : at + 1]
            if not letter or (letter.isascii() and letter.isalnum()) or not letter.isascii():
                return None
        elif letter in _SPECIAL:
            return None
        found.append(letter)
        at += 1
    return "".join(found)
