"""Rollouts of two replicas over every kind of store: one drives, and the other goes on when it is killed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from extproc.app.rollouts import RolloutDriver
from extproc.control.changes import Create
from extproc.control.lead import Lead
from tests.app.running import until
from tests.control.desks import Bench, document
from tests.storage.replicas import Replicas

PLAN: dict[str, Any] = {
    "baseline": "a",
    "canary": "b",
    "steps": [{"setWeight": 10}, {"pause": {}}, {"setWeight": 20}, {"pause": {}}],
    "metrics": [{"name": "errors", "failureCondition": "errors > 1", "dryRun": True}],
    "bakeTime": 0,
}


async def test_who_is_killed_is_followed(stores: Replicas) -> None:
    benches = [Bench(store) for store in await stores.two()]
    for bench in benches:
        await bench.desk.open()
    drivers = [RolloutDriver(bench.desk, bench.store, None, "", round_s=0.01) for bench in benches]
    leads = [Lead(bench.store, me, time.monotonic, 0.3) for bench, me in zip(benches, ("one", "other"), strict=True)]
    for driver, lead in zip(drivers, leads, strict=True):
        driver._lead = lead  # a shorter lease
    running = [asyncio.ensure_future(bench.desk.follow()) for bench in benches]
    driving = [asyncio.ensure_future(driver.run(asyncio.Event())) for driver in drivers]

    async def share(wanted: int) -> None:
        async def there() -> bool:
            known = [bench for bench in benches if bench.table.get("chat") is not None]
            return [bench.shares("chat") for bench in known] == [{"a": 100 - wanted, "b": wanted}] * 2

        await until(there, 10)

    async def paused() -> bool:
        return (await drivers[0].rollouts.get("chat")).state.phase == "Paused"

    try:
        await benches[0].desk.apply(Create(document("chat", a=100, b=0)), "ann")
        await share(0)
        await drivers[0].rollouts.start("chat", PLAN, "ann")
        await share(10)
        await until(paused, 10)
        (leader,) = [number for number, lead in enumerate(leads) if lead.ours]
        driving[leader].cancel()  # as a kill does: it gives nothing up
        follower = drivers[1 - leader]
        await follower.rollouts.command("chat", "promote", "ann")
        await share(20)
        assert leads[1 - leader].ours
        history = await benches[leader].desk.history("chat")
        assert [entry.reason for entry in history][:2] == ["weight 20 %", "weight 10 %"]
    finally:
        for task in (*running, *driving):
            task.cancel()
        await asyncio.gather(*running, *driving, return_exceptions=True)
