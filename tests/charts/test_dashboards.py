"""Grafana's dashboards without Prometheus: their form, and that our registry has what they name. tests/dashboards asks them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.queries import CHARTS, FILES, dashboards, queries, unknown, variables
from tests.fakes.registry import labels_of_everything


@pytest.fixture
def known(tmp_path: Path) -> dict[str, frozenset[str]]:
    return labels_of_everything(tmp_path)


def test_every_query_names_what_the_registry_has(known: dict[str, frozenset[str]]) -> None:
    told = [f"{each.dashboard}, {each.panel!r}: {what}" for each in queries() for what in unknown(each.expr, known)]
    assert told == []
    assert len(queries()) > 80
    assert [what for selector, label in variables() for what in unknown(f"{selector}", known)] == []


def test_what_is_unknown_is_seen(known: dict[str, frozenset[str]]) -> None:
    assert unknown("sum(extproc_streams_inflite{})", known) == ["metric extproc_streams_inflite"]
    assert unknown('sum(extproc_streams_total{kode="OK"})', known) == ["label kode of extproc_streams_total"]
    assert unknown("sum by (kode) (rate(extproc_streams_total{}[1m]))", known) == ["label kode"]
    assert unknown('extproc_streams_total{le="1"}', known) == ["label le of extproc_streams_total"]
    assert unknown("sum by (le) (rate(extproc_decision_duration_seconds_bucket{}[1m]))", known) == []


def test_the_form_that_grafana_reads() -> None:
    assert len(FILES) == 4
    for name, document in dashboards():
        assert document["uid"] == name
        panels = document["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        for panel in panels:
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for left, right in pairwise(sorted(panels, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))):
            assert not overlap(left["gridPos"], right["gridPos"]), (left["title"], right["title"])
        for panel in panels:
            for target in panel.get("targets", ()):
                assert "@" not in target["expr"]
                assert target["expr"].count("(") == target["expr"].count(")"), target["expr"]


def overlap(left: dict[str, int], right: dict[str, int]) -> bool:
    apart = left["x"] + left["w"] <= right["x"] or right["x"] + right["w"] <= left["x"]
    return not apart and left["y"] < right["y"] + right["h"] and right["y"] < left["y"] + left["h"]


@pytest.mark.parametrize("chart", ["body-based-routing", "inferencepool", "standalone"])
def test_a_charts_dashboards_are_the_same_everywhere(chart: str) -> None:
    here = {path.name: path.read_text() for path in (CHARTS / chart / "dashboards").iterdir()}
    assert "extproc-process.json" in here
    everywhere = {path.name: path.read_text() for path in FILES}
    assert here.items() <= everywhere.items()
    documents: list[Any] = [json.loads(text) for text in here.values()]
    assert all(document["tags"] == ["extproc"] for document in documents)
