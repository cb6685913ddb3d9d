"""Credentials, and how they are referred to.

A `Secret` shows itself to nobody: not in a repr, a message, a log line, a pickle. Who needs its text says `reveal`, which makes
every such place easy to find. A `Reference` is what stands in configuration instead of it: `{{secrets/scope/key}}`, as
Databricks writes them (docs.databricks.com, "Secret management").
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Final, NamedTuple, NoReturn

from extproc.errors import InvalidReference

EXPECTED: Final = "{{secrets/scope/key}}"
_NAME: Final = r"[A-Za-z0-9_.@-]{1,128}"
"""Of scopes and keys, as Databricks allows them."""
_REFERENCE: Final = re.compile(r"\{\{\s*secrets/(" + _NAME + ")/(" + _NAME + r")\s*\}\}")
_REDACTED: Final = "[redacted]"
_SHORTEST: Final = 8
"""Shorter text than this is no key, and stands in other words by chance."""


class Reference(NamedTuple):
    """Where a secret is: a scope (a folder, a Kubernetes Secret) and a key in it."""

    scope: str
    key: str

    def __str__(self) -> str:
        return f"{{{{secrets/{self.scope}/{self.key}}}}}"


def parse_reference(text: object, field: str = "") -> Reference:
    """Read `{{secrets/scope/key}}`. `field` is named in the InvalidReference that is raised for anything else."""
    match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[1].strip(".") == "" or match[2].strip(".") == "":
        where = f"{field}: " if field else ""
        raise InvalidReference(f"{where}expected {EXPECTED}", param=field or None)
    return Reference(match[1], match[2])


class Secret:
    """Text that must not be seen. Two are compared in a time that tells nothing of where they differ."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the wire."""
        return self._text

    def __repr__(self) -> str:
        return "<Secret>"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return "<Secret>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode("utf-8", "surrogatepass"), other._text.encode("utf-8", "surrogatepass"))

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not to be stored")


def redacted(text: str, secrets: Iterable[Secret]) -> str:
    """Text that others wrote, without the secrets that it may quote."""
    for secret in secrets:
        words = secret.reveal()
        if len(words) >= _SHORTEST:
            text = text.replace(words, _REDACTED)
    return text
