"""Who may use serving endpoints over HTTP: tokens, whose they are, and what they may.

A token is known here by its SHA-256 only. Databricks has the same three levels: CAN_VIEW, CAN_QUERY, CAN_MANAGE, each of which
includes those before it.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from extproc.settings.base import Section, SettingsError, few, shown
from extproc.settings.document import load_document

MOST_TOKENS: Final = 10_000
LEAST_LENGTH: Final = 16
"""Of a token: 16 random letters are more than anybody can guess at the rate that failures are answered."""
_LONGEST: Final = 4096
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{0,128}\*|[A-Za-z0-9_-]{1,128}")


class Role(enum.IntEnum):
    """What somebody may; each includes those before it."""

    VIEW = 1
    """See the endpoint, its state and its history."""
    QUERY = 2
    """Send requests to it."""
    MANAGE = 3
    """Create, change and delete it."""

    @property
    def level(self) -> str:
        """Databricks' word."""
        return f"CAN_{self.name}"


class Grant(NamedTuple):
    """What the bearer of a token is called, and may."""

    subject: str
    role: Role
    endpoints: tuple[str, ...] = ()
    """Names, or beginnings of names with a `*` behind; () is every endpoint."""
    groups: tuple[str, ...] = ()
    """Of which the bearer is one, for the limits of groups."""

    def may(self, role: Role, endpoint: str) -> bool:
        """Whether that much is allowed with that endpoint."""
        return role <= self.role and (not self.endpoints or any(_covers(each, endpoint) for each in self.endpoints))


def _covers(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


class TokenTable:
    """Grants by token. Immutable: another file is another table."""

    def __init__(self, grants: Mapping[bytes, Grant] = {}) -> None:
        """By the SHA-256 of the token."""
        self._grants: dict[bytes, tuple[bytes, Grant | None]] = {
            digest[:_FOUND_BY]: (digest, grant) for digest, grant in grants.items()
        }

    def grant(self, token: str) -> Grant | None:
        """What the token allows; None when nobody has it.

        How long that takes tells nothing of other tokens: it is found by a part of its hash, which nobody can choose, and the
        rest is compared in constant time.
        """
        digest = digest_of(token)
        known, grant = self._grants.get(digest[:_FOUND_BY], _NOBODY)
        return grant if hmac.compare_digest(known, digest) else None

    def __iter__(self) -> Iterator[Grant]:
        return iter([grant for _, grant in self._grants.values() if grant is not None])

    def __len__(self) -> int:
        return len(self._grants)

    def __repr__(self) -> str:
        return f"<TokenTable {len(self)} tokens>"


_FOUND_BY: Final = 16
"""Bytes of the hash; no two tokens share them."""
_NOBODY: Final[tuple[bytes, Grant | None]] = (b"", None)


def digest_of(token: str) -> bytes:
    """What a token is known by."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def load_tokens(data: bytes) -> TokenTable:
    """The table that a file's bytes say. Raises SettingsError with all problems, each with its line; no token is in them."""
    document = load_document(data)
    try:
        return read_tokens(document.value)
    except SettingsError as error:
        raise SettingsError(document.locate_all(error.problems)) from None


def read_tokens(value: object) -> TokenTable:
    """As `load_tokens`, of what is read already."""
    if not isinstance(value, dict):
        raise SettingsError(["expected a map with the key tokens, a list of tokens with subject and role"])
    try:
        rows = _File.model_validate(value).tokens
    except ValidationError as error:
        raise SettingsError(few(_explained(error))) from None
    grants: dict[bytes, Grant] = {}
    places: dict[bytes, int] = {}
    problems = []
    for index, row in enumerate(rows):
        digest = row.digest
        first = places.setdefault(digest, index)
        if first != index:
            problems.append(f"tokens[{index}]: the same token as tokens[{first}]; expected each token once")
        grants[digest] = Grant(row.subject, Role[row.role.upper()], tuple(row.endpoints), tuple(row.groups))
    if problems:
        raise SettingsError(few(problems))
    return TokenTable(grants)


def _token(value: object) -> str:
    if not isinstance(value, str) or not LEAST_LENGTH <= len(value) <= _LONGEST or not _is_visible(value):
        raise ValueError(f"expected text of {LEAST_LENGTH} to {_LONGEST} visible ASCII characters")
    return value


def _is_visible(text: str) -> bool:
    return all("!" <= letter <= "~" for letter in text)


def _sha256(value: object) -> str:
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        raise ValueError("expected the SHA-256 of the token, 64 hexadecimal digits")
    return value


def _subject(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 256 or not value.isprintable() or not value.strip():
        raise ValueError("expected a name of 1 to 256 printable characters")
    return value


def _pattern(value: object) -> str:
    if not isinstance(value, str) or _PATTERN.fullmatch(value) is None:
        raise ValueError("expected the name of an endpoint, or the beginning of names with a * behind")
    return value


class _Row(Section):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    token: Annotated[str, BeforeValidator(_token)] | None = Field(None, repr=False)
    token_sha256: Annotated[str, BeforeValidator(_sha256)] | None = Field(None, repr=False)
    subject: Annotated[str, BeforeValidator(_subject)]
    role: Literal["view", "query", "manage"]
    endpoints: Annotated[list[Annotated[str, BeforeValidator(_pattern)]], Field(max_length=1000)] = []
    groups: Annotated[list[Annotated[str, BeforeValidator(_subject)]], Field(max_length=100)] = []

    @model_validator(mode="after")
    def _one_token(self) -> _Row:
        if (self.token is None) == (self.token_sha256 is None):
            found = "neither is" if self.token is None else "both are"
            raise ValueError(f"{found} given; expected one of token and token_sha256")
        return self

    @property
    def digest(self) -> bytes:
        return digest_of(self.token) if self.token is not None else bytes.fromhex(self.token_sha256 or "")


class _File(Section):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    tokens: Annotated[list[_Row], Field(max_length=MOST_TOKENS)]


_OPEN: Final = frozenset({"subject", "role", "endpoints", "groups"})
"""Fields whose value may be said: all others may be a token, wherever somebody wrote it."""


def _explained(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors(include_url=False):
        loc = item["loc"]
        if item["type"] == "extra_forbidden":
            loc = loc[:-1]
            words = f"unknown key; expected {', '.join(_Row.model_fields) if loc else 'tokens'}"
        elif item["type"] == "missing":
            words = "got nothing; expected a value"
        else:
            message = item["msg"].removeprefix("Value error, ")
            words = message[:1].lower() + message[1:]
            if not _OPEN.isdisjoint(map(str, loc)):
                words = f"got {shown(item['input'])}; {words}"
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
        lines.append(f"{path}: {words}" if path else words)
    return lines
