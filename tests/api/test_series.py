"""How the entities of an endpoint did over time: slots of the last minutes, and what nobody knows is null."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from extproc.api.series import LEAST_S, Series, series_of
from extproc.measures import Measures, Sample
from tests.api.served import served
from tests.api.tokens import ALICE, QUENTIN, Door
from tests.control.desks import document
from tests.fakes.clock import FakeClock


def asked(measures: Measures, number: int, error: str = "", ttft_s: float = 0.1) -> None:
    for _ in range(number):
        sample = Sample()
        sample.error = error
        if not error:
            sample.ttft_s = ttft_s
        measures.cell("chat", "a").add(sample)


def test_each_slot_has_its_rate_and_its_times() -> None:
    clock = FakeClock()
    clock.now_s = 3000.0
    measures = Measures(clock, window_s=3600, slots=120)
    asked(measures, 60, ttft_s=0.1)
    clock.advance(30)
    asked(measures, 15, ttft_s=0.2)
    asked(measures, 15, error="5xx")
    clock.advance(30)
    clock.advance(10)
    asked(measures, 20, ttft_s=0.4)
    found = series_of(measures, "chat", ["a", "b"], 900, now_s=1_000_070.0)
    assert found["at"] == [1_000_030.0, 1_000_060.0, 1_000_070.0]
    a, b = found["series"]
    assert a["requests_per_s"] == [2.0, 1.0, 2.0], "of a slot that is open, of what is over"
    assert a["errors_per_s"] == [0.0, 0.5, 0.0]
    assert a["ttft_p50_s"] == pytest.approx([0.1, 0.2, 0.4], rel=0.011)
    assert b["requests_per_s"] == [0.0, 0.0, 0.0]
    assert set(b["ttft_p95_s"]) == {None}
    clock.advance(3600)
    assert len(series_of(measures, "chat", ["a"], 900, now_s=1e6)["at"]) == 30


def test_the_slot_in_which_counting_began_is_a_shorter_one() -> None:
    clock = FakeClock()
    clock.now_s = 3020.0
    measures = Measures(clock, window_s=3600, slots=120)
    asked(measures, 40)
    clock.advance(10)
    clock.advance(LEAST_S - 1)
    asked(measures, 400)
    found = series_of(measures, "chat", ["a"], 900, now_s=1e6)
    assert found["series"][0]["requests_per_s"] == [4.0], "and of one that has just begun, nothing is said"


async def test_over_the_api() -> None:
    clock = FakeClock()
    measures = Measures(clock)
    asked(measures, 3)
    clock.advance(30)
    async with served(measures=measures) as api:
        await api.post("", document())
        got = await api.get("/chat/measures/series")
        TypeAdapter(Series).validate_python(got.json, strict=True)
        assert [each["served_entity"] for each in got.json["series"]] == ["a", "b"]
        assert (await api.get("/chat/measures/series?window=1m")).json["window_s"] == 60
        for window in ("all", "2h", "soon"):
            assert (await api.get(f"/chat/measures/series?window={window}")).error[:2] == (400, "INVALID_PARAMETER_VALUE")
    async with served() as api:
        await api.post("", document())
        assert (await api.get("/chat/measures/series")).status == 501


async def test_only_for_who_may_see_it() -> None:
    async with served(guard=Door().guard, measures=Measures(FakeClock())) as api:
        api.token = ALICE
        await api.post("", document("secret"))
        api.token = QUENTIN
        assert (await api.get("/secret/measures/series")).status == 403
