"""What a check found, and where texts inside of other texts are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from extproc.settings.document import Document

_LINE: Final = re.compile(r"line (\d+)(?:, column \d+)?: ")


class Part(NamedTuple):
    """One thing in a file: a config, an object, a list of endpoints."""

    kind: str
    """In the words of its owner: `EndpointPickerConfig`, `InferencePool`, `serving endpoints`."""
    name: str = ""
    """What it is called, or where in the file it stands; '' when it is all of it."""
    line: int | None = None
    problems: tuple[str, ...] = ()
    """Each with `line N: ` before it where that is known."""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be looked at, and what there is."""
    picker: Mapping[str, Any] | None = None
    """Of a picker config without problems: what will be there."""


class Report(NamedTuple):
    """A file."""

    file: str
    parts: tuple[Part, ...] = ()
    problems: tuple[str, ...] = ()
    """Those for which nothing could be read of it."""

    @property
    def number(self) -> int:
        """Of problems in all."""
        return len(self.problems) + sum(len(part.problems) for part in self.parts)


def split_line(problem: str) -> tuple[int | None, str]:
    """The line that a problem begins with, and the rest of it."""
    match = _LINE.match(problem)
    return (None, problem) if match is None else (int(match[1]), problem[match.end() :])


class Where(NamedTuple):
    """A document, and where in which file it is written."""

    document: Document
    path: str = ""
    """In the file; '' for a document of its own."""
    first: int = 0
    """Lines of the file before the document's first; -1 when its lines are not the file's."""

    def locate(self, problem: str) -> str:
        """A problem that begins with a path in the document, or with a line of it, in the file's terms."""
        line, rest = split_line(self.document.locate(problem))
        if not self.path:
            return problem if line is None else f"line {line}: {rest}"
        if line is None:
            return f"{self.path}: {rest}"
        if self.first < 0:
            return f"{self.path}: line {line} of the text: {rest}"
        return f"line {line + self.first}: {self.path}: {rest}"

    def locate_all(self, problems: Iterable[str]) -> tuple[str, ...]:
        return tuple(map(self.locate, problems))


def text_in(outer: Document, lines: list[str], path: str, text: str) -> int:
    """How many lines of the file stand before a text that is written at `path` as a block; -1 where its lines are not the
    file's, as between quotes."""
    line = outer.line_of(path)
    inner = text.splitlines()
    if line is None or not inner or len(lines) < line + len(inner):
        return -1
    same = all(lines[line + at].strip() == each.strip() for at, each in enumerate(inner))
    return line if same else -1
