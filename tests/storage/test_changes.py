"""Records of changes: chained in the commit of their change, over all replicas, and never forgotten."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from extproc.audit.changes import verified
from extproc.audit.journal import Journal
from extproc.control.store import Change, RevisionStore, State, StoreUnavailable, Superseded
from extproc.storage.keep import Keep
from extproc.storage.memory import MemoryStore
from extproc.storage.open import open_store
from tests.audit.records import change, links
from tests.storage.replicas import AT_MS


def recorded(number: int, endpoint: str = "chat", document: bytes | None = b"{}") -> Change:
    return Change(endpoint, document, "update", change(number, endpoint=endpoint).to_bytes())


async def commit(store: RevisionStore, expected: int, *changes: Change) -> int:
    return await store.commit(expected, changes, "ada", "", AT_MS)


async def test_records_are_chained_over_commits_and_replicas(url: str) -> None:
    first, second = open_store(url), open_store(url)
    await first.open()
    await second.open()
    try:
        await commit(first, 0, recorded(1), recorded(2, "other"))
        await commit(second, 2, recorded(3))

        made = await first.changes()
        assert made == links([change(1), change(2, endpoint="other"), change(3)])
        assert verified(made, state=3).faults == ()
        assert [each.number for each in await second.changes(endpoint="chat")] == [1, 3]
        assert [each.number for each in await second.changes(1, limit=1)] == [2]
        assert await second.latest_changes() == made[::-1]
        assert [each.number for each in await second.latest_changes(3, limit=1)] == [2]
        assert [each.number for each in await second.latest_changes(3, "chat")] == [1]
    finally:
        await first.close()
        await second.close()


async def test_what_comes_second_leaves_no_record(url: str) -> None:
    store = open_store(url)
    await store.open()
    try:
        await commit(store, 0, recorded(1))
        with pytest.raises(Superseded):
            await commit(store, 0, recorded(1, "late"))

        assert await store.changes() == links([change(1)])
    finally:
        await store.close()


async def test_records_stay_when_history_is_forgotten(url: str) -> None:
    store = open_store(url, Keep(revisions=1))
    await store.open()
    try:
        for number in range(1, 5):
            await commit(store, number - 1, recorded(number))

        assert len(await store.history("chat")) == 1
        assert [each.number for each in await store.changes()] == [1, 2, 3, 4]
    finally:
        await store.close()


async def test_commits_of_an_older_release_leave_a_gap_that_is_noted(url: str) -> None:
    store = open_store(url)
    await store.open()
    try:
        await commit(store, 0, recorded(1))
        await commit(store, 1, Change("chat", b"{}", "update"))
        await commit(store, 2, recorded(3))

        verdict = verified(await store.changes(), state=3)
        assert verdict.faults == ()
        assert len(verdict.notes) == 1
    finally:
        await store.close()


async def test_without_a_database_they_go_into_the_journal_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "changes.v1.jsonl")
    store = MemoryStore(journal=journal)

    results = await asyncio.gather(*(commit(store, 0, recorded(1)) for _ in range(5)), return_exceptions=True)

    assert sorted(str(type(each).__name__) for each in results) == ["Superseded"] * 4 + ["int"]
    assert list(journal.links()) == links([change(1)])
    assert (await store.history("chat"))[0].change == Change("chat", b"{}", "update")
    assert await store.changes() == []


async def test_what_can_not_be_recorded_is_refused_with_a_reason_and_not_made(tmp_path: Path) -> None:
    store = MemoryStore(journal=Journal(tmp_path / "no folder" / "changes.v1.jsonl"))

    with pytest.raises(StoreUnavailable, match=r"can't be recorded in .*changes.v1.jsonl: No such file or directory"):
        await commit(store, 0, recorded(1))

    assert await store.load() == State(0, {})


async def test_a_disk_that_is_full_refuses_changes_until_it_is_not(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "changes.v1.jsonl")
    store = MemoryStore(journal=journal)
    await commit(store, 0, recorded(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 100, hard))
    try:
        with pytest.raises(StoreUnavailable, match=r"can't be recorded in .*: File too large"):
            await commit(store, 1, recorded(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (await store.load()).number == 1
    assert list(journal.links()) == links([change(1)])

    assert await commit(store, 1, recorded(2)) == 2
    assert verified(journal.links()).faults == ()
