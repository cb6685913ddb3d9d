from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from extproc.control.changes import Create, Declare, Delete, UpdateConfig
from extproc.control.errors import Conflict, Unavailable
from extproc.control.store import Change
from extproc.observability.control import ControlMetrics
from extproc.observability.instruments import Instruments
from extproc.storage.keep import Keep
from extproc.storage.memory import MemoryStore
from tests.control.desks import Bench, document, split
from tests.control.stores import Shaky


async def nothing(_: float) -> None:
    await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until it is so; pytest's timeout ends what never is."""
    while not holds():  # noqa: ASYNC110 -- what is waited for has no event
        await asyncio.sleep(0)


@asynccontextmanager
async def following(*benches: Bench) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(bench.desk.follow()) for bench in benches]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def two(store: MemoryStore) -> tuple[Bench, Bench]:
    benches = Bench(store, sleep=nothing), Bench(store, sleep=nothing)
    for bench in benches:
        await bench.desk.open()
    return benches


async def test_what_one_replica_changes_the_other_serves() -> None:
    one, other = await two(Shaky())
    async with following(one, other):
        await one.desk.apply(Create(document()), "ann")
        await until(lambda: other.table.get("chat") is not None)
        assert other.shares("chat") == {"a": 90, "b": 10}
        await other.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "bob")
        await until(lambda: one.shares("chat") == {"a": 50, "b": 50})
        assert one.desk.get("chat") == other.desk.get("chat")
        await one.desk.apply(Delete("chat"), "ann")
        await until(lambda: other.table.get("chat") is None)


@pytest.mark.parametrize("follows", [True, False])
async def test_two_replicas_race_and_nothing_acknowledged_is_lost(follows: bool) -> None:
    store = Shaky()
    benches = await two(store)
    await benches[0].desk.apply(Create(document(a=100, b=0)), "start")

    async def update(bench: Bench, number: int) -> tuple[int, str]:
        reason = f"{benches.index(bench)}/{number}"
        applied = await bench.desk.apply(UpdateConfig("chat", split(a=number, b=100 - number)), "racer", reason=reason)
        assert applied.record is not None
        return applied.record.config_version, reason

    async with following(*benches if follows else ()):
        acknowledged = await asyncio.gather(*[update(bench, i) for i in range(1, 51) for bench in benches])
        await until(lambda: not follows or benches[0].desk.number == benches[1].desk.number)
    history = await benches[0].desk.history("chat", limit=200)
    assert len({reason for _, reason in acknowledged}) == 100
    assert sorted((each.config_version, each.reason) for each in history[:-1]) == sorted(acknowledged)
    assert [each.config_version for each in history] == list(range(101, 0, -1))
    assert [each.revision for each in history] == list(range(101, 0, -1))


async def test_of_two_who_have_seen_the_same_one_is_told() -> None:
    one, other = await two(Shaky())
    await one.desk.apply(Create(document()), "ann")
    await other.desk.apply(UpdateConfig("chat", split(a=80, b=20)), "bob", expected=1)
    with pytest.raises(Conflict, match="got 1; expected 2"):
        await one.desk.apply(UpdateConfig("chat", split(a=70, b=30)), "ann", expected=1)
    assert one.shares("chat") == {"a": 80, "b": 20}


async def test_a_name_that_another_replica_took_meanwhile_is_taken() -> None:
    one, other = await two(Shaky())
    await one.desk.apply(Create(document()), "ann")
    with pytest.raises(Conflict, match="is declared by file:x and belongs to api"):
        await other.desk.apply(Declare("file:x", [document()]), "file:x")


async def test_while_the_store_is_away_what_is_known_is_served_and_nothing_changes() -> None:
    store = Shaky()
    metrics = ControlMetrics(Instruments())
    bench = Bench(store, sleep=nothing, metrics=metrics)
    await bench.desk.open()
    await bench.desk.apply(Create(document()), "ann")
    assert metrics.store_up.value == 1
    before = bench.table
    async with following(bench):
        store.go()
        await until(lambda: bench.desk.lost != "")
        assert metrics.store_up.value == 0
        with pytest.raises(Unavailable) as raised:
            await bench.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "ann")
        assert (raised.value.status, raised.value.code) == (503, "TEMPORARILY_UNAVAILABLE")
        with pytest.raises(Unavailable):
            await bench.desk.history("chat")
        assert bench.table is before
        assert bench.desk.get("chat").config_version == 1
        store.back()
        await until(lambda: bench.desk.lost == "")
        assert metrics.store_up.value == 1
        await bench.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "ann")
    assert metrics.changes.child("UpdateConfig", "TEMPORARILY_UNAVAILABLE").value == 1
    assert metrics.changes.child("UpdateConfig", "made").value == 1


async def test_what_was_committed_while_it_was_out_of_sight_is_served_afterwards() -> None:
    store = Shaky()
    one, other = await two(store)
    async with following(other):
        store.go()
        await until(lambda: other.desk.lost != "")
        store.back()
        await one.desk.apply(Create(document()), "ann")
        await until(lambda: other.table.get("chat") is not None)


async def test_a_commit_whose_answer_was_lost_is_seen_when_the_store_says_so() -> None:
    store = Shaky()
    (bench, _) = await two(store)
    store.cut_after_commit = True
    with pytest.raises(Unavailable):
        await bench.desk.apply(Create(document()), "ann")
    assert bench.table.get("chat") is None
    async with following(bench):
        await until(lambda: bench.table.get("chat") is not None)
    assert bench.desk.get("chat").config_version == 1


async def test_a_commit_whose_answer_was_lost_is_seen_by_the_next_change_too() -> None:
    store = Shaky()
    (bench, _) = await two(store)
    store.cut_after_commit = True
    with pytest.raises(Unavailable):
        await bench.desk.apply(Create(document()), "ann")
    await bench.desk.apply(Create(document("other")), "ann")
    assert bench.shares("chat") == bench.shares("other") == {"a": 90, "b": 10}


async def test_a_store_that_is_away_at_the_start_is_opened_when_it_is_there() -> None:
    store = Shaky()
    bench = Bench(store, sleep=nothing)
    store.go()
    with pytest.raises(Unavailable):
        await bench.desk.open()
    async with following(bench):
        with pytest.raises(Unavailable):
            await bench.desk.apply(Create(document()), "ann")
        store.back()
        await until(lambda: bench.desk.lost == "")
        await bench.desk.apply(Create(document()), "ann")


async def test_who_missed_more_than_the_store_remembers_loads_it_whole() -> None:
    store = MemoryStore(Keep(revisions=1))
    one, other = await two(store)
    for share in (10, 20, 30):
        if share == 10:
            await one.desk.apply(Create(document()), "ann")
        await one.desk.apply(UpdateConfig("chat", split(a=share, b=100 - share)), "ann")
    await one.desk.apply(Create(document("gone")), "ann")
    async with following(other):
        await until(lambda: other.desk.number == one.desk.number)
    assert other.shares("chat") == {"a": 30, "b": 70}


async def test_a_store_that_was_put_back_is_believed() -> None:
    full, empty = MemoryStore(), MemoryStore()
    bench = Bench(full)
    await bench.desk.open()
    await bench.desk.apply(Create(document()), "ann")
    await bench.desk.apply(Create(document("other")), "ann")
    older = Bench(empty)
    await older.desk.open()
    await older.desk.apply(Create(document("survivor")), "ann")
    full.__dict__.update(empty.__dict__)
    async with following(bench):
        await until(lambda: bench.desk.number == 1)
    assert [record.name for record in bench.desk.list()] == ["survivor"]
    assert bench.table.get("chat") is None


@pytest.mark.parametrize("words", [b"{}", b"no json", b'{"format": 99}', b"[]", b'{"format": 1, "entities": 3}'])
async def test_a_record_that_cannot_be_read_leaves_the_others_and_what_was_known(words: bytes) -> None:
    store = MemoryStore()
    one, other = await two(store)
    await one.desk.apply(Create(document()), "ann")
    await one.desk.apply(Create(document("fine")), "ann")
    async with following(other):
        await until(lambda: other.desk.number == 2)
        await store.commit(2, [Change("chat", words, "update"), Change("new", words, "create")], "newer", "", 1)
        await until(lambda: other.desk.number == 4)
    assert other.shares("chat") == other.shares("fine") == {"a": 90, "b": 10}
    assert set(other.desk.problems()) == {"chat", "new"}
    with pytest.raises(Conflict, match="its record can't be read"):
        await other.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "ann")
    with pytest.raises(Conflict, match="its record can't be read"):
        await other.desk.apply(Create(document("new")), "ann")
    newest = (await other.desk.history("chat"))[0]
    assert (newest.record, newest.config_version) == (None, None)
