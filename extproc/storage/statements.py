"""What a transaction says to either database. Nothing here begins or ends one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from extproc.audit.changes import FIRST, Link, chained
from extproc.control.store import Change, Forgotten, Kept, Revision, State, Superseded
from extproc.storage.keep import Keep
from extproc.storage.tables import CHANGES, ENDPOINTS, KEPT, REVISIONS, STATE

NAMES_AT_ONCE: Final = 1_000
"""In one statement: SQLite takes 32,766 values, PostgreSQL 65,535."""


def load(connection: Connection) -> State:
    """All that is in force. The transaction must see one moment."""
    number = connection.execute(select(STATE.c.number)).scalar_one()
    documents = connection.execute(select(ENDPOINTS.c.name, ENDPOINTS.c.document).order_by(ENDPOINTS.c.name))
    return State(number, {row.name: row.document for row in documents})


def since(connection: Connection, number: int) -> list[Revision]:
    """As RevisionStore.since. The transaction must see one moment."""
    if number < connection.execute(select(STATE.c.forgotten)).scalar_one():
        raise Forgotten(number)
    found = connection.execute(select(REVISIONS).where(REVISIONS.c.number > number).order_by(REVISIONS.c.number))
    return [_revision(row) for row in found]


def history(connection: Connection, endpoint: str, before: int | None, limit: int) -> list[Revision]:
    """As RevisionStore.history."""
    wanted = select(REVISIONS).where(REVISIONS.c.endpoint == endpoint).order_by(REVISIONS.c.number.desc()).limit(max(0, limit))
    if before is not None:
        wanted = wanted.where(REVISIONS.c.number < before)
    return [_revision(row) for row in connection.execute(wanted)]


def _revision(row: Row[Any]) -> Revision:
    return Revision(row.number, Change(row.endpoint, row.document, row.kind), row.actor, row.reason, row.at_ms)


def commit(connection: Connection, keep: Keep, expected: int, changes: Sequence[Change], said: tuple[str, str, int]) -> int:
    """The new number. `said` is actor, reason and time. Raises Superseded; the transaction has to be rolled back then."""
    number = expected + len(changes)
    moved = connection.execute(update(STATE).where(STATE.c.number == expected).values(number=number))
    if moved.rowcount != 1:
        raise Superseded(connection.execute(select(STATE.c.number)).scalar_one())
    if not changes:
        return number
    actor, reason, at_ms = said
    rows = [
        {
            "number": n,
            "endpoint": change.endpoint,
            "document": change.document,
            "kind": change.kind,
            "actor": actor,
            "reason": reason,
            "at_ms": at_ms,
        }
        for n, change in enumerate(changes, expected + 1)
    ]
    connection.execute(insert(REVISIONS), rows)
    _record(connection, expected, changes)
    last = {change.endpoint: row for change, row in zip(changes, rows, strict=True)}
    connection.execute(delete(ENDPOINTS).where(ENDPOINTS.c.name == bindparam("gone")), [{"gone": name} for name in last])
    kept = [
        {"name": name, "document": row["document"], "number": row["number"]}
        for name, row in last.items()
        if row["document"] is not None
    ]
    if kept:
        connection.execute(insert(ENDPOINTS), kept)
    ends = [*_too_old(connection, keep.revisions, last)]
    if len(kept) < len(last):
        ends += _deleted_too_long_ago(connection, keep.deleted)
    _forget(connection, ends)
    return number


def _record(connection: Connection, expected: int, changes: Sequence[Change]) -> None:
    """Chain the records. The state's row is locked, so nobody else's come in between."""
    last = connection.execute(select(CHANGES.c.hash).order_by(CHANGES.c.number.desc()).limit(1)).scalar_one_or_none()
    previous = FIRST if last is None else last
    links = []
    for number, change in enumerate(changes, expected + 1):
        if change.record:
            previous = chained(previous, change.record)
            links.append({"number": number, "endpoint": change.endpoint, "body": change.record, "hash": previous})
    if links:
        connection.execute(insert(CHANGES), links)


def recorded(connection: Connection, after: int, endpoint: str, limit: int) -> list[Link]:
    """As RevisionStore.changes."""
    wanted = select(CHANGES).where(CHANGES.c.number > after).order_by(CHANGES.c.number).limit(max(0, limit))
    if endpoint:
        wanted = wanted.where(CHANGES.c.endpoint == endpoint)
    return [Link(row.number, _bytes(row.body), _bytes(row.hash)) for row in connection.execute(wanted)]


def recorded_last(connection: Connection, before: int | None, endpoint: str, limit: int) -> list[Link]:
    """As RevisionStore.latest_changes."""
    wanted = select(CHANGES).order_by(CHANGES.c.number.desc()).limit(max(0, limit))
    if before is not None:
        wanted = wanted.where(CHANGES.c.number < before)
    if endpoint:
        wanted = wanted.where(CHANGES.c.endpoint == endpoint)
    return [Link(row.number, _bytes(row.body), _bytes(row.hash)) for row in connection.execute(wanted)]


def _bytes(value: object) -> bytes:
    """SQLite keeps what somebody has put there by hand, whatever the column says."""
    return value if isinstance(value, bytes) else str(value).encode()


def kept(connection: Connection) -> dict[str, Kept]:
    """As KeepingStore.kept."""
    return {row.name: Kept(row.version, row.document) for row in connection.execute(select(KEPT))}


def keep(connection: Connection, name: str, expected: int, document: bytes | None) -> int:
    """As KeepingStore.keep. Raises Superseded; the transaction has to be rolled back then."""
    mine = (KEPT.c.name == name) & (KEPT.c.version == expected)
    if not expected:
        there = connection.execute(select(KEPT.c.version).where(KEPT.c.name == name)).scalar_one_or_none()
        if there is not None:
            raise Superseded(there)
        if document is None:
            return 0
        try:
            with connection.begin_nested():
                connection.execute(insert(KEPT).values(name=name, version=1, document=document))
        except IntegrityError:  # another transaction was first, and is seen only now
            raise Superseded(1) from None
        return 1
    writing = update(KEPT).where(mine).values(version=expected + 1, document=document)
    if connection.execute(delete(KEPT).where(mine) if document is None else writing).rowcount != 1:
        raise Superseded(connection.execute(select(KEPT.c.version).where(KEPT.c.name == name)).scalar_one_or_none() or 0)
    return 0 if document is None else expected + 1


def _too_old(connection: Connection, keep: int, names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each of those endpoints that has more revisions than are kept, with the newest that is not."""
    waiting = iter(names)
    while batch := list(islice(waiting, NAMES_AT_ONCE)):
        age = func.row_number().over(partition_by=REVISIONS.c.endpoint, order_by=REVISIONS.c.number.desc()).label("age")
        by_age = select(REVISIONS.c.endpoint, REVISIONS.c.number, age).where(REVISIONS.c.endpoint.in_(batch)).subquery()
        for row in connection.execute(select(by_age.c.endpoint, by_age.c.number).where(by_age.c.age == keep + 1)):
            yield row.endpoint, row.number


def _deleted_too_long_ago(connection: Connection, keep: int) -> list[tuple[str, int]]:
    """Each endpoint that keeps a history although it was deleted before too many others, with its last revision."""
    last = func.max(REVISIONS.c.number)
    deleted = (
        select(REVISIONS.c.endpoint, last)
        .where(REVISIONS.c.document.is_(None))
        .where(REVISIONS.c.endpoint.not_in(select(ENDPOINTS.c.name)))
        .group_by(REVISIONS.c.endpoint)
        .order_by(last.desc())
    )
    return [(endpoint, number) for endpoint, number in connection.execute(deleted)][keep:]


def _forget(connection: Connection, ends: Sequence[tuple[str, int]]) -> None:
    """Drop the revisions of each of these endpoints up to that number."""
    if not ends:
        return
    old = delete(REVISIONS).where(REVISIONS.c.endpoint == bindparam("of"), REVISIONS.c.number <= bindparam("until"))
    connection.execute(old, [{"of": endpoint, "until": number} for endpoint, number in ends])
    newest = max(number for _, number in ends)
    connection.execute(update(STATE).where(STATE.c.forgotten < newest).values(forgotten=newest))
