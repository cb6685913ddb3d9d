"""Stores that fail when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from extproc.control.store import Change, Revision, State, StoreUnavailable
from extproc.storage.memory import MemoryStore


class Shaky(MemoryStore):
    """A memory store that can be away. A second one over the same state is `self` again: replicas share it."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.cut_after_commit = False
        """The next commit is stored, and its answer is lost."""
        self._changed_away = asyncio.Event()

    def go(self) -> None:
        self.away = True
        self._changed_away.set()

    def back(self) -> None:
        self.away = False
        self._changed_away = asyncio.Event()

    def _there(self) -> None:
        if self.away:
            raise StoreUnavailable("no connection")

    async def open(self) -> None:
        self._there()

    async def load(self) -> State:
        self._there()
        return await super().load()

    async def since(self, number: int) -> Sequence[Revision]:
        self._there()
        return await super().since(number)

    async def history(self, endpoint: str, before: int | None = None, limit: int = 50) -> Sequence[Revision]:
        self._there()
        return await super().history(endpoint, before, limit)

    async def commit(self, expected: int, changes: Sequence[Change], actor: str, reason: str, at_ms: int) -> int:
        self._there()
        await asyncio.sleep(0)  # a real one takes its time, and others come in between
        number = await super().commit(expected, changes, actor, reason, at_ms)
        if self.cut_after_commit:
            self.cut_after_commit = False
            raise StoreUnavailable("connection lost")
        return number

    async def watch(self, changed: Callable[[int], None]) -> None:
        self._there()
        watching = asyncio.ensure_future(super().watch(changed))
        gone = asyncio.ensure_future(self._changed_away.wait())
        try:
            await asyncio.wait((watching, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (watching, gone):
                task.cancel()
            await asyncio.gather(watching, gone, return_exceptions=True)
        raise StoreUnavailable("connection lost")
