"""Segments of a gateway: their lists from files that are watched, and the table of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from extproc.app.component import Component
from extproc.app.watching import FileErrors
from extproc.files.problems import Unusable
from extproc.files.watch import FileWatcher
from extproc.live import LiveWriter
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.settings.segments import SegmentSettings
from extproc.traffic.conditions import Wanted
from extproc.traffic.segments import Segments, SegmentSpec

_log = logger(__name__)

MAX_LIST_BYTES: Final = 64 * 2**20
"""Of a list: a million keys of 64 bytes."""
_LONGEST: Final = 4096
"""Bytes of a key, as requests have them."""


class WatchedSegments(Component):
    """Keeps the table of segments equal to the last good content of their lists."""

    def __init__(
        self, segments: Sequence[SegmentSettings], folder: Path, writer: LiveWriter[Segments], files: FileErrors
    ) -> None:
        """Read the lists for the first time; `folder` is where the config is. Raises SettingsError with every problem."""
        super().__init__("segments")
        self._writer = writer
        self._files = files
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
                files.good(path)
            except Unusable as error:
                problems += [f"segments[{index}].file: {problem}" for problem in error.problems]
        if problems:
            raise SettingsError(problems)
        self._writer.replace(Segments(self._specs.values()))

    async def run(self, ready: asyncio.Event) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watcher in self._watchers:
                group.create_task(watcher.run(), name="watch a segment's list")

    def _changed(self, name: str, path: str, keys: frozenset[bytes]) -> None:
        self._specs[name] = self._specs[name]._replace(keys=keys)
        self._writer.replace(Segments(self._specs.values()))
        self._files.good(path)
        _log.info("a segment changed", segment=name, file=path, keys=len(keys))


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
