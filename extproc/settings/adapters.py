"""The adapters file: which LoRA adapters sit on which base model.

Accepted, alone or as several YAML documents in one file: upstream's ConfigMap as it is (`data.baseModel`, and `data.adapters`
as a string that holds a YAML list), a List of them as `kubectl get -o yaml` prints it, and a plain mapping of base model to
list of adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from extproc.settings.base import SettingsError, few, shown
from extproc.settings.document import Document, load_documents

_FEW = 50
_EMPTY = "there is nothing in it; to have no adapters, write {}"


class _Entry(NamedTuple):
    """Some adapters of a base model, and where they are written."""

    document: Document
    path: str
    base: str
    names: list[str]


def parse_adapters(data: bytes | str) -> dict[str, list[str]]:
    """Base model to adapters. Raises SettingsError with every problem, each with its line and its path in the document.

    A file with nothing in it is a problem: that is how it looks when it is about to be written.
    """
    documents = load_documents(data, numbers=False)
    if not documents:
        raise SettingsError([_EMPTY])
    adapters: dict[str, list[str]] = {}
    problems: list[str] = []
    owner: dict[str, str] = {}
    entries = [entry for document in documents for entry in _entries(document, problems)]
    for document, path, base, names in entries:
        adapters.setdefault(base, [])
        for name in dict.fromkeys(names):
            other = owner.setdefault(name, base)
            if other != base:
                problem = f"{path}: adapter {shown(name)} belongs to both {shown(other)} and {shown(base)}"
                problems.append(document.locate(problem))
    bases = {entry.base: entry for entry in reversed(entries)}
    for name, entry in bases.items():
        if name in owner:
            problem = f"{entry.path}: {shown(name)} is both a base model and an adapter of {shown(owner[name])}"
            problems.append(entry.document.locate(problem))
    if problems:
        raise SettingsError(few(problems))
    for entry in entries:
        adapters[entry.base] += entry.names
    return {base: list(dict.fromkeys(names)) for base, names in adapters.items()}


def parse_config_map(document: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Base model and adapters of one ConfigMap. Raises SettingsError with every problem."""
    problems: list[str] = []
    entries = list(_config_map(document, "", problems))
    if problems:
        raise SettingsError(few(problems))
    ((_, base, names),) = entries
    return base, list(dict.fromkeys(names))


def _entries(document: Document, problems: list[str]) -> Iterator[_Entry]:
    wrong: list[str] = []
    for path, base, names in _parts(document.value, wrong):
        yield _Entry(document, path, base, names)
    for problem in wrong[:_FEW]:
        located = document.locate(problem)
        problems.append(f"line {document.line}: {problem}" if located == problem and document.line else located)
    problems += wrong[_FEW:]  # to be counted, not to be read


def _parts(value: Any, problems: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Path, base model and adapters."""
    if not isinstance(value, dict):
        problems.append(f"expected a ConfigMap or a mapping of base model to list of adapters (got {shown(value)})")
    elif value.get("kind") == "ConfigMap":
        yield from _config_map(value, "", problems)
    elif str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            if isinstance(item, dict) and item.get("kind") == "ConfigMap":
                yield from _config_map(item, f"items[{index}].", problems)
            else:
                problems.append(f"items[{index}]: expected a ConfigMap")
    else:
        for base, names in value.items():
            if not isinstance(base, str) or not base.strip():
                problems.append(f"{base}: a base model's name must be a non-empty string (got {shown(base)})")
            else:
                yield base, base.strip(), _names(names, base, problems)


def _config_map(document: Mapping[str, Any], path: str, problems: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    data = document.get("data")
    if not isinstance(data, Mapping):
        problems.append(f"{path}data: missing")
        return
    base = data.get("baseModel")
    if not isinstance(base, str) or not base.strip():
        problems.append(f"{path}data.baseModel: expected a non-empty string (got {shown(base)})")
        return
    where = f"{path}data.adapters"
    listed = data.get("adapters")
    if isinstance(listed, str):
        try:
            texts = load_documents(listed, numbers=False)
        except SettingsError as error:
            problems += [f"{where}: not a YAML list: {problem}" for problem in error.problems]
            return
        if len(texts) > 1:
            problems.append(f"{where}: expected one YAML list, there are {len(texts)} documents")
            return
        listed = texts[0].value if texts else None
    yield where, base.strip(), _names(listed, where, problems)


def _names(value: Any, path: str, problems: list[str]) -> list[str]:
    """Adapter names, blanks skipped; a bare number is its text, as upstream reads `- 1`."""
    if value in (None, {}, ""):
        return []
    if not isinstance(value, list):
        problems.append(f"{path}: expected a list of adapter names (got {shown(value)})")
        return []
    names = []
    for index, item in enumerate(value):
        if isinstance(item, str):
            if item.strip():
                names.append(item.strip())
        elif item is not None:
            problems.append(f"{path}[{index}]: expected an adapter's name (got {shown(item)})")
    return names
