"""What was before: an endpoint's revisions, read from the store and told as differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from extproc.control.differences import Difference, differences
from extproc.control.records import EndpointRecord, UnreadableRecord, of_document
from extproc.control.store import Revision, RevisionStore

MOST: Final = 200
"""Entries that are told at once."""
_PAGE: Final = 50


class Entry(NamedTuple):
    """One change of an endpoint."""

    revision: int
    """Of the whole state."""
    kind: str
    actor: str
    reason: str
    at_ms: int
    record: EndpointRecord | None
    """As it was after the change; None when it was deleted, and when this release can't read it."""
    changed: tuple[Difference, ...]
    """Against the revision before; against nothing for the oldest one that is kept."""

    @property
    def config_version(self) -> int | None:
        return None if self.record is None else self.record.config_version


async def entries(store: RevisionStore, endpoint: str, before: int | None = None, limit: int = _PAGE) -> tuple[Entry, ...]:
    """The last changes, newest first, of those numbered below `before`. Raises StoreUnavailable."""
    limit = max(1, min(limit, MOST))
    revisions = await store.history(endpoint, before, limit + 1)
    records = [_record(revision) for revision in revisions]
    older = [*records, None][1:]
    return tuple(
        [
            Entry(
                revision.number,
                revision.change.kind,
                revision.actor,
                revision.reason,
                revision.at_ms,
                record,
                differences(previous, record),
            )
            for revision, record, previous in zip(revisions, records, older, strict=True)
        ][:limit]
    )


async def version(store: RevisionStore, record: EndpointRecord, config_version: int) -> EndpointRecord | None:
    """The endpoint as it was when its config had that version last; None when that is not kept. Raises StoreUnavailable.

    An endpoint that was deleted and created anew counts from 1 again: only its present life is looked at.
    """
    before: int | None = None
    while revisions := await store.history(record.name, before, _PAGE):
        for revision in revisions:
            old = _record(revision)
            if revision.change.document is None or (old is not None and old.id != record.id):
                return None
            if old is not None and old.config_version == config_version:
                return old
        before = _oldest(revisions)
    return None


def _oldest(revisions: Sequence[Revision]) -> int:
    return min(revision.number for revision in revisions)


def _record(revision: Revision) -> EndpointRecord | None:
    if revision.change.document is None:
        return None
    try:
        return of_document(revision.change.document)
    except UnreadableRecord:
        return None
