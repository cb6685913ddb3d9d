"""The router's `--plugin type:name[:json]`: which fields of a body become headers. Types and parameters are upstream's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from extproc import names
from extproc.settings.base import SettingsError
from extproc.settings.document import load_document

FIELD_TO_HEADER: Final = "body-field-to-header"
BASE_MODEL: Final = "base-model-to-header"
_DEFAULTS: Final = ("default-bbr", "no-op-plugin")
"""Of v1.4, which set the two headers whatever its plugins said."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS: Final = ("host", "content-length", "transfer-encoding", "connection")


class FieldRule(NamedTuple):
    """A field on top of a JSON body, and the header that gets its text."""

    field: str
    header: str


class HeaderRules(NamedTuple):
    """What the router sets."""

    fields: tuple[FieldRule, ...] = (FieldRule("model", names.MODEL_HEADER),)
    base_model: bool = True
    """The model's base model, too."""


def parse_plugins(specs: Sequence[str]) -> HeaderRules:
    """The rules of these plugins, the usual ones when there are none. Raises ValueError with every problem."""
    fields: list[FieldRule] = []
    base = False
    problems = []
    for spec in specs:
        kind, _, rest = spec.partition(":")
        name, _, text = rest.partition(":")
        try:
            if not kind or not name:
                raise ValueError("expected type:name or type:name:json")
            if kind == FIELD_TO_HEADER:
                fields.append(_field_rule(_parameters(text)))
            elif kind == BASE_MODEL:
                base = True
            elif kind in _DEFAULTS:
                base = True
                fields += HeaderRules().fields
            else:
                raise ValueError(f"unknown type {kind!r}, there are {FIELD_TO_HEADER} and {BASE_MODEL}")
        except ValueError as error:
            problems.append(f"{spec!r}: {error}")
    headers = [rule.header.lower() for rule in fields]
    problems += [f"two plugins set {header}" for header in sorted({h for h in headers if headers.count(h) > 1})]
    if problems:
        raise ValueError("; ".join(problems))
    return HeaderRules(tuple(fields), base) if specs else HeaderRules()


def _parameters(text: str) -> dict[str, Any]:
    try:
        found = load_document(text).value
    except SettingsError as error:
        raise ValueError(f"its parameters are not JSON: {error.problems[0]}") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("its parameters must be an object of strings")
    return found


def _field_rule(parameters: dict[str, Any]) -> FieldRule:
    field = parameters.get("fieldName") or parameters.get("field_name")
    header = parameters.get("headerName") or parameters.get("header_name")
    unknown = set(parameters) - {"fieldName", "headerName", "field_name", "header_name"}
    if unknown:
        raise ValueError(f"unknown parameter {min(unknown)!r}")
    if not field or not header:
        raise ValueError("fieldName and headerName are required")
    if not _TOKEN.fullmatch(header) or header.lower() in _OURS:
        raise ValueError(f"headerName {header!r} is no header that may be set")
    return FieldRule(field, header)
