"""The adapters file: read at start, watched, and given to the router stage as a whole."""

from __future__ import annotations

import asyncio

from extproc.app.component import Component
from extproc.app.watching import FileErrors
from extproc.files.problems import Unusable
from extproc.files.watch import FileWatcher
from extproc.live import LiveWriter
from extproc.observability.logs import logger
from extproc.settings.adapters import parse_adapters
from extproc.settings.base import SettingsError
from extproc.traffic import AdapterMap

_log = logger(__name__)


class AdaptersFile(Component):
    """Keeps the adapter map equal to the file's last good content."""

    def __init__(self, path: str, label: str, adapters: LiveWriter[AdapterMap], files: FileErrors) -> None:
        """Read it for the first time. Raises SettingsError with every problem, each under `label`."""
        super().__init__("adapters file")
        self._path = path
        self._adapters = adapters
        self._files = files
        self._watcher = FileWatcher(
            path,
            _parse,
            on_change=self._changed,
            on_error=lambda problems: files.broken(path, problems),
            on_heal=lambda: files.good(path),
        )
        try:
            adapters.replace(self._watcher.load())
        except Unusable as error:
            raise SettingsError([f"{label}: {problem}" for problem in error.problems]) from None
        files.good(path)

    async def run(self, ready: asyncio.Event) -> None:
        """Watch until cancelled."""
        await self._watcher.run()

    def _changed(self, adapters: AdapterMap) -> None:
        self._adapters.replace(adapters)
        self._files.good(self._path)
        _log.info("adapters changed", file=self._path, names=len(adapters))


def _parse(data: bytes) -> AdapterMap:
    try:
        return AdapterMap(parse_adapters(data))
    except ValueError as error:
        raise SettingsError([str(error)]) from None
