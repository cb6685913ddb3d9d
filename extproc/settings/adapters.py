"""The adapters file: which LoRA adapters sit on which base model.

Accepted, alone or as several YAML documents in one file: upstream's ConfigMap as it is (`data.baseModel`, and `data.adapters`
as a string that holds a YAML list), a List of them as `kubectl get -o yaml` prints it, and a plain mapping of base model to
list of adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from extproc.settings.base import SettingsError

# PyYAML lets some errors of its constructors through: `2024-13-45` is a ValueError, a bad !!timestamp an AttributeError.
YAML_ERRORS: Final = (yaml.YAMLError, ValueError, AttributeError, RecursionError)


def parse_adapters(text: str) -> dict[str, list[str]]:
    """Base model to adapters. Raises SettingsError with every problem, each with its path in the file."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except YAML_ERRORS as error:
        raise SettingsError([f"not valid YAML: {yaml_problem(error)}"]) from None
    adapters: dict[str, list[str]] = {}
    problems: list[str] = []
    owner: dict[str, str] = {}
    for path, base, names in _entries(documents, problems):
        adapters.setdefault(base, [])
        for name in names:
            other = owner.setdefault(name, base)
            if other != base:
                problems.append(f"{path}: adapter {name!r} belongs to both {other!r} and {base!r}")
            elif name not in adapters[base]:
                adapters[base].append(name)
    problems += [f"{name!r} is both a base model and an adapter of {owner[name]!r}" for name in adapters if name in owner]
    if problems:
        raise SettingsError(problems)
    return adapters


def parse_config_map(document: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Base model and adapters of one ConfigMap, whose `data.adapters` may be a list already. Raises SettingsError."""
    problems: list[str] = []
    found = list(_config_map(document, "", problems))
    if problems:
        raise SettingsError(problems)
    ((_, base, names),) = found
    return base, list(dict.fromkeys(names))


def yaml_problem(error: Exception) -> str:
    """What is wrong and where, in one line, without quoting the file."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if not isinstance(error, yaml.YAMLError):
        return "a value that its type does not allow"
    mark = getattr(error, "problem_mark", None)
    problem = (getattr(error, "problem", None) or "cannot be read").removeprefix("but ")
    return f"{problem} at line {mark.line + 1}, column {mark.column + 1}" if mark else str(problem)


def _entries(documents: list[Any], problems: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    for number, document in enumerate(documents):
        path = f"document[{number}]" if len(documents) > 1 else ""
        if not isinstance(document, Mapping):
            problems.append(f"{path or 'file'}: expected a ConfigMap or a mapping of base model to list of adapters")
        elif document.get("kind") == "ConfigMap":
            yield from _config_map(document, path, problems)
        elif str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            for index, item in enumerate(document["items"]):
                where = f"{path}.items[{index}]".lstrip(".")
                if isinstance(item, Mapping) and item.get("kind") == "ConfigMap":
                    yield from _config_map(item, where, problems)
                else:
                    problems.append(f"{where}: expected a ConfigMap")
        else:
            for base, names in document.items():
                where = f"{path}.{base}".lstrip(".")
                if not isinstance(base, str) or not base.strip():
                    problems.append(f"{where}: a base model's name must be a non-empty string (got {base!r})")
                else:
                    yield where, base.strip(), _names(names, where, problems)


def _config_map(document: Mapping[str, Any], path: str, problems: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    data = document.get("data")
    where = f"{path}.data".lstrip(".")
    if not isinstance(data, Mapping):
        problems.append(f"{where}: missing")
        return
    base = data.get("baseModel")
    if not isinstance(base, str) or not base.strip():
        problems.append(f"{where}.baseModel: expected a non-empty string (got {base!r})")
        return
    listed = data.get("adapters")
    if isinstance(listed, str):
        try:
            listed = yaml.safe_load(listed)
        except YAML_ERRORS as error:
            problems.append(f"{where}.adapters: not a YAML list: {yaml_problem(error)}")
            return
    yield f"{where}.adapters", base.strip(), _names(listed, f"{where}.adapters", problems)


def _names(value: Any, path: str, problems: list[str]) -> list[str]:
    """Adapter names, blanks skipped; a bare number is its text, as upstream reads `- 1`."""
    if value is None:
        return []
    if not isinstance(value, list):
        problems.append(f"{path}: expected a list of adapter names (got {value!r})")
        return []
    names = []
    for index, item in enumerate(value):
        if isinstance(item, str | int | float) and not isinstance(item, bool):
            if str(item).strip():
                names.append(str(item).strip())
        elif item is not None:
            problems.append(f"{path}[{index}]: expected an adapter's name (got {item!r})")
    return names
