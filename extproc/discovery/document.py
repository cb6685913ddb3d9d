"""YAML or JSON bytes to plain values, with what can't be meant refused in words its writer can act on."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

import orjson
import yaml

from extproc.settings.base import SettingsError

MAX_DEPTH: Final = 32
"""Of maps and lists in each other. The C loader of YAML recurses on them without a bound of its own, and crashes."""

_OPENING: Final = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSING: Final = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class _Loader(yaml.CSafeLoader):
    """Plain values, and no key twice in a map."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_document(data: bytes) -> object:
    """The value of one YAML or JSON document. Raises SettingsError saying where it can't be read."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass  # then it is YAML; JSON is tried first because it is a hundred times faster and never ambiguous
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError([f"expected UTF-8 text: {error.reason} at byte {error.start}"]) from None
    try:
        _check_depth(text)
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SettingsError([f"{where}expected YAML or JSON: {error.problem or error.context}"]) from None
    except yaml.YAMLError as error:
        raise SettingsError([f"expected YAML or JSON: {' '.join(str(error).split())}"]) from None
    except (ValueError, RecursionError) as error:  # such as the date 2026-13-45
        raise SettingsError([f"expected YAML or JSON: {error}"]) from None


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, _OPENING):
            depth += 1
            if depth > MAX_DEPTH:
                line = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
                raise SettingsError([f"{line}expected at most {MAX_DEPTH} maps and lists in each other"])
        elif isinstance(event, _CLOSING):
            depth -= 1
