"""Endpoints as YAML that people keep: out of records, and back into what can be created or declared.

What comes out is what was given, without what follows from it (ids, times, versions, layouts, what a registry says). Secrets
stay references; one that was given as text is kept in its record alone, so its reference goes out, and another desk will ask
for the secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import yaml

from extproc.control.records import EndpointRecord
from extproc.registry.moves import BLOCK
from extproc.settings.base import SettingsError
from extproc.settings.document import Document, load_documents

_OF_OTHERS: Final = re.compile(r"[yYnN]|[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?0[oOxXbB][0-9a-fA-F_]+")
"""Text that PyYAML writes as it is, and that kubectl's reader (or YAML 1.2) takes for a switch or a number."""
_BREAKS: Final = frozenset("\x85\u2028\u2029")

KEY: Final = "servingEndpoints"
"""Of the list, in the gateway's file and in files of their own."""


def exported(record: EndpointRecord) -> dict[str, Any]:
    """The endpoint's document: the body of the call that creates it, and an item of `servingEndpoints`."""
    routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in record.percentages.items()]
    config = {
        **record.core,
        "served_entities": [_given(each) for each in record.entities],
        "traffic_config": {"routes": routes},
    }
    parts = {
        "name": record.name,
        "description": record.description,
        "config": config,
        **record.delivery,
        "tags": [{"key": key} if value is None else {"key": key, "value": value} for key, value in record.tags.items()],
        "ai_gateway": dict(record.ai_gateway),
        "rate_limits": list(record.rate_limits),
        "email_notifications": dict(record.notifications),
        "telemetry_config": dict(record.telemetry),
        "sticky": "" if record.sticky else "none",
    }
    return {key: value for key, value in parts.items() if value not in ("", [], {})} | dict(record.rest)


def _given(entity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entity.items() if key != BLOCK}


def to_yaml(records: Iterable[EndpointRecord]) -> str:
    """A file of all of them."""
    return text_of({KEY: [exported(record) for record in records]})


def text_of(value: Any) -> str:
    """A document as YAML that people read."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class Found(NamedTuple):
    """An endpoint's document, unread, and where it is written."""

    value: object
    document: Document
    path: str
    """In the document: `servingEndpoints[2]`, `[2]`, or '' for all of it."""

    def locate(self, problem: str) -> str:
        """A problem that begins with a path in the endpoint, with its line."""
        joint = "" if not problem or problem[0] in "[:" or not self.path else "."
        return self.document.locate(f"{self.path}{joint}{problem}".removeprefix(": "))


def of_yaml(data: bytes | str) -> list[object]:
    """The endpoints' documents in YAML or JSON. Raises SettingsError for what is none of the forms of `found_in`."""
    return [each.value for each in found_in(data)]


def found_in(data: bytes | str) -> list[Found]:
    """Endpoints under `servingEndpoints`, in a list, or one by itself; a text may have several such documents.

    Raises SettingsError for what is none of these. What is wrong with an endpoint says whoever reads it.
    """
    found: list[Found] = []
    problems = []
    documents = load_documents(data)
    if not documents:  # as a file looks that is about to be written
        raise SettingsError([f"there is nothing in it; to have no serving endpoints, write {KEY}: []"])
    for document in documents:
        value = document.value
        if isinstance(value, list):
            found += [Found(each, document, f"[{index}]") for index, each in enumerate(value)]
        elif isinstance(value, Mapping) and isinstance(value.get(KEY), list) and len(value) == 1:
            found += [Found(each, document, f"{KEY}[{index}]") for index, each in enumerate(value[KEY])]
        elif isinstance(value, Mapping) and "name" in value:
            found.append(Found(value, document, ""))
        else:
            line = "" if document.line is None else f"line {document.line}: "
            problems.append(f"{line}expected {KEY} with a list of endpoints, such a list, or an endpoint with name and config")
    if problems:
        raise SettingsError(problems)
    return found


class _Dumper(yaml.SafeDumper):
    """Without anchors: what is the same twice is written twice. Text over several lines stays readable."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text.strip("\n") else "'" if _OF_OTHERS.fullmatch(text) else None
    if not _BREAKS.isdisjoint(text):
        style = '"'  # PyYAML takes the first of these for a line's end when it reads, and not when it writes
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
