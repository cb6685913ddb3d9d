"""Plots as data: made once in a beat, for scripts and as a table."""

from __future__ import annotations

import json
from typing import Any

from extproc.api.page.kept import BEAT_S, Kept
from extproc.api.page.plots import UNITS
from extproc.control.changes import Create
from extproc.measures import Measures, Sample
from tests.api.page.visitors import PARTLY, visiting
from tests.api.tokens import QUENTIN
from tests.control.desks import document
from tests.fakes.clock import FakeClock


def test_what_is_asked_for_within_a_beat_is_made_once_and_little_is_kept() -> None:
    clock = FakeClock()
    kept = Kept(clock, most=2)
    made: list[str] = []

    def make(key: str) -> list[dict[str, Any]]:
        made.append(key)
        return []

    for key in ("a", "a", "b", "a", "c", "a"):
        kept.of(key, lambda key=key: make(key))  # type: ignore[misc]
    assert made == ["a", "b", "c", "a"], "two are kept"
    clock.advance(BEAT_S)
    kept.of("a", lambda: make("later"))
    assert made[-1] == "later"


async def test_an_endpoint_over_time_for_the_script_and_as_a_table() -> None:
    clock = FakeClock()
    measures = Measures(clock)
    sample = Sample()
    sample.ttft_s = 0.25
    for _ in range(60):
        measures.cell("chat", "a").add(sample)
    clock.advance(measures.slot_s)
    async with visiting(measures=measures) as visitor:
        await visitor.bench.desk.apply(Create(document()), "alice")
        plots = json.loads((await visitor.look("/ui/endpoints/chat/plots")).text)["plots"]
        assert [plot["title"] for plot in plots] == ["Requests a second", "Errors a second", "Time to the first token"]
        assert {plot["unit"] for plot in plots} <= UNITS
        for plot in plots:
            assert all(len(series["values"]) == len(plot["at"]) for series in plot["series"])
        table = await visitor.ask("GET", "/ui/endpoints/chat/plots?as=table", PARTLY)
        assert "<html" not in table.text
        assert "a p95" in table.text
        assert "25" in table.text
        whole = (await visitor.look("/ui/endpoints/chat/plots?as=table")).text
        assert "<html" in whole
        assert 'href="/ui/endpoints/chat"' in whole
        page = (await visitor.look("/ui/endpoints/chat")).text
        assert 'data-plots="/ui/endpoints/chat/plots"' in page
        assert "uplot.min.js" in page
        assert "uplot" not in (await visitor.look("/ui/")).text, "pages without plots do not load them"


async def test_where_nothing_is_measured_nothing_is_drawn() -> None:
    async with visiting() as visitor:
        await visitor.bench.desk.apply(Create(document()), "alice")
        assert json.loads((await visitor.look("/ui/endpoints/chat/plots")).text) == {"plots": []}
        assert "uplot" not in (await visitor.look("/ui/endpoints/chat")).text


async def test_only_for_who_may_see_it() -> None:
    async with visiting(QUENTIN) as visitor:
        await visitor.bench.desk.apply(Create(document("secret")), "alice")
        assert (await visitor.ask("GET", "/ui/endpoints/secret/plots")).status == 403
