"""What the fields of a serving endpoint may hold, and how a problem with one is said."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from extproc.credentials import parse_reference
from extproc.errors import InvalidReference
from extproc.settings.base import Section, shown

MOST_ENTITIES: Final = 15
"""Of an endpoint, unless set otherwise. Databricks' page says 10, its users have measured 15 (databricks-sdk-py#1496)."""
MAX_DOCUMENT_BYTES: Final = 256 * 1024
"""Of one endpoint. Databricks says none; a config with 15 entities has about 10 KB."""
MAX_DEPTH: Final = 24
"""Of objects and lists in each other: more than any field has, less than any writer of JSON gives up at."""
MAX_NODES: Final = 20_000

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
"""RFC 9110, 5.6.2 token."""
_WHOLE: Final = re.compile(r"\s*[+-]?\d{1,18}\s*")
_LARGEST: Final = 2**53
"""The largest number that every reader of JSON reads as it is written."""
_ALIKE: Final = 0.85
"""How much an unknown key is like a known one before it is taken for a slip of the pen."""


class _Slip(NamedTuple):
    """What stood behind a misspelt key."""

    meant: str


def _no_slip(value: object) -> object:
    if isinstance(value, _Slip):
        raise ValueError(f"unknown key; expected {value.meant}")
    return value


class Form(Section):
    """Base of the parts of a serving endpoint. Keys that nobody knows are kept, unless they look like a known one misspelt."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True, defer_build=True)
    __pydantic_extra__: dict[str, Annotated[Any, BeforeValidator(_no_slip)]]

    @model_validator(mode="before")
    @classmethod
    def _slips(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        known = list(cls.model_fields)
        meant = {
            key: _Slip(alike[0])
            for key in values.keys() - known
            if (alike := difflib.get_close_matches(str(key)[:64], known, 1, _ALIKE))
        }
        return {**values, **meant}


class Closed(Section):
    """Base of what decides over requests, where a key that nobody knows would be a condition that is not kept."""


def header_name(value: object) -> str:
    """A header's name in lower case. Raises ValueError."""
    if not isinstance(value, str) or _HEADER.fullmatch(value) is None:
        raise ValueError("expected the name of a header")
    return value.lower()


def is_name(value: object) -> bool:
    """Whether it may be a `Name`."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _name(value: object) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise ValueError("expected a name of 1 to 128 letters, digits, dashes and underscores")
    return value


def whole(least: int, most: int, what: str) -> BeforeValidator:
    """A whole number, or its text: `"90"` is 90, as samples in Databricks' pages have it. 90.0 is 90, 90.5 is none."""

    def read(value: object) -> int:
        number: int | None = None
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and _WHOLE.fullmatch(value)):
            number = int(value)
        if number is None or not least <= number <= most:
            raise ValueError(f"expected {what}")
        return number

    return BeforeValidator(read)


def _text(least: int, most: int) -> BeforeValidator:
    def read(value: object) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most or (least and not value.strip()):
            raise ValueError(f"expected text of {least} to {most} characters")
        return value

    return BeforeValidator(read)


def _version(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("expected true or false")


def _reference(value: object) -> str:
    try:
        return str(parse_reference(value))
    except InvalidReference as error:
        raise ValueError(f"{error.message}; a key itself belongs into the field's twin, ..._plaintext") from None


def _url(value: object) -> str:
    expected = "expected an address such as https://host or https://host:port/path, without user, query or fragment"
    if not isinstance(value, str) or len(value) > 2048 or not value.isascii() or any(letter <= " " for letter in value):
        raise ValueError(expected)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError(expected) from None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or port == 0
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ValueError(expected)
    return value


Name = Annotated[str, BeforeValidator(_name)]
"""Of an endpoint or a served entity."""
Text = Annotated[str, _text(0, 4096)]
Label = Annotated[str, _text(1, 256)]
"""Text that may not be blank."""
Version = Annotated[str, _text(0, 256), BeforeValidator(_version)]
"""Text; a bare number is its text."""
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, whole(0, _LARGEST, f"a whole number from 0 to {_LARGEST}")]
Percentage = Annotated[int, whole(0, 100, "a whole number from 0 to 100")]
Reference = Annotated[str, BeforeValidator(_reference)]
"""`{{secrets/scope/key}}`, where a secret is; never the secret."""
PlainSecret = Annotated[str, _text(1, 16_384)]
"""A secret as it is: taken out of the document before anybody keeps it."""
Url = Annotated[str, BeforeValidator(_url)]
Variables = Annotated[dict[str, str], Field(max_length=30)]
"""Of the environment; 30 at most, as Databricks has it."""

_SAID: Final = {
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_SECRETIVE: Final = frozenset({"external_model", "environment_vars"})
_OPEN: Final = frozenset({"provider", "task", "name"})


def explained(error: ValidationError, prefix: str) -> list[str]:
    """A line for each problem of a form: `path: got …; expected …`. What may hold a secret is not quoted."""
    lines = []
    for item in error.errors(include_url=False, include_context=True):
        loc, kind = item["loc"], item["type"]
        context: dict[str, Any] = item.get("ctx", {})
        if kind == "missing":
            words = "got nothing; expected a value"
        elif kind == "value_error":
            words = _with_value(str(context["error"]), item["input"], loc)
        elif kind == "extra_forbidden":
            why = ", as its value may be a secret" if not _SECRETIVE.isdisjoint(loc) else ""
            words = f"unknown key; expected only keys that are known here{why}"
        elif kind in ("too_long", "too_short"):
            most = context.get("max_length", context.get("min_length"))
            words = _with_value(f"expected at {'most' if kind == 'too_long' else 'least'} {most}", item["input"], loc)
        elif kind == "literal_error":
            words = _with_value(f"expected {context['expected']}", item["input"], loc)
        else:
            words = _with_value(f"expected {_SAID.get(kind) or item['msg'][:1].lower() + item['msg'][1:]}", item["input"], loc)
        lines.append(said(path_of(loc, prefix), words))
    return lines


def said(path: str, words: str) -> str:
    """A problem with its path; the document as a whole has none."""
    return f"{path}: {words}" if path else words


def path_of(loc: tuple[int | str, ...], prefix: str = "") -> str:
    """`config.served_entities[0].name`."""
    out = prefix
    for part in loc:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            name = part if part.isprintable() else ascii(part)[1:-1]  # a key may hold the end of a line
            out += ("." if out and not out.endswith(".") else "") + (name if len(name) <= 80 else name[:77] + "...")
    return out.removesuffix(".")


def kind_of(value: object) -> str:
    """A value for a message: plain ones as they are, others by what they are, for nobody knows what is inside."""
    if isinstance(value, Mapping):
        return f"an object with {len(value)} keys"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return "nothing" if value is None else shown(value)


def _with_value(words: str, value: object, loc: tuple[int | str, ...]) -> str:
    if words.startswith("unknown key"):
        return words
    hidden = not _SECRETIVE.isdisjoint(loc) and loc[-1] not in _OPEN and isinstance(value, str)
    return words if hidden else f"got {kind_of(value)}; {words}"
