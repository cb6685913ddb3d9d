"""Two replicas' desks over every kind of store: real commits, real news of them."""

from __future__ import annotations

import asyncio

from extproc.control.changes import Create, Revert, UpdateConfig
from tests.app.running import until
from tests.control.desks import Bench, document, split
from tests.storage.replicas import Replicas

UPDATES = 20
"""Of each desk."""


async def test_two_replicas_race_and_agree(stores: Replicas) -> None:
    benches = [Bench(store) for store in await stores.two()]
    for bench in benches:
        await bench.desk.open()
    following = [asyncio.ensure_future(bench.desk.follow()) for bench in benches]
    try:
        await benches[0].desk.apply(Create(document(a=100, b=0)), "start")

        async def update(bench: Bench, number: int) -> tuple[int, str]:
            reason = f"{benches.index(bench)}/{number}"
            applied = await bench.desk.apply(UpdateConfig("chat", split(a=number, b=100 - number)), "racer", reason=reason)
            assert applied.record is not None
            return applied.record.config_version, reason

        done = await asyncio.gather(*[update(bench, number) for number in range(1, UPDATES + 1) for bench in benches])
        await benches[1].desk.apply(Revert("chat", 1), "start")

        async def agree() -> bool:
            return {bench.desk.number for bench in benches} == {2 * UPDATES + 2}

        await until(agree)
        history = await benches[0].desk.history("chat", limit=200)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    assert sorted((each.config_version, each.reason) for each in history[1:-1]) == sorted(done)
    assert [each.revision for each in history] == list(range(2 * UPDATES + 2, 0, -1))
    assert [bench.shares("chat") for bench in benches] == [{"a": 100, "b": 0}] * 2
    assert benches[0].desk.get("chat") == benches[1].desk.get("chat")
