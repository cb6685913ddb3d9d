"""What was changed and what was decided, looked up while a gateway runs: bounded, and beside its event loop.

Changes are records in the database, or in the journal of a state without one; decisions are the files of `--audit-dir`. Reading
goes on in a thread, a millisecond at a time (`audit.breath`), and each look has an end: who gets less than all is told so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from extproc.audit.breath import Breath, OutOfTime
from extproc.audit.changes import ChangeRecord, Link, Looking, UnreadableChange, Verdict, read_change
from extproc.audit.journal import Journal
from extproc.audit.reader import Decision, Reading, Wanted, decisions_in, spanning
from extproc.control.errors import Unavailable
from extproc.control.store import RevisionStore, StoreError

LOOKED_AT: Final = 20_000
"""Changes that one look goes through."""
EXPORTED: Final = 100_000
"""Changes that an export has at most."""
CHECKED: Final = 200_000
"""Changes of a chain that is checked here; `extproc audit --verify` has no end."""
LONGEST_S: Final = 5.0
"""Of one look at decisions' files, or at changes."""
CHECK_S: Final = 60.0
"""Of a check of the chain; and how long its verdict is good."""
_PAGE: Final = 500
_STEPS: Final = 16


Seen = Callable[[Sequence[str]], Awaitable[Sequence[str]]]
"""Which of these endpoints may be told of."""


class ChangesWanted(NamedTuple):
    """Which changes are asked for; '' and None: any."""

    endpoint: str = ""
    actor: str = ""
    """Somewhere in the name, in any case."""
    since_ms: int | None = None
    until_ms: int | None = None

    def has(self, record: ChangeRecord) -> bool:
        """Whether it is one of them."""
        return (
            (not self.endpoint or record.endpoint == self.endpoint)
            and (not self.actor or self.actor.casefold() in record.actor.casefold())
            and (self.since_ms is None or record.at_ms >= self.since_ms)
            and (self.until_ms is None or record.at_ms < self.until_ms)
        )


class Changes(NamedTuple):
    """Changes that were found, newest first."""

    records: Sequence[ChangeRecord]
    more: int | None
    """Where to look on; None: that was the end."""
    looked_at: int
    """So many were looked at, whether asked for or not."""


class Checked(NamedTuple):
    """What came of looking at the whole chain."""

    verdict: Verdict | None
    """None: it was not looked at to its end."""
    why: str
    """Why not."""
    at_s: float
    """When, since the epoch."""


class Older(NamedTuple):
    """Decisions out of files, newest first."""

    rows: Sequence[Decision]
    notes: Sequence[str]
    """What was passed over, and what was not looked at."""


class Audited:
    """One place where there is something to look at. One event loop."""

    def __init__(
        self,
        store: RevisionStore | None,
        folder: Path | None = None,
        journal: Journal | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`store`: with a database, else None. `folder`: with decisions, `journal`: with changes."""
        self._store = store
        self._folder = folder
        self._journal = journal if store is None else None
        self._wall_clock = wall_clock
        self._clock = clock
        self._checking = asyncio.Lock()
        self._checked: Checked | None = None
        self._reading = asyncio.Lock()
        self.keeps_changes = store is not None or journal is not None
        self.keeps_decisions = folder is not None

    async def changes(
        self, wanted: ChangesWanted, before: int | None = None, limit: int = 50, seen: Seen | None = None
    ) -> Changes:
        """The newest of them, of endpoints that are `seen` (None: of any); `before`: from where a look before left off.

        Raises Unavailable.
        """
        found: list[ChangeRecord] = []
        looked = 0
        breath = Breath(LONGEST_S, self._clock)
        try:
            while looked < LOOKED_AT:
                page = await self._page(before, wanted.endpoint, breath)
                records = await asyncio.to_thread(_read, page, breath)
                asked = {record.endpoint for _, record in records if record is not None and wanted.has(record)}
                names = asked if seen is None or not asked else set(await seen(sorted(asked)))
                for place, record in records:
                    looked += 1
                    before = place
                    if record is not None and record.endpoint in names and wanted.has(record):
                        found.append(record)
                        if len(found) >= limit:
                            return Changes(found, before, looked)
                if len(page) < _PAGE or _is_before(records, wanted.since_ms):
                    return Changes(found, None, looked)
        except OutOfTime:
            pass
        return Changes(found, before, looked)

    async def each(self, wanted: ChangesWanted, seen: Seen | None = None) -> AsyncIterator[ChangeRecord]:
        """All of them, newest first, at most `EXPORTED`. Raises Unavailable."""
        before: int | None = None
        given = 0
        while given < EXPORTED:
            found = await self.changes(wanted, before, min(_PAGE, EXPORTED - given), seen)
            for record in found.records:
                yield record
            given += len(found.records)
            before = found.more
            if before is None:
                return

    async def check(self) -> Checked:
        """Whether the chain is whole: looked at again once the last look is old. One look at a time. Raises Unavailable."""
        async with self._checking:
            now_s = self._wall_clock()
            checked = self._checked
            if checked is None or not 0 <= now_s - checked.at_s < CHECK_S:
                checked = self._checked = await self._check(now_s)
            return checked

    async def decisions(self, wanted: Wanted, limit: int) -> Older:
        """The newest of them in the files, as far as there is time. Raises Unavailable."""
        folder = self._folder
        if folder is None:
            return Older((), ["no decisions are kept in files: --audit-dir is not given"])
        async with self._reading:
            try:
                return await asyncio.to_thread(_older, folder, wanted, limit, Breath(LONGEST_S, self._clock))
            except OSError as error:
                raise Unavailable(f"the folder of decisions can't be read: {error.strerror}") from None

    async def _page(self, before: int | None, endpoint: str, breath: Breath) -> list[tuple[int, Link]]:
        """With the place of each: in the file, or its number."""
        try:
            if self._store is not None:
                return [(each.number, each) for each in await self._store.latest_changes(before, endpoint, _PAGE)]
            journal = self._journal
            return [] if journal is None else await asyncio.to_thread(_some, journal.links_back(before), breath)
        except StoreError as error:
            raise Unavailable(str(error)) from None
        except OSError as error:
            raise Unavailable(f"the record of changes can't be read: {error.strerror}") from None

    async def _check(self, now_s: float) -> Checked:
        breath = Breath(CHECK_S, self._clock)
        try:
            if self._journal is not None:
                journal = self._journal
                return await asyncio.to_thread(_check_journal, journal, breath, now_s)
            store = self._store
            if store is None:
                return Checked(None, "no changes are recorded", now_s)
            state = (await store.load()).number
            looking = Looking(state=state)
            after, count = 0, 0
            while after < state and count < CHECKED:
                page = [link for link in await store.changes(after, "", _PAGE) if link.number <= state]
                if not page:
                    break
                await asyncio.to_thread(_look, looking, page, breath)
                after, count = page[-1].number, count + len(page)
            if count >= CHECKED:
                return Checked(None, _too_many(count), now_s)
            return Checked(looking.verdict(), "", now_s)
        except OutOfTime:
            return Checked(None, f"it takes longer than {CHECK_S:g} s; `extproc audit --verify` looks at all of it", now_s)
        except StoreError as error:
            raise Unavailable(str(error)) from None
        except OSError as error:
            raise Unavailable(f"the record of changes can't be read: {error.strerror}") from None


def _too_many(count: int) -> str:
    return f"it has more than {count:,} changes; `extproc audit --verify` looks at all of them"


def _some(links: Iterator[tuple[int, Link]], breath: Breath) -> list[tuple[int, Link]]:
    found = []
    for each in islice(links, _PAGE):
        found.append(each)
        breath()
    return found


def _read(links: Iterable[tuple[int, Link]], breath: Breath) -> list[tuple[int, ChangeRecord | None]]:
    records: list[tuple[int, ChangeRecord | None]] = []
    for count, (place, link) in enumerate(links):
        if not count % _STEPS:
            breath()
        try:
            records.append((place, read_change(link.body)))
        except UnreadableChange:
            records.append((place, None))
    return records


def _is_before(records: Sequence[tuple[int, ChangeRecord | None]], since_ms: int | None) -> bool:
    """Whether all that stand behind these are from before that time. Clocks of replicas may be a little apart."""
    if since_ms is None:
        return False
    times = [record.at_ms for _, record in records if record is not None]
    return bool(times) and max(times) < since_ms - _APART_MS


_APART_MS: Final = 60_000


def _look(looking: Looking, links: Iterable[Link], breath: Breath) -> None:
    for count, link in enumerate(links):
        if not count % _STEPS:
            breath()
        looking.at(link)


def _check_journal(journal: Journal, breath: Breath, now_s: float) -> Checked:
    looking = Looking()
    links = islice(journal.links(), CHECKED + 1)
    _look(looking, links, breath)
    verdict = looking.verdict()
    if verdict.records > CHECKED:
        return Checked(None, _too_many(CHECKED), now_s)
    return Checked(verdict, "", now_s)


def _older(folder: Path, wanted: Wanted, limit: int, breath: Breath) -> Older:
    """File by file, newest first, until there are enough."""
    reading = Reading(pause=breath)
    files = spanning(folder, wanted, reading)
    rows: list[Decision] = []
    notes: list[str] = []
    for at, file in enumerate(reversed(files)):
        if len(rows) >= limit:
            break  # what older files have is older, but for answers that took long
        try:
            for row in decisions_in(file, wanted, reading):
                rows.append(row)
                if len(rows) >= 2 * limit:
                    rows = nlargest(limit, rows, key=_at)
        except OutOfTime:
            notes.append(f"{len(files) - at} of {len(files)} files were not looked at to their end: name a time, or a request")
            break
    return Older(nlargest(limit, rows, key=_at), [*notes, *reading.notes()])


def _at(row: Decision) -> int:
    return int(row["at_ms"])
