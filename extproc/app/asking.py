"""`extproc audit`: questions become decisions out of files, changes out of the chain, and which change stands behind which."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from extproc.audit.changes import ChangeRecord, Link, UnreadableChange, Verdict, read_change, verified
from extproc.audit.files import CHANGES, decision_files
from extproc.audit.journal import Journal
from extproc.audit.reader import Decision, Reading, Wanted, decisions, filtered
from extproc.control.store import RevisionStore, StoreError
from extproc.settings.audit import AuditQuery
from extproc.settings.base import SettingsError
from extproc.settings.moments import moment_ms
from extproc.storage.open import open_store
from extproc.traffic import Catalog, EndpointSpec, EntitySpec, ServingEndpoint

_PAGE: Final = 1000
_MEMORY: Final = "memory:"
_SQLITE: Final = re.compile(r"sqlite:///(?P<path>[^?]+)", re.IGNORECASE)
_LONGEST_KEY: Final = 4096
_APART_MS: Final = 5_000
"""Clocks of replicas that may be so far apart: who decided, and who had made the config."""


class Told(NamedTuple):
    """A decision, and the change that made the config it was decided by; None when that is not known."""

    row: Decision
    made_by: ChangeRecord | None


@dataclass
class Answer:
    """What there is."""

    decisions: list[Told] = field(default_factory=list)
    changes: list[ChangeRecord] = field(default_factory=list)
    bucket: int | None = None
    """Of the user that is asked about; then `changes` are those that moved it."""
    notes: list[str] = field(default_factory=list)
    """What was passed over."""


class Where(NamedTuple):
    """Where there is something to look at."""

    folder: Path | None
    store: RevisionStore | None
    """None: changes are in the folder."""


def where(query: AuditQuery) -> Where:
    """Raises SettingsError when there is nothing to look at."""
    folder = None if query.audit_dir is None else Path(query.audit_dir)
    if folder is not None and not folder.is_dir():
        raise SettingsError([f"--audit-dir: {folder} is no folder"])
    if query.database_url == _MEMORY:
        if folder is None:
            raise SettingsError(["--audit-dir or --database-url is needed: where to look"])
        return Where(folder, None)
    file = _SQLITE.fullmatch(query.database_url)
    if file is not None and not Path(file["path"]).exists():
        raise SettingsError([f"--database-url: there is no {file['path']}"])
    return Where(folder, open_store(query.database_url))


def bucket_of(endpoint: str, key: str) -> int:
    """The bucket of a key at this endpoint, as the gateway finds it."""
    alone = ServingEndpoint(EndpointSpec(endpoint, (EntitySpec("alone"),), (100,)), Catalog())
    return alone.bucket_of(key.encode("utf-8", "surrogateescape")[:_LONGEST_KEY])


class Audit:
    """Questions to one place. Raises SettingsError where that can't be read."""

    def __init__(self, place: Where, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._place = place
        self._wall_clock = wall_clock

    async def answer(self, query: AuditQuery) -> Answer:
        """All that is asked for, newest first."""
        now_s = self._wall_clock()
        endpoint, _, entity = query.entity.rpartition("/")
        bucket = query.bucket if query.user_key is None else bucket_of(query.endpoint, query.user_key)
        wanted = Wanted(
            query.request_id,
            query.endpoint or endpoint,
            entity,
            bucket,
            moment_ms("--since", query.since, now_s),
            moment_ms("--until", query.until, now_s),
        )
        answer = Answer(bucket=bucket)
        rows = [] if query.changes else self._decisions(wanted, query.limit, answer)
        of_requests = query.decisions or (bool(query.request_id or query.entity) and not query.changes)
        records: list[ChangeRecord] = []
        if not of_requests or any(row.get("version") for row in rows):
            records = await self._records(wanted.endpoint, answer)
        makers = _makers(records)
        answer.decisions = [Told(row, _maker(row, makers)) for row in rows]
        if not of_requests:
            answer.changes = [each for each in reversed(records) if _asked_for(each, wanted)][: query.limit]
        return answer

    async def verify(self, known: str | None) -> Verdict:
        """Look at the whole chain."""
        links = [link async for link in self._links("")]
        noted = None if known is None else bytes.fromhex(known)
        store, folder = self._place.store, self._place.folder
        if store is not None:
            try:
                state = (await store.load()).number
            except StoreError as error:
                raise SettingsError([f"--database-url: {error}"]) from None
            return verified(links, state=state, known=noted)
        assert folder is not None
        verdict = verified(links, known=noted)
        if Journal(folder / CHANGES).torn():
            words = f"{CHANGES}: its last line has no end: a crash came before its change was made"
            verdict = verdict._replace(notes=(*verdict.notes, words))
        return verdict

    async def close(self) -> None:
        """Let go of the database."""
        if self._place.store is not None:
            await self._place.store.close()

    def _decisions(self, wanted: Wanted, limit: int, answer: Answer) -> list[Decision]:
        folder = self._place.folder
        if folder is None:
            answer.notes.append("no decisions: --audit-dir is not given")
            return []
        reading = Reading()
        try:
            rows = filtered(decisions(folder, wanted, reading), limit)
        except OSError as error:
            raise SettingsError([f"--audit-dir: {folder} can't be read: {error.strerror}"]) from None
        answer.notes += reading.notes()
        if not rows and not (folder / CHANGES).exists() and not decision_files(folder):
            answer.notes.append(f"--audit-dir: {folder} has nothing that a gateway wrote; expected its --audit-dir")
        return rows

    async def _records(self, endpoint: str, answer: Answer) -> list[ChangeRecord]:
        records = []
        unreadable = 0
        async for link in self._links(endpoint):
            try:
                record = read_change(link.body)
            except UnreadableChange:
                unreadable += 1
                continue
            if not endpoint or record.endpoint == endpoint:
                records.append(record)
        if unreadable:
            answer.notes.append(f"{unreadable} changes can't be read: --verify says which")
        return records

    async def _links(self, endpoint: str) -> AsyncIterator[Link]:
        store, folder = self._place.store, self._place.folder
        try:
            if store is None:
                assert folder is not None
                for link in Journal(folder / CHANGES).links():
                    yield link
                return
            await store.open()
            after = 0
            while page := await store.changes(after, endpoint, _PAGE):
                for link in page:
                    yield link
                after = page[-1].number
        except StoreError as error:
            raise SettingsError([f"--database-url: {error}"]) from None
        except OSError as error:
            raise SettingsError([f"--audit-dir: {CHANGES} can't be read: {error.strerror}"]) from None


def _asked_for(record: ChangeRecord, wanted: Wanted) -> bool:
    return (
        (not wanted.endpoint or record.endpoint == wanted.endpoint)
        and (wanted.bucket is None or record.owner_moved(wanted.bucket) is not None)
        and (wanted.since_ms is None or record.at_ms >= wanted.since_ms)
        and (wanted.until_ms is None or record.at_ms < wanted.until_ms)
    )


Makers = dict[tuple[str, int], list[ChangeRecord]]


def _makers(records: Sequence[ChangeRecord]) -> Makers:
    """By endpoint and config version, the changes that made it: several, where a name was used again. Tags make no version."""
    found: Makers = {}
    last: dict[str, Any] = {}
    for record in records:
        version = record.config_version
        if version is not None and version != last.get(record.endpoint):
            found.setdefault((record.endpoint, version), []).append(record)
        last[record.endpoint] = version
    return found


def _maker(row: Decision, makers: Makers) -> ChangeRecord | None:
    """The last before the decision."""
    made = makers.get((row.get("endpoint", ""), row.get("version", 0)), [])
    before = [each for each in made if each.at_ms <= row["at_ms"] + _APART_MS]
    return before[-1] if before else None
