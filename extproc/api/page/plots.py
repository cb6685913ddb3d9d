"""Plots as data: what the page's script draws, and what stands in a table for who does not see it or has no scripts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
from starlette.responses import Response

from extproc.api.answers import JSON, Answer
from extproc.api.page import words
from extproc.api.page.kept import Plot
from extproc.api.page.visit import Visit
from extproc.api.series import WINDOW_S, EntitySeries, series_of

_WORDS: Final[dict[str, Callable[[float], str]]] = {
    "per_s": words.rate,
    "seconds": words.seconds,
    "share": words.percent,
    "percent": lambda value: f"{100 * value:+.1f} %",
    "points": lambda value: f"{100 * value:+.2f} points",
    "number": lambda value: f"{value:,.1f}".removesuffix(".0"),
}
UNITS: Final = frozenset(_WORDS)


async def of_endpoint(visit: Visit) -> Answer:
    """Requests, errors and times to the first token of an endpoint's entities."""
    record, measures = visit.inside.desk.get(visit.name), visit.inside.measures
    if measures is None:
        return answer(visit, [], f"/ui/endpoints/{record.name}")
    names = [str(entity["name"]) for entity in record.entities]

    def make() -> list[Plot]:
        window_s = min(WINDOW_S, measures.window_s)
        found = series_of(measures, record.name, names, window_s, time.time())
        return _of_series(found["at"], found["series"])

    async with visit.inside.slices.turn():
        plots = visit.site.plots.of(f"endpoint/{record.id}/{record.config_version}", make)
    return answer(visit, plots, f"/ui/endpoints/{record.name}")


def _of_series(at: Sequence[float], entities: Sequence[EntitySeries]) -> list[Plot]:
    rates = [
        {"label": each["served_entity"], "place": place, "values": each["requests_per_s"]}
        for place, each in enumerate(entities)
    ]
    errors = [
        {"label": each["served_entity"], "place": place, "values": each["errors_per_s"]} for place, each in enumerate(entities)
    ]
    times = []
    for place, each in enumerate(entities):
        times.append({"label": f"{each['served_entity']} p50", "place": place, "values": each["ttft_p50_s"]})
        times.append({"label": f"{each['served_entity']} p95", "place": place, "dashed": True, "values": each["ttft_p95_s"]})
    return [
        {"title": "Requests a second", "unit": "per_s", "at": at, "series": rates},
        {"title": "Errors a second", "unit": "per_s", "at": at, "series": errors},
        {"title": "Time to the first token", "unit": "seconds", "at": at, "series": times},
    ]


def answer(visit: Visit, plots: Sequence[Plot], back: str) -> Answer:
    """As JSON for the script, or with `as=table` in HTML. `back`: the page that they stand on."""
    if visit.query("as") != "table":
        return Response(orjson.dumps({"plots": plots}), media_type=JSON)
    template = "plots_part.html" if visit.partly else "plots.html"
    return visit.show(template, tables=[_table(plot) for plot in plots], back=back)


def _table(plot: Plot) -> dict[str, Any]:
    """Newest first."""
    told = _WORDS[plot["unit"]]
    lines = plot["rows"] if plot.get("kind") == "heat" else plot["series"]
    rows = [
        {"at_ms": int(at * 1000), "cells": [_cell(told, line["values"][number]) for line in lines]}
        for number, at in enumerate(plot["at"])
    ]
    return {"title": plot["title"], "labels": [line["label"] for line in lines], "rows": rows[::-1]}


def _cell(told: Callable[[float], str], value: float | None) -> str:
    return words.NOTHING if value is None else told(value)
