"""Replicas that share one state, and what tests say to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from extproc.control.store import Change, RevisionStore, Store
from extproc.storage.keep import Keep

AT_MS = 1_790_000_000_000


def created(name: str, document: bytes = b"{}") -> Change:
    return Change(name, document, "create")


def deleted(name: str) -> Change:
    return Change(name, None, "delete")


async def commit(store: RevisionStore, expected: int, *changes: Change, reason: str = "") -> int:
    return await store.commit(expected, changes, "ada", reason, AT_MS)


class Replicas:
    """Makes stores of one state and closes them."""

    def __init__(self, make: Callable[[Keep], Store]) -> None:
        self._make = make
        self._made: list[Store] = []

    async def one(self, keep: Keep = Keep()) -> Store:
        """A store that is open."""
        store = self._make(keep)
        self._made.append(store)
        await store.open()
        return store

    async def two(self) -> Sequence[Store]:
        return [await self.one(), await self.one()]

    async def close(self) -> None:
        for store in self._made:
            await store.close()
