"""What the desk writes down of each change."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from extproc.audit.changes import ChangeRecord, read_change, verified
from extproc.audit.journal import Journal
from extproc.control.changes import Create, Delete, Origin, PatchTags, Revert, UpdateConfig
from extproc.control.errors import Unavailable
from extproc.storage.memory import MemoryStore
from extproc.traffic import BUCKETS, moved, moves
from tests.control.desks import START_MS, Bench, document, split


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "changes.v1.jsonl")


@pytest.fixture
async def bench(journal: Journal) -> Bench:
    made = Bench(MemoryStore(journal=journal))
    await made.desk.open()
    return made


def records(journal: Journal) -> list[ChangeRecord]:
    links = list(journal.links())
    assert verified(links).faults == ()
    return [read_change(link.body) for link in links]


async def test_a_change_is_written_down_with_who_where_when_why_and_what(bench: Bench, journal: Journal) -> None:
    await bench.desk.apply(Create(document()), "ada", origin=Origin("10.0.0.7", "bob"))
    applied = await bench.desk.apply(UpdateConfig("chat", split(a=80, b=20)), "eve", reason="b is good")

    first, second = records(journal)
    assert (first.number, first.kind, first.actor, first.origin, first.approved_by) == (1, "create", "ada", "10.0.0.7", "bob")
    assert first.moved == ()
    assert second.at_ms >= START_MS
    assert (second.number, second.config_version, second.reason, second.approved_by) == (2, 2, "b is good", "")
    assert ("config.traffic.a", 90, 80) in second.diff
    assert second.moved == ((8000, 8999, "a", "b"),)
    assert applied.record is not None
    assert second.document == sha256(applied.record.to_document()).hexdigest()


async def test_every_kind_of_change_is(bench: Bench, journal: Journal) -> None:
    await bench.desk.apply(Create(document()), "ada")
    await bench.desk.apply(PatchTags("chat", {"add_tags": [{"key": "team", "value": "x"}]}), "ada")
    await bench.desk.apply(UpdateConfig("chat", split(a=10, b=90)), "ada")
    await bench.desk.apply(Revert("chat", 1), "ada")
    await bench.desk.apply(Delete("chat"), "ada")

    made = records(journal)
    assert [each.kind for each in made] == ["create", "tags", "update", "revert", "delete"]
    assert [each.config_version for each in made] == [1, 1, 2, 3, None]
    assert [(first, last) for first, last, _, _ in made[3].moved] == [(1000, 8999)]
    assert made[4].document == ""


async def test_a_dry_run_is_not(bench: Bench, journal: Journal) -> None:
    await bench.desk.apply(Create(document()), "ada")
    await bench.desk.apply(UpdateConfig("chat", split(a=80, b=20)), "ada", dry_run=True)

    assert [each.kind for each in records(journal)] == ["create"]


async def test_a_change_that_can_not_be_recorded_is_refused_and_requests_go_on(bench: Bench, journal: Journal) -> None:
    await bench.desk.apply(Create(document()), "ada")
    journal.path.unlink()
    journal.path.mkdir()  # as good as a full disk

    with pytest.raises(Unavailable, match=r"the change can't be recorded in .*: Is a directory"):
        await bench.desk.apply(UpdateConfig("chat", split(a=80, b=20)), "ada")
    assert bench.shares("chat") == {"a": 90, "b": 10}

    journal.path.rmdir()
    await bench.desk.apply(UpdateConfig("chat", split(a=80, b=20)), "ada")
    assert bench.shares("chat") == {"a": 80, "b": 20}
    assert bench.desk.lost == ""


async def test_who_is_no_text_of_a_database_is_made_one(bench: Bench, journal: Journal) -> None:
    await bench.desk.apply(Create(document()), "a\0da\ud800" + "x" * 300, origin=Origin("y" * 300))

    (record,) = records(journal)
    assert record.actor.startswith("ada\\ud800x")
    assert len(record.origin) == 256


def test_runs_of_buckets_that_moved_add_up() -> None:
    before, after = (("a", 5000), ("b", 3000), ("a", 2000)), (("a", 4000), ("b", 4500), ("c", 1500))

    assert moves(before, after) == ((4000, 4999, "a", "b"), (8000, 8499, "a", "b"), (8500, 9999, "a", "c"))
    assert moved(before, after) == 3000
    assert moves(before, before) == ()
    assert (moves((), after), moved((), after)) == ((), BUCKETS)
