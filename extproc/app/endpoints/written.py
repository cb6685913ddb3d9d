"""Endpoints as they stand in somebody's text, and the desk's problems with them, said where they stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from extproc.control.errors import DeskError
from extproc.control.exchange import KEY, Found

_ITEM: Final = re.compile(re.escape(KEY) + r"\[(\d+)\]\.?")


class Written(NamedTuple):
    """An endpoint, and the file that it is in, or the key of a ConfigMap."""

    file: str
    found: Found


def located(error: DeskError, written: Sequence[Written], whole: str) -> list[str]:
    """The problems with file and line instead of the position in all that was declared; `whole` is where the others are."""
    lines = []
    for problem in error.problems:
        item = _ITEM.match(problem)
        if item is not None and int(item[1]) < len(written):
            file, found = written[int(item[1])]
            lines.append(f"{file}: {found.locate(problem[item.end() :])}")
        else:
            lines.append(f"{whole}: {problem}" if whole else problem)
    return lines
