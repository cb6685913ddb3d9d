"""Watched files, as far as people see them: a gauge and a log line when one breaks or heals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger
from extproc.settings.base import few

_SHOWN: Final = 10
"""Problems that a line tells."""

_log = logger(__name__)


class FileErrors:
    """Which watched files are broken now. What was good in them stays in force."""

    def __init__(self, instruments: Instruments) -> None:
        self._gauge = instruments.gauge(
            "extproc_file_errors",
            "1 while a watched file is broken or gone, and its last good content in force.",
            ["file"],
        )
        self._broken: set[str] = set()

    def broken(self, path: str, problems: Sequence[str]) -> None:
        self._gauge.child(path).value = 1
        self._broken.add(path)
        _log.error("watched file is broken, its last good content stays", file=path, problems=few(problems, _SHOWN))

    def good(self, path: str) -> None:
        self._gauge.child(path).value = 0
        if path in self._broken:
            self._broken.discard(path)
            _log.info("watched file is good again", file=path)
