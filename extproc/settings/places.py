"""Where in a YAML text each part of its value is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

import yaml

PARSER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MERGE: Final = "<<"

_ENDS: Final = ".[: "
"""What may follow a key in a path."""

_INDEX: Final = re.compile(r"\[(\d{1,9})\]")


class Place(NamedTuple):
    """A line, and the places of what is inside: by key, or by position."""

    line: int
    inside: dict[str, Place] | Sequence[Place] | None = None

    def step(self, path: str) -> tuple[Place | None, str]:
        """Where the path's first part leads, and the rest of the path. Keys may have dots and brackets in them."""
        if isinstance(self.inside, dict):
            path = path.removeprefix(".")
            for end in sorted({at for mark in _ENDS for at in _all(path, mark)} | {len(path)}, reverse=True):
                if path[:end] in self.inside:
                    return self.inside[path[:end]], path[end:]
        elif self.inside is not None and (match := _INDEX.match(path)) and int(match[1]) < len(self.inside):
            return self.inside[int(match[1])], path[match.end() :]
        return None, path


def _all(text: str, mark: str) -> Iterator[int]:
    at = text.find(mark)
    while at >= 0:
        yield at
        at = text.find(mark, at + 1)


class Places:
    """Events to places, of a text that is known to be within the bounds."""

    def __init__(self, text: str) -> None:
        self._events = cast(Iterator[Any], iter(yaml.parse(text, PARSER)))
        self._anchors: dict[str, Place] = {}

    def documents(self) -> Iterator[Place]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                yield self._place(next(self._events))

    def _place(self, event: Any) -> Place:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            return Place(line, self._anchors[event.anchor].inside if event.anchor in self._anchors else None)
        inside: dict[str, Place] | list[Place] | None = None
        if isinstance(event, yaml.SequenceStartEvent):
            inside = []
            while not isinstance(each := next(self._events), yaml.SequenceEndEvent):
                inside.append(self._place(each))
        elif isinstance(event, yaml.MappingStartEvent):
            inside = {}
            while not isinstance(each := next(self._events), yaml.MappingEndEvent):
                at = self._place(each)
                value = self._place(next(self._events))
                if isinstance(each, yaml.ScalarEvent) and each.value != MERGE:
                    inside[each.value] = Place(at.line, value.inside)
                elif isinstance(value.inside, dict):
                    inside = {**value.inside, **inside}
        place = Place(line, inside)
        if event.anchor is not None:
            self._anchors[event.anchor] = place
        return place
