"""What plugins know that pages can't tell again, kept on disk over a restart: `--snapshot-dir`.

A file for each plugin of each pool that has something to keep, named after both. It is written beside and moved into its place,
so that a reader sees the one before or this one whole; in pieces, so that picks go first; and once more when the service ends.
One that can't be used is told and left out: nothing depends on it but how soon the picker is as good as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from extproc.app.component import Component
from extproc.files.problems import Unusable
from extproc.files.read import read_file
from extproc.observability.logs import logger
from extproc.scheduling.plugins.base import Keeper, UnusableSnapshot
from extproc.slices import Slices

_log = logger(__name__)

MAX_BYTES: Final = 2**30
SUFFIX: Final = ".snapshot"


class Snapshots(Component):
    """Of all pools. `keepers` by pool, then by the plugin's name."""

    def __init__(
        self,
        folder: str,
        interval_s: float,
        keepers: Mapping[str, Mapping[str, Keeper]],
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("snapshots")
        self._folder = Path(folder)
        self._interval_s = interval_s
        self._wall_clock = wall_clock
        self._keepers = {
            self._folder / f"{quote(pool, safe='')}.{quote(plugin, safe='')}{SUFFIX}": keeper
            for pool, of_pool in keepers.items()
            for plugin, keeper in of_pool.items()
        }
        self._slices = Slices()
        self._failed: set[Path] = set()
        self._read = False

    async def start(self) -> None:
        """Take over what is there."""
        for path, keeper in self._keepers.items():
            if not path.exists():
                continue
            try:
                data = read_file(path, MAX_BYTES)
                for number, _ in enumerate(keeper.restore(data, self._wall_clock())):
                    if number % 100 == 99:
                        await asyncio.sleep(0)
            except (Unusable, UnusableSnapshot) as error:
                _log.warning("snapshot is not used", path=str(path), error=str(error))
            else:
                _log.info("snapshot was taken over", path=str(path), bytes=len(data))
        self._read = True

    async def run(self, ready: asyncio.Event) -> None:
        """Write every so often, until cancelled."""
        await ready.wait()
        while True:
            await asyncio.sleep(self._interval_s)
            await self._write_all()

    async def close(self) -> None:
        """Once more, as of now; not when what is there was not read."""
        if self._read:
            await self._write_all()

    async def _write_all(self) -> None:
        for path, keeper in self._keepers.items():
            try:
                await self._write(path, keeper)
            except OSError as error:
                if path not in self._failed:
                    self._failed.add(path)
                    _log.warning("snapshot can't be written", path=str(path), error=error.strerror or str(error))
            else:
                self._failed.discard(path)

    async def _write(self, path: Path, keeper: Keeper) -> None:
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        pieces, more = keeper.snapshot(self._wall_clock()), True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                while more:
                    piece, more = await self._slices.next(pieces)
                    await asyncio.to_thread(file.write, piece)
            beside.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
