"""Secrets in files: `<root>/<scope>/<key>`, as volumes of Secrets are mounted.

A change is believed when two reads in a row saw the same, as for every file that users give us (`files.watch`): who writes in
place leaves the file empty, and then half, for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from extproc.credentials import Reference
from extproc.files.problems import Unusable
from extproc.files.read import read_file
from extproc.files.watch import DEFAULT_SETTLE_S
from extproc.secrets.source import MAX_SECRET_BYTES, Found, Unreadable, secret_of

_ATTEMPTS: Final = 4


class FolderSource:
    """Reads files in a thread: a file system that hangs holds up nothing."""

    def __init__(
        self,
        root: str | Path,
        *,
        settle_s: float = DEFAULT_SETTLE_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._root = Path(root)
        self._settle_s = settle_s
        self._sleep = sleep
        self._believed: dict[Reference, Found] = {}

    def __repr__(self) -> str:
        return f"<FolderSource {self._root}>"

    def place(self, reference: Reference) -> str:
        return f"the file {self._path(reference)}"

    async def read(self, references: Collection[Reference]) -> Mapping[Reference, Found]:
        seen = await asyncio.to_thread(self._look, list(references))
        believed = self._believed
        for reference, found in seen.items():
            believed.setdefault(reference, found)
        for _ in range(_ATTEMPTS):
            unsettled = [reference for reference, found in seen.items() if believed[reference] != found]
            if not unsettled:
                break
            await self._sleep(self._settle_s)
            for reference, found in (await asyncio.to_thread(self._look, unsettled)).items():
                if found == seen[reference]:
                    believed[reference] = found
                seen[reference] = found
        return {reference: believed[reference] for reference in seen}  # what never rested stays what it was

    def _path(self, reference: Reference) -> Path:
        return self._root / reference.scope / reference.key

    def _look(self, references: Collection[Reference]) -> dict[Reference, Found]:
        return {reference: self._one(self._path(reference)) for reference in references}

    def _one(self, path: Path) -> Found:
        try:
            if not path.exists():
                return None
            return secret_of(read_file(path, MAX_SECRET_BYTES))
        except OSError as error:
            return Unreadable(error.strerror or "can't be read")
        except Unusable as error:
            return Unreadable(error.problems[0].removeprefix(f"{path}: "))
