"""Segments of a gateway: what its file says of them and their lists, all watched, and the table of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from extproc.app.component import Component
from extproc.app.config_file import part_of
from extproc.app.watching import FileErrors
from extproc.files.problems import Unusable
from extproc.files.watch import FileWatcher
from extproc.live import LiveWriter
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.settings.document import load_document
from extproc.settings.gateway import load_gateway_config
from extproc.settings.segments import SegmentSettings
from extproc.traffic.conditions import Wanted
from extproc.traffic.segments import Segments, SegmentSpec

_log = logger(__name__)

MAX_LIST_BYTES: Final = 64 * 2**20
"""Of a list: a million keys of 64 bytes."""
_AGAIN_S: Final = 5.0
_LONGEST: Final = 4096
"""Bytes of a key, as requests have them."""


class SegmentLists:
    """What one list of definitions comes to: the table, and the files that are followed."""

    def __init__(
        self,
        segments: Sequence[SegmentSettings],
        folder: Path,
        files: FileErrors,
        on_change: Callable[[Segments], None],
    ) -> None:
        """Read the lists for the first time; `folder` is where the config is. Raises SettingsError with every problem."""
        self._files = files
        self._on_change = on_change
        self._specs = {segment.name: spec_of(segment) for segment in segments}
        self._watchers: list[FileWatcher[frozenset[bytes]]] = []
        problems: list[str] = []
        for index, segment in enumerate(segments):
            if segment.file is None:
                continue
            path = str(folder / segment.file)
            watcher = FileWatcher(
                path,
                keys_of,
                on_change=partial(self._changed, segment.name, path),
                on_error=partial(files.broken, path),
                on_heal=partial(files.good, path),
                max_bytes=MAX_LIST_BYTES,
            )
            self._watchers.append(watcher)
            try:
                self._specs[segment.name] = self._specs[segment.name]._replace(keys=watcher.load())
            except Unusable as error:
                problems += [f"segments[{index}].file: {problem}" for problem in error.problems]
        if problems:
            raise SettingsError(problems)
        for path in self.paths:
            files.good(path)

    @property
    def paths(self) -> list[str]:
        """Files that are followed."""
        return [str(watcher.path) for watcher in self._watchers]

    @property
    def table(self) -> Segments:
        return Segments(self._specs.values())

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watcher in self._watchers:
                group.create_task(watcher.run(), name="watch a segment's list")

    def _changed(self, name: str, path: str, keys: frozenset[bytes]) -> None:
        self._specs[name] = self._specs[name]._replace(keys=keys)
        self._on_change(self.table)
        self._files.good(path)
        _log.info("a segment changed", segment=name, file=path, keys=len(keys))


class WatchedSegments(Component):
    """Keeps the table of segments equal to the last good `segments` of the gateway's file, and to their lists."""

    def __init__(
        self, segments: Sequence[SegmentSettings], config: str, writer: LiveWriter[Segments], files: FileErrors
    ) -> None:
        """`config`: the gateway's file, which has been read. Raises SettingsError with every problem of a list."""
        super().__init__("segments")
        self._folder = Path(config).parent
        self._label = f"{config} segments"
        self._writer = writer
        self._files = files
        self._lists = self._made(segments)
        self._again_s = _AGAIN_S
        self._defined = tuple(segments)
        self._writer.replace(self._lists.table)
        self._anew = asyncio.Event()
        self._refused: tuple[SegmentSettings, ...] | None = None
        """Definitions whose lists were no good: they may become so."""
        self._told: Sequence[str] = ()
        self._watcher = part_of(config, definitions_of, self._redefined)

    async def run(self, ready: asyncio.Event) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watcher.run(), name="watch segments of the config")
            group.create_task(self._try_again(), name="segments whose lists were no good")
            while True:
                self._anew.clear()
                following = group.create_task(self._lists.run(), name="watch segments' lists")
                await self._anew.wait()
                following.cancel()

    async def _try_again(self) -> None:
        while True:
            await asyncio.sleep(self._again_s)
            if self._refused is not None:
                self._redefined(self._refused)

    def _made(self, segments: Sequence[SegmentSettings]) -> SegmentLists:
        return SegmentLists(segments, self._folder, self._files, self._writer.replace)

    def _redefined(self, segments: tuple[SegmentSettings, ...]) -> None:
        self._refused = None
        if segments == self._defined:
            self._told = ()
            self._files.good(self._label)
            return  # something else in the file has changed, or it is again what it was
        try:
            lists = self._made(segments)
        except SettingsError as error:
            self._refused = segments
            if error.problems != self._told:
                self._told = error.problems
                self._files.broken(self._label, error.problems)
            return
        for path in set(self._lists.paths) - set(lists.paths):
            self._files.good(path)  # nobody needs it any more
        self._lists, self._defined, self._told = lists, segments, ()
        self._writer.replace(lists.table)
        self._files.good(self._label)
        self._anew.set()
        _log.info("segments changed", file=self._label, segments=len(segments))


def definitions_of(data: bytes) -> tuple[SegmentSettings, ...]:
    """`segments` of a gateway's file, all of which must be good. Raises SettingsError."""
    return tuple(load_gateway_config(load_document(data)).segments)


def keys_of(data: bytes) -> frozenset[bytes]:
    """Keys, one a line; blanks around them, empty lines and lines that begin with `# ` are left out. Raises SettingsError."""
    keys: set[bytes] = set()
    problems: list[str] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        key = line.strip()
        if len(key) > _LONGEST or b"\0" in key:
            problems.append(f"line {number}: got a key of {len(key)} bytes; expected text of at most {_LONGEST}")
        elif key and not key.startswith(b"# "):
            keys.add(key)
    if problems:
        raise SettingsError(problems[:20])
    return frozenset(keys)


def spec_of(segment: SegmentSettings) -> SegmentSpec:
    """The segment, without the keys of its file."""
    header = None
    if segment.header is not None:
        ((kind, value),) = segment.header.model_dump(exclude_unset=True, exclude={"name"}).items()
        header = (segment.header.name, Wanted(kind, tuple(value) if isinstance(value, list) else (value,)))
    return SegmentSpec(
        segment.name,
        header,
        frozenset(segment.groups or ()),
        frozenset(segment.subjects or ()),
        frozenset(key.encode() for key in segment.keys or ()),
        None if segment.percentage is None else round(segment.percentage * 100),
        segment.salt or "",
    )
