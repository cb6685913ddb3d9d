"""The loop in virtual time: when each endpoint is asked, and what the store and the observer hear of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from extproc.domain import Endpoint, Load
from extproc.scraping.connecting import CROWDED_S
from extproc.scraping.driver import Driver
from extproc.scraping.engines import Engines
from extproc.scraping.fetch import Reason
from extproc.scraping.scraper import Scraper
from extproc.settings.engines import CoreMetricsSettings

from .loops import FakeFetcher, FakeObserver, FakeSink, VirtualTime, settle

PAGE = b"""\
vllm:num_requests_waiting 3
vllm:num_requests_running 2
vllm:kv_cache_usage_perc 0.5
vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1
"""
LOAD = Load(waiting=3.0, running=2.0, kv_usage=0.5, kv_usage_mean=0.5, kv_block_size=16, kv_blocks=100)
A, B, C = (Endpoint("10.0.0.1", 8000), Endpoint("10.0.0.2", 8000), Endpoint("10.0.0.3", 8000))
INTERVAL_S = 0.05


class Bench:
    """A scraper with everything around it faked."""

    def __init__(self, most_open: int = 10_000) -> None:
        self.time = VirtualTime()
        self.fetcher = FakeFetcher(self.time, PAGE)
        self.sink = FakeSink()
        self.observer = FakeObserver(self.time)
        self.draw = 0.5
        """Of the jitter: 0.5 is none."""
        self.scraper = Scraper(
            self.fetcher,
            Engines(CoreMetricsSettings()),
            self.sink,
            self.observer,
            interval_s=INTERVAL_S,
            driver=Driver(
                clock=self.time,
                later=self.time.later,
                draw=lambda: self.draw,
                most_open=most_open,
                opened=lambda: self.fetcher.now,
            ),
        )
        self.task: asyncio.Task[None] | None = None

    async def start(self, *endpoints: Endpoint) -> None:
        self.scraper.update(endpoints)
        self.task = asyncio.create_task(self.scraper.run())
        await settle()

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await self.task
            self.task = None


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert bench.time.waiting == 0
    assert not any(bench.fetcher.under_way.values())


def gaps(times: list[float]) -> list[float]:
    return [round(after - before, 9) for before, after in itertools.pairwise(times)]


async def test_a_page_goes_to_the_store(bench: Bench) -> None:
    await bench.start(A)
    await bench.time.advance(INTERVAL_S)

    assert bench.sink.heard == [(A.key, "started"), (A.key, "read")]
    assert bench.sink.loads == {A.key: LOAD}
    assert bench.observer.read == [(A.key, 0.0, len(PAGE), ())]
    assert bench.observer.states == []


async def test_each_endpoint_is_asked_once_per_interval(bench: Bench) -> None:
    await bench.start(A, B, C)
    await bench.time.advance(1.0)

    for endpoint in (A, B, C):
        times = bench.fetcher.times(endpoint)
        assert len(times) == 20
        assert set(gaps(times)) == {INTERVAL_S}


async def test_loops_are_spread_over_the_interval(bench: Bench) -> None:
    many = [Endpoint("10.0.1.1", 8000 + i) for i in range(40)]
    await bench.start(*many)
    await bench.time.advance(INTERVAL_S)

    starts = sorted(bench.fetcher.times(endpoint)[0] - 1000.0 for endpoint in many)
    assert max(gaps(starts)) < 3 * INTERVAL_S / 40
    assert starts[-1] <= INTERVAL_S


async def test_a_slow_page_costs_the_rounds_it_misses_and_no_more(bench: Bench) -> None:
    await bench.start(A)
    await bench.time.advance(INTERVAL_S)
    bench.fetcher.pages[A.key] = 0.12
    await bench.time.advance(1.0)

    times = bench.fetcher.times(A)
    assert bench.fetcher.most_under_way == 1
    assert gaps(times) == [0.05, *[0.15] * (len(times) - 2)]  # at its place in the interval, always
    assert bench.observer.read[-1][1] == pytest.approx(0.12)


@pytest.mark.parametrize("reason", [Reason.REFUSED, Reason.HTTP_STATUS, Reason.GARBAGE])
async def test_after_cheap_failures_the_pauses_grow_to_a_second(bench: Bench, reason: Reason) -> None:
    bench.fetcher.fail(A, reason)
    await bench.start(A)
    await bench.time.advance(6.0)

    assert gaps(bench.fetcher.times(A)) == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.costly])
async def test_costly_failures_are_tried_again_once_a_second(bench: Bench, reason: Reason) -> None:
    bench.fetcher.fail(A, reason)
    await bench.start(A, B)
    await bench.time.advance(5.0)

    assert gaps(bench.fetcher.times(A)) == [1.0] * 4
    assert len(bench.fetcher.times(B)) == 100


@pytest.mark.parametrize(("draw", "pause_s"), [(0.0, 0.75), (0.999999999, 1.25)])
async def test_pauses_have_jitter(bench: Bench, draw: float, pause_s: float) -> None:
    bench.draw = draw
    bench.fetcher.fail(A, Reason.TLS)
    await bench.start(A)
    await bench.time.advance(3.0)

    found = gaps(bench.fetcher.times(A))
    assert found == pytest.approx([pause_s] * len(found))
    assert len(found) >= 2


async def test_an_endpoint_that_recovers_is_at_the_interval_again(bench: Bench) -> None:
    bench.fetcher.fail(A, Reason.TIMEOUT)
    await bench.start(A)
    await bench.time.advance(INTERVAL_S)
    del bench.fetcher.pages[A.key]
    await bench.time.advance(1.5)

    assert gaps(bench.fetcher.times(A)) == [1.0, *[INTERVAL_S] * 10]


class TestHints:
    """A sign of life: the endpoint is asked at once."""

    @staticmethod
    async def failing(bench: Bench) -> int:
        """Attempts until one is a while ago and the next far away."""
        bench.fetcher.fail(A, Reason.REFUSED)
        await bench.start(A)
        await bench.time.advance(5.0)
        await bench.time.advance(bench.fetcher.times(A)[-1] + 0.1 - bench.time())
        del bench.fetcher.pages[A.key]
        return len(bench.fetcher.times(A))

    async def test_a_hint(self, bench: Bench) -> None:
        before = await self.failing(bench)
        bench.scraper.hint(A.key)
        await bench.time.advance(0.01)

        assert len(bench.fetcher.times(A)) == before + 1
        assert bench.sink.of(A)[-1] == "read"

    async def test_discovery_names_it_anew(self, bench: Bench) -> None:
        before = await self.failing(bench)
        bench.scraper.update([Endpoint(A.address, A.port, labels={"new": "label"})])
        await bench.time.advance(0.01)

        assert len(bench.fetcher.times(A)) == before + 1

    async def test_it_leaves_and_comes_back(self, bench: Bench) -> None:
        before = await self.failing(bench)
        bench.scraper.update([])
        bench.scraper.update([A])
        await bench.time.advance(INTERVAL_S)

        assert len(bench.fetcher.times(A)) == before + 1

    async def test_a_storm_of_hints_costs_no_more_than_the_interval(self, bench: Bench) -> None:
        bench.fetcher.fail(A, Reason.REFUSED)
        await bench.start(A)
        for _ in range(1000):
            bench.scraper.hint(A.key)
            await bench.time.advance(0.001)

        assert len(bench.fetcher.times(A)) <= 21

    async def test_of_an_endpoint_that_is_well_or_unknown(self, bench: Bench) -> None:
        await bench.start(A)
        await bench.time.advance(0.99)
        bench.scraper.hint(A.key)
        bench.scraper.hint("10.9.9.9:1")
        await bench.time.advance(0.01)

        assert set(gaps(bench.fetcher.times(A))) == {INTERVAL_S}


async def test_many_that_fail_are_asked_less_often(bench: Bench) -> None:
    many = [Endpoint("10.0.1.1", 1000 + i) for i in range(5000)]
    for endpoint in many:
        bench.fetcher.fail(endpoint, Reason.REFUSED)
    await bench.start(*many, A)
    await bench.time.advance(30.0)
    before = len(bench.fetcher.asked)
    await bench.time.advance(5.0)

    assert 900 <= (len(bench.fetcher.asked) - before - 100) / 5.0 <= 1100
    assert len([when for when in bench.fetcher.times(A) if when > 1030.0]) == 100


class TestHanging:
    """Endpoints that don't answer, and the others."""

    many = [Endpoint("10.0.1.1", 1000 + i) for i in range(600)]

    async def test_no_connection_can_be_made(self, bench: Bench) -> None:
        """Few are tried at once, and given up soon while others wait; who can be had is had on time."""
        for endpoint in self.many:
            bench.fetcher.pages[endpoint.key] = 60.0
        await bench.start(*self.many[:300], A, *self.many[300:])
        await bench.time.advance(600 / 256 * CROWDED_S + 0.1)

        assert bench.fetcher.most_at_once <= 257
        assert {key for _, key in bench.fetcher.asked} == {endpoint.key for endpoint in (*self.many, A)}
        began = len(bench.fetcher.asked)
        bench.scraper.update([*self.many, A, B])
        await bench.time.advance(5.0)
        assert len(bench.fetcher.times(A)) > 100
        assert len(bench.fetcher.times(B)) == 100, "it waits for nobody who failed before"
        assert (len(bench.fetcher.asked) - began - 200) / 5.0 <= 128 / CROWDED_S * 1.1

    async def test_connections_are_made_and_nothing_is_answered(self, bench: Bench) -> None:
        """They hold up nobody: all are asked within the interval, and time out."""
        for endpoint in self.many:
            bench.fetcher.pages[endpoint.key] = 60.0
            bench.fetcher.accepting.add(endpoint.key)
        await bench.start(*self.many, A)
        await bench.time.advance(0.3)
        assert {key for _, key in bench.fetcher.asked} == {endpoint.key for endpoint in (*self.many, A)}
        await bench.time.advance(1.0)
        assert {reason for _, reason, _ in bench.observer.failed} == {Reason.TIMEOUT}
        assert len(bench.observer.failed) == 600
        assert len(bench.fetcher.times(A)) >= 25

    async def test_their_connections_are_bounded_too(self) -> None:
        """By the files that the process may open."""
        bench = Bench(most_open=100)
        for endpoint in self.many:
            bench.fetcher.pages[endpoint.key] = 60.0
            bench.fetcher.accepting.add(endpoint.key)
        await bench.start(A, *self.many)
        await bench.time.advance(8.0)
        assert bench.fetcher.most_at_once <= 151
        assert {key for _, key in bench.fetcher.asked} == {endpoint.key for endpoint in (*self.many, A)}
        await bench.stop()


async def test_what_needs_more_than_its_share_gives_way_evenly(bench: Bench) -> None:
    many = [Endpoint("10.0.1.1", 1000 + i) for i in range(200)]
    bench.fetcher.cost_s = 0.0003  # 200 endpoints * 20 pages a second: 1.2 cores
    await bench.start(*many)
    await bench.time.advance(2.0)
    before = len(bench.fetcher.asked)
    await bench.time.advance(4.0)

    pages = len(bench.fetcher.asked) - before
    assert pages * bench.fetcher.cost_s / 4.0 == pytest.approx(0.3, rel=0.05)
    numbers = [len([when for when in bench.fetcher.times(each) if when > 1002.0]) for each in many]
    assert max(numbers) - min(numbers) <= 3
    assert bench.scraper.stretch == pytest.approx(4.0, rel=0.35)


async def test_within_its_share_pages_are_on_time(bench: Bench) -> None:
    bench.fetcher.cost_s = 0.0001
    await bench.start(A, B, C)
    await bench.time.advance(2.0)

    assert bench.scraper.stretch == pytest.approx(1.0, abs=0.02)


async def test_many_changes_of_state_are_counted_and_not_told_one_by_one(bench: Bench) -> None:
    many = [Endpoint("10.0.1.1", 1000 + i) for i in range(100)]
    for endpoint in many:
        bench.fetcher.fail(endpoint, Reason.REFUSED)
    await bench.start(*many)
    await bench.time.advance(15.0)

    assert len(bench.observer.states) == 20
    assert bench.observer.more == [{"refused": 80}]


async def test_what_the_store_hears_of_failures(bench: Bench) -> None:
    bench.fetcher.fail(A, Reason.REFUSED)
    bench.fetcher.fail(B, Reason.HTTP_STATUS)
    await bench.start(A, B)
    await bench.time.advance(INTERVAL_S)

    assert bench.sink.of(A) == ["started", "failed refused down"]
    assert bench.sink.of(B) == ["started", "failed http_status alive"]
    assert {(key, reason) for key, reason, _ in bench.observer.failed} == {(A.key, "refused"), (B.key, "http_status")}


async def test_a_page_of_something_else_is_a_failure(bench: Bench) -> None:
    bench.fetcher.pages[A.key] = b"<html>It works!</html>"
    await bench.start(A)
    await bench.time.advance(INTERVAL_S)

    assert bench.sink.of(A) == ["started", "failed garbage alive"]
    assert bench.observer.states == [(A.key, "garbage", "no metric of engine vllm on a page of 22 bytes")]


async def test_a_page_that_lacks_a_signal_is_read(bench: Bench) -> None:
    bench.fetcher.pages[A.key] = b"vllm:num_requests_waiting 3\nvllm:num_requests_running NaN\n"
    await bench.start(A)
    await bench.time.advance(2 * INTERVAL_S)

    assert bench.sink.loads[A.key] == Load(waiting=3.0)
    assert [problem.signal for problem in bench.observer.read[0][3]] == [
        "running",
        "kv_usage",
        "kv_block_size",
        "kv_blocks",
    ]
    assert bench.observer.states == [
        (A.key, "partial", "running unreadable, kv_usage absent, kv_block_size absent, kv_blocks absent")
    ]


async def test_only_changes_of_state_are_told(bench: Bench) -> None:
    await bench.start(A)
    await bench.time.advance(1.0)
    bench.fetcher.fail(A, Reason.REFUSED, "one")
    await bench.time.advance(1.5)
    bench.fetcher.fail(A, Reason.REFUSED, "two")
    await bench.time.advance(1.5)
    bench.fetcher.fail(A, Reason.HTTP_STATUS, "status 503")
    await bench.time.advance(1.5)
    bench.fetcher.pages[A.key] = b"vllm:num_requests_waiting 3\n"
    await bench.time.advance(1.5)
    bench.fetcher.pages[A.key] = PAGE
    await bench.time.advance(1.5)

    assert [(state, detail) for _, state, detail in bench.observer.states] == [
        ("refused", "one"),
        ("http_status", "status 503"),
        ("partial", "running absent, kv_usage absent, kv_block_size absent, kv_blocks absent"),
        ("ok", ""),
    ]


class TestEndpointsComeAndGo:
    async def test_one_joins(self, bench: Bench) -> None:
        await bench.start(A)
        await bench.time.advance(1.0)
        bench.scraper.update([A, B])
        await bench.time.advance(1.0)

        assert len(bench.fetcher.times(A)) == 40
        assert set(gaps(bench.fetcher.times(A))) == {INTERVAL_S}
        assert len(bench.fetcher.times(B)) == 20

    async def test_one_leaves(self, bench: Bench) -> None:
        await bench.start(A, B)
        await bench.time.advance(1.0)
        bench.scraper.update([B])
        heard = len(bench.sink.of(A))
        await bench.time.advance(1.0)

        assert len(bench.sink.of(A)) == heard
        assert len(bench.fetcher.times(B)) == 40
        assert repr(bench.scraper) == "<Scraper running, 1 endpoints, 0 failing>"

    async def test_one_leaves_while_its_page_is_on_the_way(self, bench: Bench) -> None:
        bench.fetcher.pages[A.key] = 0.5
        await bench.start(A)
        await bench.time.advance(INTERVAL_S)
        bench.scraper.update([])
        await bench.time.advance(1.0)

        assert bench.sink.of(A) == ["started"]
        assert bench.fetcher.under_way[A.key] == 0

    async def test_one_leaves_and_comes_back_at_once(self, bench: Bench) -> None:
        bench.fetcher.pages[A.key] = 0.5
        await bench.start(A)
        await bench.time.advance(INTERVAL_S)
        for _ in range(3):
            bench.scraper.update([])
            bench.scraper.update([A])
        bench.fetcher.pages[A.key] = 0.0
        await bench.time.advance(1.0)

        assert bench.fetcher.most_under_way == 1
        assert len(bench.fetcher.times(A)) == 21
        assert bench.sink.of(A)[-1] == "read"

    async def test_all_leave_and_the_scraper_waits_for_others(self, bench: Bench) -> None:
        await bench.start(A)
        bench.scraper.update([])
        await bench.time.advance(1.0)
        bench.scraper.update([B])
        await bench.time.advance(INTERVAL_S)

        assert bench.sink.of(B) == ["started", "read"]

    async def test_labels_change_the_engine_without_a_new_loop(self, bench: Bench) -> None:
        bench.fetcher.pages[A.key] = b"sglang:num_queue_reqs 7\n"
        await bench.start(A)
        await bench.time.advance(1.0)
        bench.scraper.update([Endpoint(A.address, A.port, labels={"llm-d.ai/engine-type": "sglang"})])
        await bench.time.advance(1.0)

        assert bench.sink.loads[A.key] == Load(waiting=7.0)
        assert set(gaps([when for when in bench.fetcher.times(A) if when > 1001.01])) == {INTERVAL_S}

    async def test_another_metrics_port_without_a_new_loop(self, bench: Bench) -> None:
        await bench.start(A)
        await bench.time.advance(1.0)
        bench.scraper.update([Endpoint(A.address, A.port, metrics_port=9400)])
        await bench.time.advance(1.0)

        assert bench.fetcher.asked[-1][1] == f"{A.address}:9400"
        assert set(gaps([when for when, _ in bench.fetcher.asked])) == {INTERVAL_S}

    async def test_changes_before_the_start(self, bench: Bench) -> None:
        bench.scraper.update([A, B])
        bench.scraper.update([B])
        assert repr(bench.scraper) == "<Scraper stopped, 1 endpoints, 0 failing>"
        await bench.start(B, C)
        await bench.time.advance(INTERVAL_S)

        assert {key for key, _ in bench.sink.heard} == {B.key, C.key}

    async def test_changes_after_the_stop(self, bench: Bench) -> None:
        await bench.start(A)
        await bench.stop()
        bench.scraper.update([B])
        await bench.start(C)
        await bench.time.advance(INTERVAL_S)

        assert bench.sink.of(C) == ["started", "read"]


async def test_a_stop_with_pages_on_the_way(bench: Bench) -> None:
    bench.fetcher.pages[A.key] = 5.0
    await bench.start(A, B)
    await bench.time.advance(INTERVAL_S)
    await bench.stop()

    assert bench.sink.of(A) == ["started"]
    assert bench.fetcher.under_way == {A.key: 0, B.key: 0}


async def test_a_fault_of_ours_is_not_hidden(bench: Bench) -> None:
    def broken(key: str, load: Load) -> None:
        raise ZeroDivisionError

    bench.sink.page_read = broken  # type: ignore[method-assign]
    await bench.start(A, B)
    await bench.time.advance(INTERVAL_S)
    assert bench.task is not None

    with pytest.raises(ZeroDivisionError):
        await bench.task
    bench.task = None
