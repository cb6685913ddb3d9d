"""Serving endpoints that files declare: `servingEndpoints` in the gateway's own file, and a file or folder of their own.

What a file says is one change, all of it or nothing. What is wrong, in the file or because somebody else has an endpoint of
that name, keeps the gateway from starting; later it is said, shown by `extproc_file_errors`, and tried again, while what was
good before stays in force.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from extproc.app.component import Component
from extproc.app.endpoints.pausing import rest
from extproc.app.endpoints.written import Written, located
from extproc.app.watching import FileErrors
from extproc.control.changes import Declare, Origin
from extproc.control.desk import Desk
from extproc.control.errors import DeskError, Unavailable
from extproc.control.exchange import KEY, Found, found_in
from extproc.files.folder import FileText, FolderWatcher
from extproc.files.problems import Unusable
from extproc.files.watch import FileWatcher
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.settings.document import load_document

_log = logger(__name__)

SUFFIXES: Final = (".yaml", ".yml", ".json")
"""Of the files of a folder that are read."""
AGAIN_S: Final = 5.0
"""Until what was refused is tried again: another owner may have let go of a name."""
SOON_S: Final = 1.0
"""The same while the store is away."""


class EndpointsFile(Component):
    """Keeps what one owner declares equal to the last good content of a file, or of all files of a folder."""

    def __init__(
        self,
        path: str,
        owner: str,
        desk: Desk,
        files: FileErrors,
        *,
        in_gateway_file: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`in_gateway_file`: the file has other things too, which others read; no key is no endpoints.

        Read it for the first time. Raises SettingsError with every problem of its form.
        """
        super().__init__(f"serving endpoints of {path}")
        self._path = path
        self._label = f"{path} {KEY}" if in_gateway_file else path
        self._owner = owner
        self._desk = desk
        self._files = files
        self._sleep = sleep
        self._changed = asyncio.Event()
        self._told: tuple[str, ...] = ()
        """What is wrong with the last content that was good by itself, as it was said."""
        self._watcher: FileWatcher[list[Written]]
        if Path(path).is_dir():
            self._watcher = FolderWatcher(
                path, _of_folder, SUFFIXES, on_change=self._take, on_error=self._broken, on_heal=self._changed.set
            )
        else:
            read = _of_gateway_file if in_gateway_file else _of_file
            self._watcher = FileWatcher(
                path,
                lambda data: read(path, data),
                on_change=self._take,
                on_error=self._broken if not in_gateway_file else lambda problems: None,  # its reader says so
                on_heal=self._changed.set,
            )
        try:
            self._written = self._watcher.load()
        except Unusable as error:
            raise SettingsError(error.problems) from None

    async def start(self) -> None:
        """Raises SettingsError when the desk refuses it. A store that is away is waited for by `run`."""
        try:
            await self._declare()
        except Unavailable:
            self._changed.set()
        except DeskError as error:
            raise SettingsError(located(error, self._written, self._path)) from None

    async def run(self, ready: asyncio.Event) -> None:
        """Watch, and declare, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watcher.run(), name=f"watch {self._path}")
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._until_declared()

    async def _until_declared(self) -> None:
        """Try until it is so, or until there is something newer."""
        while not self._changed.is_set():
            try:
                await self._declare()
            except Unavailable:
                await rest(SOON_S, self._changed, self._sleep)
            except DeskError as error:
                problems = tuple(located(error, self._written, self._path))
                if problems != self._told:
                    self._told = problems
                    self._files.broken(self._label, problems)
                await rest(AGAIN_S, self._changed, self._sleep)
            else:
                return

    async def _declare(self) -> None:
        documents = [each.found.value for each in self._written]
        applied = await self._desk.apply(Declare(self._owner, documents, KEY), self._owner, origin=Origin(platform.node()))
        self._told = ()
        self._files.good(self._label)
        if applied.effects:
            _log.info("serving endpoints declared", file=self._path, endpoints=len(documents), changed=len(applied.effects))

    def _take(self, written: list[Written]) -> None:
        self._written = written
        self._changed.set()

    def _broken(self, problems: Sequence[str]) -> None:
        self._files.broken(self._label, problems)


def _of_file(path: str, data: bytes) -> list[Written]:
    return [Written(path, found) for found in found_in(data)]


def _of_gateway_file(path: str, data: bytes) -> list[Written]:
    document = load_document(data)
    listed = document.value.get(KEY) if isinstance(document.value, dict) else None
    if listed is not None and not isinstance(listed, list):
        raise SettingsError([document.locate(f"{KEY}: expected a list of serving endpoints")])
    return [Written(path, Found(each, document, f"{KEY}[{index}]")) for index, each in enumerate(listed or ())]


def _of_folder(files: Sequence[FileText]) -> list[Written]:
    written: list[Written] = []
    problems: list[str] = []
    for name, data in files:
        try:
            written += [Written(name, found) for found in found_in(data)]
        except SettingsError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
    if problems:
        raise SettingsError(problems)
    return written
