"""Fields of requests, read by their type. What is of another type, or can't be said to the provider, is named and refused."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from extproc.errors import Untranslatable

_PLAIN: Final = re.compile(r"[\w./:-]{1,40}")
_KINDS: Final = ((bool, "a boolean"), (int, "a number"), (float, "a number"), (str, "a string"), (list, "an array"))


def kind_of(value: object) -> str:
    """The type of a JSON value, in words."""
    if value is None:
        return "null"
    for kind, words in _KINDS:
        if isinstance(value, kind):
            return words
    return "an object"


def shown(value: object) -> str:
    """A value for a message when it is a word or a number, else its type: it may be of a prompt."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value) if abs(value) < 1e15 or value != value else "a very large number"
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return f"'{value}'"
    return kind_of(value)


def refused(field: str, value: object, expected: str) -> Untranslatable:
    """To raise: the field, what it says, and what was expected."""
    return Untranslatable(f"'{field}': expected {expected}, not {shown(value)}", param=field)


def text_of(value: object, field: str) -> str:
    """A string."""
    if isinstance(value, str):
        return value
    raise refused(field, value, "a string")


def list_of(value: object, field: str) -> list[Any]:
    """An array."""
    if isinstance(value, list):
        return value
    raise refused(field, value, "an array")


def object_of(value: object, field: str) -> dict[str, Any]:
    """An object."""
    if isinstance(value, dict):
        return value
    raise refused(field, value, "an object")


def flag_of(value: object, field: str) -> bool:
    """A boolean."""
    if isinstance(value, bool):
        return value
    raise refused(field, value, "true or false")


def number_of(value: object, field: str, low: float, high: float) -> float | int:
    """A number within bounds; NaN is in none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise refused(field, value, f"a number from {low:g} to {high:g}")


def count_of(value: object, field: str) -> int:
    """A whole number above 0. Numbers such as 10.0 are whole, too."""
    if isinstance(value, float) and value.is_integer() and value < 2**53:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53:
        return value
    raise refused(field, value, "a whole number above 0")


def word_of(value: object, field: str, words: dict[str, str]) -> str:
    """One of a few words, as the other dialect has it."""
    if isinstance(value, str) and value in words:
        return words[value]
    raise refused(field, value, f"one of {', '.join(words)}")


def dumped(document: object) -> bytes:
    """JSON. Raises Untranslatable for what only Python's own reader took: half a surrogate pair, or what is beyond bounds."""
    try:
        return orjson.dumps(document)
    except (TypeError, ValueError, RecursionError) as error:
        words = "half a surrogate pair, a number beyond 64 bits, or nesting of more than 254 levels"
        raise Untranslatable(f"the request can't be written as JSON for the provider: {words}") from error
