"""Cells are made once a tick, whoever looks, and say what was measured."""

from __future__ import annotations

from extproc.api.page.figures import RATE_S, TICK_S, Figures
from extproc.control.changes import Create, Delete, UpdateConfig
from extproc.measures import Measures, Sample
from tests.control.desks import Bench, document, split
from tests.fakes.clock import FakeClock


class Looking:
    def __init__(self) -> None:
        self.bench = Bench()
        self.clock = FakeClock()
        self.measures = Measures(self.clock)
        self.down: set[str] = set()
        self.figures = Figures(
            self.bench.desk, lambda: self.bench.table, lambda pool: pool not in self.down, self.measures, self.clock
        )

    async def open(self, name: str = "chat") -> None:
        if not self.bench.desk.opened:
            await self.bench.desk.open()
        await self.bench.desk.apply(Create(document(name)), "alice")

    def requests(self, entity: str, number: int, ttft_s: float = 0.1, error: str = "") -> None:
        for _ in range(number):
            sample = Sample()
            sample.ttft_s, sample.e2e_s, sample.error = ttft_s, 2 * ttft_s, error
            self.measures.cell("chat", entity).add(sample)

    def cells(self) -> dict[str, str]:
        return self.figures.cells(["chat"])


async def test_rates_parts_and_errors_are_of_the_last_seconds() -> None:
    looking = Looking()
    await looking.open()
    assert looking.cells()["chat//rate"] == "–", "nobody knows yet"
    looking.requests("a", 27)
    looking.requests("b", 3, error="5xx")
    looking.clock.advance(TICK_S)
    cells = looking.cells()
    assert (cells["chat//rate"], cells["chat//errors"]) == ("15", "10 %")
    assert (cells["chat/a/part"], cells["chat/a/rate"], cells["chat/a/errors"]) == ("90 %", "14", "0 %")
    assert (cells["chat/b/part"], cells["chat/b/rate"], cells["chat/b/errors"]) == ("10 %", "1.5", "100 %")
    for _ in range(int(RATE_S / TICK_S) + 1):
        looking.clock.advance(TICK_S)
        cells = looking.cells()
    assert (cells["chat//rate"], cells["chat/a/part"], cells["chat/a/errors"]) == ("0.0", "–", "–"), "they are over"


async def test_times_are_quantiles_of_the_last_minute() -> None:
    looking = Looking()
    await looking.open()
    looking.requests("a", 95, ttft_s=0.1)
    looking.requests("a", 5, ttft_s=2.0)
    cells = looking.cells()
    assert (cells["chat/a/ttft50"], cells["chat/a/ttft95"]) == ("100 ms", "100 ms")
    assert cells["chat/a/e2e50"] == "201 ms", "within a percent"
    assert cells["chat/b/ttft50"] == "–"
    looking.requests("a", 5, ttft_s=2.0)
    looking.clock.advance(TICK_S)
    assert looking.cells()["chat/a/ttft95"].endswith(" s")
    looking.clock.advance(200)
    assert looking.cells()["chat/a/ttft50"] == "–", "they are over"


async def test_a_hundred_pages_cost_what_one_does() -> None:
    looking = Looking()
    await looking.open()
    for _ in range(5):
        for _ in range(100):
            looking.figures.cells(["chat"])
            looking.figures.changed(["chat"], looking.figures.tick - 1)
        looking.clock.advance(TICK_S)
    assert looking.figures.made == 5


async def test_only_what_changed_is_told_to_who_saw_the_tick_before() -> None:
    looking = Looking()
    await looking.open()
    looking.cells()
    before = looking.figures.tick
    looking.down.add("b")
    looking.clock.advance(TICK_S)
    changed = looking.figures.changed(["chat"], before)
    assert changed["chat//state"] == "not ready"
    assert changed["chat/b/state"].startswith("not ready: no endpoint of the pool 'b'")
    assert "chat/a/state" not in changed
    assert looking.figures.changed(["chat"], looking.figures.tick) == {}, "nothing is new within a tick"
    looking.clock.advance(3 * TICK_S)
    assert "chat/a/state" in looking.figures.changed(["chat"], before), "who missed some is told everything"


async def test_versions_and_endpoints_that_go_are_told() -> None:
    looking = Looking()
    await looking.open()
    assert looking.cells()["chat//version"] == "1"
    await looking.bench.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "bob")
    looking.clock.advance(TICK_S)
    assert looking.cells()["chat//version"] == "2"
    await looking.bench.desk.apply(Delete("chat"), "bob")
    looking.clock.advance(TICK_S)
    assert looking.cells() == {"chat//state": "deleted", "chat//version": ""}


async def test_without_measures_there_is_a_state_and_no_number() -> None:
    looking = Looking()
    await looking.open()
    figures = Figures(looking.bench.desk, lambda: looking.bench.table, lambda pool: True, None, looking.clock)
    cells = figures.cells(["chat"])
    assert (cells["chat//state"], cells["chat//rate"], cells["chat/a/ttft95"]) == ("ready", "–", "–")
    assert figures.requests_per_s("chat") is None


async def test_what_nobody_looks_at_is_forgotten() -> None:
    looking = Looking()
    await looking.open()
    await looking.open("other")
    looking.cells()
    looking.clock.advance(120)
    looking.figures.cells(["other"])
    assert list(looking.figures._known) == ["other"]
