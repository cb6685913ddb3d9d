"""Desks of several replicas on one database: how soon they agree, killed, and left without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from extproc.control.changes import Create, Delete, DeskChange, UpdateConfig
from extproc.control.errors import Unavailable
from extproc.storage.open import open_store
from extproc.traffic import TrafficTable
from tests.control.desks import Bench, document, split
from tests.storage.killing import ALL, Replica
from tests.storage.server import PostgresServer


@asynccontextmanager
async def replicas(url: str, count: int = 2) -> AsyncIterator[list[Bench]]:
    benches = [Bench(open_store(url, ALL)) for _ in range(count)]
    for bench in benches:
        await bench.desk.open()
    following = [asyncio.create_task(bench.desk.follow()) for bench in benches]
    try:
        yield benches
    finally:
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        for bench in benches:
            await bench.desk.close()


async def until(holds: Callable[[], bool]) -> None:
    """pytest's timeout ends what never is."""
    while not holds():  # noqa: ASYNC110 -- what is waited for has no event
        await asyncio.sleep(0.005)


async def test_what_one_replica_acknowledges_the_other_serves(url: str) -> None:
    async with replicas(url) as (one, other):
        changes: list[tuple[DeskChange, dict[str, int] | None]] = [
            (Create(document()), {"a": 90, "b": 10}),
            (UpdateConfig("chat", split(a=50, b=50)), {"a": 50, "b": 50}),
            (Delete("chat"), None),
        ]
        for change, shares in changes:
            await one.desk.apply(change, "ann")
            await until(lambda: other.desk.number == one.desk.number)
            assert (other.shares("chat") if other.table.get("chat") else None) == shares


async def test_replicas_that_are_killed_lose_nothing_and_leave_no_half_config(url: str) -> None:
    with Replica("updater", url, "first") as first, Replica("updater", url, "second") as second:
        acked = first.killed(30)
        acked += second.killed(30)

    async with replicas(url, 1) as (bench,):
        history = [*await bench.desk.history("chat")]
        while history[-1].revision > 1:  # in pages, as there may be thousands
            history += await bench.desk.history("chat", before=history[-1].revision)
        assert [each.config_version for each in history] == list(range(len(history), 0, -1))
        assert set(acked) <= {f"{each.config_version} {each.reason}" for each in history}
        assert sum(bench.shares("chat").values()) == 100
        assert not bench.desk.problems()


async def test_without_its_database_a_gateway_serves_what_it_knew_and_then_goes_on(postgres: PostgresServer) -> None:
    async with replicas(postgres.url(postgres.new_schema())) as (one, other):
        await one.desk.apply(Create(document()), "ann")
        await until(lambda: other.desk.number == 1)
        known: TrafficTable = other.table

        postgres.stop("immediate")
        try:
            for bench in (one, other):
                with pytest.raises(Unavailable):
                    await bench.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "ann")
                assert bench.desk.lost
                assert bench.shares("chat") == {"a": 90, "b": 10}
            assert other.table is known
        finally:
            postgres.start()

        await until(lambda: not one.desk.lost and not other.desk.lost)
        await one.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "ann")
        await until(lambda: other.shares("chat") == {"a": 50, "b": 50})
