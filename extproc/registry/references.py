"""How a served entity names a version of a registered model: `@champion`, `models:/churn@champion`, `models:/churn/3`.

As MLflow reads such URIs (mlflow 3.17, `store/artifact/utils/models.py`) and names aliases (`utils/validation.py`). Its stages
and `latest` are refused: who means a version that moves gives it an alias.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SCHEME: Final = "models:"
_ALIAS: Final = re.compile(r"[\w-]{1,255}")
_LIKE_A_VERSION: Final = re.compile(r"[vV]\d+")
_VERSION: Final = re.compile(r"[0-9]{1,18}")
_FORMS: Final = "expected models:/NAME@ALIAS or models:/NAME/VERSION"


class BadReference(ValueError):
    """No version can be meant; the message says what was expected."""


class Reference(NamedTuple):
    """A version of a registered model, or the alias that says which."""

    name: str
    version: str = ""
    alias: str = ""
    """'' for a plain version."""

    @property
    def entity_version(self) -> str:
        """As it stands in `entity_version`."""
        return f"@{self.alias}" if self.alias else self.version

    def __str__(self) -> str:
        return f"{SCHEME}/{self.name}@{self.alias}" if self.alias else f"{SCHEME}/{self.name}/{self.version}"


def of_uri(text: str) -> Reference:
    """Read `models:/NAME@ALIAS` or `models:/NAME/VERSION`. Raises BadReference."""
    path = text.removeprefix(SCHEME)
    if path == text or not path.startswith("/") or path.startswith("//"):
        raise BadReference(f"{_FORMS}, of the one registry that the gateway knows")
    name, slash, version = path[1:].partition("/")
    if not slash:
        name, at, alias = name.rpartition("@")
        if not at:
            raise BadReference(f"{_FORMS}; a logged model's id has no place in the registry")
        return Reference(_name(name), alias=_alias(alias))
    if not _is_version(version):
        raise BadReference(f"{_FORMS} with a number for the version; stages and 'latest' are not followed, aliases are")
    return Reference(_name(name), version)


def of_entity(entity_name: str, entity_version: str = "") -> Reference | None:
    """What an entity refers to by its two fields; None: it names a version plainly, or none. Raises BadReference."""
    if entity_name.startswith(SCHEME):
        if entity_version:
            raise BadReference("entity_name is a models:/ URI, which names the version; expected no entity_version beside it")
        return of_uri(entity_name)
    if entity_version.startswith("@"):
        return Reference(_name(entity_name), alias=_alias(entity_version[1:]))
    return None


def of_plain(entity_name: str, entity_version: str) -> Reference | None:
    """The version that an entity names plainly, as far as a registry can have one of that kind."""
    named = bool(entity_name) and not {"/", ":"} & set(entity_name)
    return Reference(entity_name, entity_version) if named and _is_version(entity_version) else None


def _is_version(text: str) -> bool:
    return _VERSION.fullmatch(text) is not None


def _name(text: str) -> str:
    if not text.strip() or {"/", ":"} & set(text):
        raise BadReference("expected the name of a registered model, which has no '/' and no ':'")
    return text


def _alias(text: str) -> str:
    if _ALIAS.fullmatch(text) is None:
        raise BadReference("expected an alias after the @: 1 to 255 letters, digits, dashes and underscores")
    if text.lower() == "latest" or _LIKE_A_VERSION.fullmatch(text):
        raise BadReference("expected an alias that MLflow can have: 'latest' and v1, v2 … are reserved there")
    return text
