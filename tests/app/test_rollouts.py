from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from extproc.app.rollouts import RolloutDriver
from extproc.control.changes import Create
from extproc.control.store import StoreUnavailable
from extproc.measures import Measures, Sample
from extproc.observability.instruments import Instruments
from extproc.observability.rollouts import RolloutMetrics
from extproc.rollouts.plan import read_plan
from tests.app.running import until
from tests.control.desks import Bench, document
from tests.control.test_rollouts import PLAN


@contextlib.asynccontextmanager
async def driving(
    bench: Bench, measures: Measures | None, me: str = "one", metrics: RolloutMetrics | None = None
) -> AsyncIterator[RolloutDriver]:
    driver = RolloutDriver(bench.desk, bench.store, measures, me, metrics=metrics, round_s=0.01)
    running = asyncio.create_task(driver.run(asyncio.Event()))
    try:
        yield driver
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await driver.leave()
        await driver.close()


async def made() -> Bench:
    bench = Bench()
    await bench.desk.open()
    await bench.desk.apply(Create(document("chat", a=100, b=0)), "ann")
    return bench


def count(measures: Measures, entity: str, requests: int, error: str = "", ttft_s: float = 0.5) -> None:
    for number in range(requests):
        sample = Sample()
        sample.error = error
        sample.ttft_s = -1.0 if error else ttft_s * (1 + 0.2 * (number % 5))
        measures.cell("chat", entity).add(sample)


async def test_it_judges_by_the_measures_of_its_process() -> None:
    bench, measures = await made(), Measures(lambda: 0.0)
    async with driving(bench, measures) as driver:
        plan = {**PLAN, "metrics": [{"name": "ttft", "interval": 0.1, "compare": {"measure": "ttft"}}]}
        await driver.rollouts.start("chat", plan, "ann")

        async def phase(wanted: str) -> bool:
            return (await driver.rollouts.get("chat")).state.phase == wanted

        async def shares() -> bool:
            return bench.shares("chat") == {"a": 90, "b": 10}

        async def rolled_back() -> bool:
            count(measures, "a", 40)
            count(measures, "b", 40, ttft_s=0.8)
            return await phase("Degraded")

        await until(shares)
        await until(rolled_back)
        assert "it is slower, evidence" in (await driver.rollouts.get("chat")).state.reason

        async def back() -> bool:
            return bench.shares("chat") == {"a": 100, "b": 0}

        await until(back)


async def test_what_it_shows_while_it_drives_and_when_another_replica_does() -> None:
    bench, measures, instruments = await made(), Measures(lambda: 0.0), Instruments()

    def shown(name: str) -> dict[str, float]:
        found = {}
        for metric in instruments.collect():
            for sample in metric.samples:
                if sample.name == f"extproc_rollout{name}":
                    found[",".join(sample.labels.values())] = sample.value
        return found

    async with driving(bench, measures, metrics=RolloutMetrics(instruments)) as driver:
        plan = {**PLAN, "metrics": [{"name": "ttft", "interval": 0.1, "compare": {"measure": "ttft"}}]}
        await driver.rollouts.start("chat", plan, "ann")

        async def rolled_back() -> bool:
            count(measures, "a", 40)
            count(measures, "b", 40, ttft_s=0.8)
            return shown("_phase") == {"chat,Degraded": 1.0}

        await until(rolled_back)
        assert shown("s_leading") == {"": 1.0}
        assert shown("_weight_percentage") == {"chat,b": 0.0}
        (evidence,) = shown("_evidence_ratio").values()
        assert evidence >= 1, "it was enough"
        difference = {labels.rpartition(",")[2]: value for labels, value in shown("_difference_ratio").items()}
        assert difference["low"] < difference["estimate"] < difference["high"]
        assert 0.4 < difference["estimate"] < 0.8, "0.8 s instead of 0.5 s"

        kept = bench.store.kept

        async def away() -> object:
            raise StoreUnavailable("gone")

        bench.store.kept = away  # type: ignore[method-assign, assignment]

        async def stands_still() -> bool:
            return shown("s_leading") == {"": 0.0}

        await until(stands_still)
        assert shown("_phase") == {}, "nobody knows how far it is"
        bench.store.kept = kept  # type: ignore[method-assign]


async def test_requests_are_sorted_by_what_they_met() -> None:
    bench, measures = await made(), Measures(lambda: 0.0)
    for entity, hits in (("a", (1.0, 1.0, 0.0)), ("b", (1.0, 0.0, 0.0))):
        for hit in hits:
            sample = Sample()
            sample.hit_fraction, sample.queue_at_pick, sample.ttft_s = hit, 0.0, 0.1 if hit else 1.0
            measures.cell("chat", entity).add(sample)
    async with driving(bench, measures) as driver:
        looked = driver._look("chat", read_plan(PLAN))
    assert {kind: each.n for kind, each in looked.totals.canary.ttft.cells.items()} == {"2|0": 1, "0|0": 2}
    assert {kind: each.n for kind, each in looked.totals.baseline.ttft.cells.items()} == {"2|0": 2, "0|0": 1}
    assert looked.totals.canary.hit_fraction.mean == pytest.approx(1 / 3)
    window = looked.windows[60.0].baseline
    assert (window.requests, set(window.ttft.quantiles)) == (3, {50, 90, 95, 99})


async def test_conditions_look_back_on_a_window() -> None:
    bench, measures = await made(), Measures(lambda: 0.0)
    count(measures, "a", 10)
    async with driving(bench, measures) as driver:
        await driver.rollouts.start("chat", PLAN, "ann")

        async def failed() -> bool:
            count(measures, "b", 10, error="5xx")
            return (await driver.rollouts.get("chat")).state.reason == "ok: error_rate > 0.2 holds"

        await until(failed)


async def test_webhooks_are_asked_and_2xx_is_yes() -> None:
    bench = await made()
    heard: list[tuple[str, str]] = []
    answers = {"/gate": 403}

    async def answer(request: web.Request) -> web.Response:
        said = await request.json()
        heard.append((request.path, said.get("event", said["endpoint"])))
        return web.Response(status=answers.get(request.path, 200))

    app = web.Application()
    app.router.add_post("/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    hooks = [
        {"name": "gate", "type": "confirm-rollout", "url": f"http://127.0.0.1:{port}/gate"},
        {"name": "news", "type": "event", "url": f"http://127.0.0.1:{port}/news"},
        {"name": "gone", "type": "rollback", "url": "http://127.0.0.1:1/"},
    ]
    try:
        async with driving(bench, None) as driver:
            await driver.rollouts.start("chat", {**PLAN, "webhooks": hooks}, "ann")

            async def asked() -> bool:
                return ("/gate", "chat") in heard

            await until(asked)
            assert bench.shares("chat") == {"a": 100, "b": 0}
            answers["/gate"] = 200

            async def told() -> bool:
                return ("/news", "weight 10 %") in heard

            await until(told)
    finally:
        await runner.cleanup()


async def test_a_webhook_that_does_not_answer_stops_nobody_else() -> None:
    bench = await made()
    await bench.desk.apply(Create(document("code", a=100, b=0)), "ann")
    silent = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    hook = {"name": "gate", "type": "confirm-rollout", "url": f"http://127.0.0.1:{port}/", "timeout": 30}
    async with server, driving(bench, None) as driver:
        await driver.rollouts.start("chat", {**PLAN, "webhooks": [hook]}, "ann")
        await silent.wait()
        await driver.rollouts.start("code", PLAN, "ann")

        async def shares() -> bool:
            return bench.shares("code") == {"a": 90, "b": 10}

        await until(shares)
        assert bench.shares("chat") == {"a": 100, "b": 0}


async def test_of_two_one_drives_and_the_other_follows_when_it_leaves() -> None:
    bench = await made()
    async with driving(bench, None, "other") as other:
        await until(other._lead.held)
        async with driving(bench, None, "one") as one:
            await one.rollouts.start("chat", PLAN, "ann")
            assert not await one._lead.held()
    async with driving(bench, None, "third") as third:
        await until(third._lead.held)


async def test_a_store_that_is_away_stops_rollouts_and_nothing_else() -> None:
    bench = await made()
    kept, asked = bench.store.kept, 0

    async def away() -> dict[str, object]:
        nonlocal asked
        asked += 1
        raise StoreUnavailable("gone")

    async with driving(bench, None) as driver:
        await driver.rollouts.start("chat", PLAN, "ann")
        bench.store.kept = away  # type: ignore[method-assign, assignment]

        async def often() -> bool:
            return asked > 3

        await until(often)
        bench.store.kept = kept  # type: ignore[method-assign]

        async def shares() -> bool:
            return bench.shares("chat") == {"a": 90, "b": 10}

        await until(shares)
