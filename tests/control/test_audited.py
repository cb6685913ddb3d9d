"""Changes and decisions, looked up: in pages, within bounds, of what may be seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from extproc.audit.files import file_name
from extproc.audit.journal import Journal
from extproc.audit.reader import Wanted
from extproc.control import audited as module
from extproc.control.audited import Audited, ChangesWanted
from extproc.control.errors import Unavailable
from extproc.control.store import Change, StoreUnavailable
from extproc.storage.open import open_store
from tests.audit.records import AT_MS, change
from tests.fakes.clock import FakeClock


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "changes.v1.jsonl")
    for number in range(1, 8):
        endpoint, actor = ("chat", "Ada") if number % 2 else ("other", "bob")
        made.append([change(number, endpoint=endpoint, actor=actor).to_bytes()])
    return made


async def test_pages_newest_first(journal: Journal) -> None:
    place = Audited(None, None, journal)
    first = await place.changes(ChangesWanted(), limit=3)
    assert [each.number for each in first.records] == [7, 6, 5]
    assert first.more is not None
    second = await place.changes(ChangesWanted(), first.more, 3)
    third = await place.changes(ChangesWanted(), second.more, 3)
    assert [each.number for each in (*second.records, *third.records)] == [4, 3, 2, 1]
    assert third.more is None


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (ChangesWanted(endpoint="other"), [6, 4, 2]),
        (ChangesWanted(actor="ADA"), [7, 5, 3, 1]),
        (ChangesWanted(since_ms=AT_MS + 6), [7, 6]),
        (ChangesWanted(until_ms=AT_MS + 3), [2, 1]),
        (ChangesWanted("other", "ada"), []),
    ],
)
async def test_what_is_asked_for(journal: Journal, wanted: ChangesWanted, numbers: list[int]) -> None:
    found = await Audited(None, None, journal).changes(wanted)
    assert ([each.number for each in found.records], found.more) == (numbers, None)


async def test_only_what_may_be_seen(journal: Journal) -> None:
    asked: list[Sequence[str]] = []

    async def seen(names: Sequence[str]) -> Sequence[str]:
        asked.append(names)
        return [name for name in names if name == "chat"]

    place = Audited(None, None, journal)
    assert [each.number for each in (await place.changes(ChangesWanted(), seen=seen)).records] == [7, 5, 3, 1]
    assert [each.number async for each in place.each(ChangesWanted(), seen)] == [7, 5, 3, 1]
    assert asked == [["chat", "other"]] * 2


async def test_a_look_has_an_end_and_can_be_gone_on_with(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKED_AT", 2)
    monkeypatch.setattr(module, "_PAGE", 2)
    place = Audited(None, None, journal)
    found = await place.changes(ChangesWanted(until_ms=AT_MS + 2))
    assert (found.records, found.looked_at) == ([], 2)
    assert [each.number async for each in place.each(ChangesWanted(until_ms=AT_MS + 2))] == [1]
    monkeypatch.setattr(module, "EXPORTED", 3)
    assert [each.number async for each in place.each(ChangesWanted())] == [7, 6, 5]


async def test_a_chain_is_looked_at_once_in_a_while(journal: Journal) -> None:
    clock = FakeClock()
    place = Audited(None, None, journal, wall_clock=clock)
    checked = await place.check()
    assert checked.verdict is not None
    assert (checked.verdict.records, checked.verdict.faults) == (7, ())
    journal.path.write_bytes(journal.path.read_bytes().replace(b"bob", b"eve", 1))
    assert await place.check() is checked
    clock.advance(61)
    verdict = (await place.check()).verdict
    assert verdict is not None
    assert "its hash is not that of its content" in verdict.faults[0]


async def test_one_that_is_too_long_is_said(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECKED", 6)
    checked = await Audited(None, None, journal).check()
    assert checked.verdict is None
    assert "more than 6 changes" in checked.why


async def test_a_database_is_asked_in_its_own_words(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/state.db")
    await store.open()
    try:
        for number in range(1, 4):
            await store.commit(number - 1, [Change("chat", b"{}", "update", change(number).to_bytes())], "ada", "", AT_MS)
        place = Audited(store)
        assert place.keeps_changes
        first = await place.changes(ChangesWanted(), limit=2)
        assert ([each.number for each in first.records], first.more) == ([3, 2], 2)
        assert [each.number for each in (await place.changes(ChangesWanted(), first.more)).records] == [1]
        verdict = (await place.check()).verdict
        assert verdict is not None
        assert (verdict.records, verdict.faults) == (3, ())
    finally:
        await store.close()


async def test_who_can_not_be_asked_is_unavailable(tmp_path: Path, journal: Journal) -> None:
    class Away:
        async def latest_changes(self, *_: object) -> None:
            raise StoreUnavailable("the database is away")

    with pytest.raises(Unavailable, match="the database is away"):
        await Audited(Away()).changes(ChangesWanted())  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="No such file"):
        await Audited(None, tmp_path / "gone").decisions(Wanted(), 10)
    assert not Audited(None).keeps_changes
    assert "not given" in (await Audited(None).decisions(Wanted(), 10)).notes[0]


def write(folder: Path, begun_s: float, writer: str, *rows: dict[str, object]) -> None:
    (folder / file_name(begun_s, writer)).write_bytes(b"".join([orjson.dumps(row) + b"\n" for row in rows]))


async def test_decisions_out_of_files_newest_first(tmp_path: Path) -> None:
    at = 1_790_000_000
    write(tmp_path, at, "a-1", *[{"at_ms": at * 1000 + n, "id": f"r{n}", "endpoint": "chat", "status": 200} for n in range(5)])
    write(tmp_path, at + 60, "a-1", {"at_ms": at * 1000 + 60_000, "id": "new", "endpoint": "chat", "model": "m", "status": 503})
    place = Audited(None, tmp_path)
    assert [row["id"] for row in (await place.decisions(Wanted(), 3)).rows] == ["new", "r4", "r3"]
    assert [row["id"] for row in (await place.decisions(Wanted(request_id="r2"), 3)).rows] == ["r2"]
    assert [row["id"] for row in (await place.decisions(Wanted(status=503), 3)).rows] == ["new"]
    assert [row["id"] for row in (await place.decisions(Wanted(model="m"), 3)).rows] == ["new"]
    assert [row["id"] for row in (await place.decisions(Wanted(model="chat", status=200), 1)).rows] == ["r4"]


async def test_a_look_into_files_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_S", 0.0)
    at = 1_790_000_000
    for file in range(2):
        rows = [{"at_ms": at * 1000 + n, "id": f"r{n}"} for n in range(5000)]
        write(tmp_path, at + file, "a-1", *rows)
    found = await Audited(None, tmp_path).decisions(Wanted(request_id="none"), 3)
    assert found.rows == []
    assert "2 of 2 files were not looked at to their end" in found.notes[0]
