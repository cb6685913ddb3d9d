"""A server's config file: read at start, and looked after from then on, for the next start reads what is there then."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from extproc.app.component import Component
from extproc.app.watching import FileErrors
from extproc.files.problems import Unusable
from extproc.files.read import read_file
from extproc.files.watch import FileWatcher
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.settings.document import Document, load_document

_log = logger(__name__)
Part = TypeVar("Part")


def read_document(path: str, label: str) -> Document:
    """What is in a config file. Raises SettingsError with the flag, the path and why not."""
    try:
        data = read_file(path)
    except Unusable as error:
        raise SettingsError([f"{label}: {problem}" for problem in error.problems]) from None
    try:
        return load_document(data)
    except SettingsError as error:
        raise SettingsError([f"{path}: {problem}" for problem in error.problems]) from None


def part_of(path: str | Path, parse: Callable[[bytes], Part], on_change: Callable[[Part], None]) -> FileWatcher[Part]:
    """Follows a key of the file, which has been read already: what it says now is no change. Nothing is said of what is wrong
    with the file, as `ConfigFile` does; the next good content counts. `parse` and `on_change` are as FileWatcher's."""
    watcher = FileWatcher(path, parse, on_change=on_change, on_error=lambda problems: None)
    with contextlib.suppress(Unusable):  # it was good a moment ago
        watcher.load()
    return watcher


class ConfigFile(Component):
    """Says when the file is no longer the config in force, and when the next start would fail on it. Changes nothing."""

    def __init__(self, path: str, check: Callable[[Document], object], files: FileErrors, apart: Collection[str] = ()) -> None:
        """`check` raises SettingsError for what is wrong with the file's form. `apart` are keys that somebody else follows,
        those of an object as `regions.costs`.
        """
        super().__init__("config file")
        self._path = path
        self._check = check
        self._files = files
        self._apart = tuple(apart)
        self._watcher: FileWatcher[bytes] = FileWatcher(
            path,
            self._read,
            on_change=self._changed,
            on_error=lambda problems: files.broken(path, problems),
            on_heal=lambda: files.good(path),
        )
        self._in_force = self._seen = b""
        """What was read at the start, and what was read last."""
        try:
            self._in_force = self._seen = self._watcher.load()
        except Unusable:  # it was good a moment ago; `run` says so if it stays broken
            return
        files.good(path)

    async def run(self, ready: asyncio.Event) -> None:
        """Watch until cancelled."""
        await self._watcher.run()

    def _read(self, data: bytes) -> bytes:
        document = load_document(data)
        self._check(document)
        value = document.value
        for path in self._apart:
            value = _without(value, path)
        return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).digest()

    def _changed(self, digest: bytes) -> None:
        self._files.good(self._path)
        seen, self._seen = self._seen, digest
        if digest == seen:
            return  # a comment, or what somebody else follows
        if digest == self._in_force:
            _log.info("config file is again the one in force", file=self._path)
        else:
            _log.warning("config file has changed: it is read at start only, so restart to put it into force", file=self._path)


def _without(value: object, path: str) -> object:
    """An object without a key, or without that of an object in it."""
    if not isinstance(value, dict):
        return value
    key, _, inner = path.partition(".")
    if inner:
        return {name: _without(each, inner) if name == key else each for name, each in value.items()}
    return {name: each for name, each in value.items() if name != key}
