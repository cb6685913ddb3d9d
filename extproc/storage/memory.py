"""Desired state that ends with the process: `memory:`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, takewhile

from extproc.audit.changes import Link
from extproc.audit.journal import Journal
from extproc.control.store import Change, Forgotten, Kept, Revision, State, StoreUnavailable, Superseded
from extproc.storage.keep import Keep, check


class MemoryStore:
    """A RevisionStore of one process and one event loop. Closing it forgets nothing."""

    def __init__(self, keep: Keep = Keep(), journal: Journal | None = None) -> None:
        """With a `journal` each change is recorded in that file before it is made; what can't be recorded is refused."""
        self._keep = keep
        self._journal = journal
        self._committing = asyncio.Lock()
        self._number = 0
        self._forgotten = 0
        self._documents: dict[str, bytes] = {}
        self._history: dict[str, deque[Revision]] = {}
        self._deleted: dict[str, None] = {}
        """Names with a history and no document, in the order in which they were deleted."""
        self._kept: dict[str, Kept] = {}
        self._watchers: set[asyncio.Event] = set()

    def __repr__(self) -> str:
        return f"<MemoryStore number={self._number}>"

    async def open(self) -> None:
        """Nothing to do."""

    async def load(self) -> State:
        return State(self._number, dict(self._documents))

    async def commit(self, expected: int, changes: Sequence[Change], actor: str, reason: str, at_ms: int) -> int:
        check(changes, actor, reason, at_ms)
        if self._journal is None:
            return self._made(expected, changes, actor, reason, at_ms)
        async with self._committing:
            if expected != self._number:
                raise Superseded(self._number)
            await _recorded(self._journal, [change.record for change in changes if change.record])
            return self._made(expected, changes, actor, reason, at_ms)

    def _made(self, expected: int, changes: Sequence[Change], actor: str, reason: str, at_ms: int) -> int:
        if expected != self._number:
            raise Superseded(self._number)
        for change in changes:
            self._number += 1
            self._store(Revision(self._number, change._replace(record=b""), actor, reason, at_ms))
        if changes:
            for watcher in self._watchers:
                watcher.set()
        return self._number

    def _store(self, revision: Revision) -> None:
        name, document = revision.change.endpoint, revision.change.document
        self._deleted.pop(name, None)
        if document is None:
            self._documents.pop(name, None)
            self._deleted[name] = None
        else:
            self._documents[name] = document
        history = self._history.setdefault(name, deque())
        history.append(revision)
        if len(history) > self._keep.revisions:
            self._forgotten = max(self._forgotten, history.popleft().number)
        if len(self._deleted) > self._keep.deleted:
            oldest = next(iter(self._deleted))
            del self._deleted[oldest]
            self._forgotten = max(self._forgotten, self._history.pop(oldest)[-1].number)

    async def since(self, number: int) -> Sequence[Revision]:
        if number < self._forgotten:
            raise Forgotten(number)
        found = []
        for history in self._history.values():
            found += list(takewhile(lambda each: each.number > number, reversed(history)))
        return sorted(found)

    async def history(self, endpoint: str, before: int | None = None, limit: int = 50) -> Sequence[Revision]:
        newest_first = reversed(self._history.get(endpoint, ()))
        return list(islice((each for each in newest_first if before is None or each.number < before), max(0, limit)))

    async def kept(self) -> Mapping[str, Kept]:
        return dict(self._kept)

    async def keep(self, name: str, expected: int, document: bytes | None) -> int:
        there = self._kept.get(name)
        if expected != (0 if there is None else there.version):
            raise Superseded(0 if there is None else there.version)
        if document is None:
            self._kept.pop(name, None)
            return 0
        self._kept[name] = Kept(expected + 1, document)
        return expected + 1

    async def changes(self, after: int = 0, endpoint: str = "", limit: int = 1000) -> Sequence[Link]:
        """None: they are in the journal, of this process and of those before it, whose numbers are their own."""
        return []

    async def latest_changes(self, before: int | None = None, endpoint: str = "", limit: int = 1000) -> Sequence[Link]:
        """None, as of `changes`."""
        return []

    async def watch(self, changed: Callable[[int], None]) -> None:
        committed = asyncio.Event()
        self._watchers.add(committed)
        try:
            while True:
                committed.clear()
                changed(self._number)
                await committed.wait()
        finally:
            self._watchers.discard(committed)

    async def close(self) -> None:
        """Nothing to do."""


async def _recorded(journal: Journal, records: Sequence[bytes]) -> None:
    """Raises StoreUnavailable. It is waited for to its end, whoever stops waiting: nobody else is to write meanwhile."""
    if not records:
        return
    try:
        await asyncio.shield(asyncio.to_thread(journal.append, records))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise StoreUnavailable(f"the change can't be recorded in {journal.path}: {why}") from None
