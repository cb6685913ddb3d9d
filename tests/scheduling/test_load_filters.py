"""Whom filters by load keep; lists and arrays give the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extproc.candidates import Candidates
from extproc.errors import Saturated
from extproc.scheduling import build_scheduler
from extproc.scheduling.plugins.base import Filter
from extproc.settings.base import SettingsError
from extproc.settings.picker import load_picker_config
from tests.fakes.candidates import NAN, candidates, choose, cycle
from tests.fakes.chance import seeded
from tests.fakes.fuzz import examples
from tests.fakes.plugins import kit, make

both_kinds = pytest.mark.parametrize("arrays", [False, True], ids=["lists", "arrays"])


def kept(plugin: Filter, pool: Candidates) -> list[int]:
    """In order; all when it says None."""
    positions = plugin.keep(cycle(), pool)
    return list(range(len(pool))) if positions is None else sorted(positions)


@both_kinds
@pytest.mark.parametrize(
    ("kind", "parameters", "columns", "expected"),
    [
        ("low-queue-filter", {}, {"waiting": [0, 128, 129, NAN]}, [0, 1, 3]),
        ("low-queue-filter", {"threshold": 5}, {"waiting": [0, 5, 6]}, [0, 1]),
        ("low-queue-filter", {"threshold": 0}, {"waiting": [1, 2]}, []),
        ("least-queue-filter", {}, {"waiting": [0, 10, 30, 3]}, [0, 3]),
        ("least-queue-filter", {}, {"waiting": [4, 4, 4]}, [0, 1, 2]),
        ("least-queue-filter", {}, {"waiting": [4, NAN, 40]}, [0]),
        ("least-queue-filter", {}, {"waiting": [NAN, NAN]}, [0, 1]),
        ("least-kv-cache-filter", {}, {"kv_usage": [0.1, 0.2, 0.9, 0.95]}, [0, 1]),
        (
            "utilization-filter",
            {"conditions": [{"metric": "active-requests", "maxValue": 3}]},
            {"in_flight": [3, 4, 0]},
            [0, 2],
        ),
        (
            "utilization-filter",
            {"conditions": [{"metric": "running-requests", "maxValue": 3}]},
            {"running": [3, 4, NAN]},
            [0, 2],
        ),
        ("utilization-filter", {"conditions": [{"metric": "waiting-queue", "maxValue": 0}]}, {"waiting": [0, 1, 0]}, [0, 2]),
        (
            "utilization-filter",
            {"conditions": [{"metric": "kv-cache-utilization", "maxValue": 0.5}, {"metric": "waiting-queue", "maxValue": 2}]},
            {"kv_usage": [0.5, 0.6, 0.1], "waiting": [2, 0, 3]},
            [0],
        ),
        ("utilization-filter", {"conditions": [{"metric": "waiting-queue", "maxValue": 0}]}, {"waiting": [1, 1]}, []),
        (
            "utilization-filter",
            {"conditions": [{"metric": "waiting-queue", "maxValue": 0}], "fallbackOnEmpty": True},
            {"waiting": [1, 1]},
            [0, 1],
        ),
        ("utilization-detector", {}, {"waiting": [4, 5, 0, NAN, 0], "kv_usage": [0.1, 0.1, 0.8, NAN, NAN]}, [0, 4]),
        ("utilization-detector", {"headroom": 0.5}, {"waiting": [7, 8, 0], "kv_usage": [1.1, 0, 1.3]}, [0]),
        ("utilization-detector", {}, {"waiting": [9, 8], "kv_usage": [0.1, 0.1]}, [0, 1]),
        ("utilization-detector", {}, {"waiting": [NAN, NAN], "kv_usage": [NAN, NAN]}, [0, 1]),
        ("concurrency-detector", {"maxConcurrency": 3}, {"in_flight": [0, 2, 3]}, [0, 1]),
        ("concurrency-detector", {"maxConcurrency": 15, "headroom": 0.1}, {"in_flight": [15, 16]}, [0]),
        ("concurrency-detector", {"maxConcurrency": 1}, {"in_flight": [1, 1]}, []),
    ],
)
def test_who_is_kept(
    kind: str, parameters: Mapping[str, object], columns: Mapping[str, Sequence[float]], expected: list[int], arrays: bool
) -> None:
    assert kept(make(kind, parameters), candidates(arrays=arrays, **columns)) == expected  # type: ignore[arg-type]


@both_kinds
@pytest.mark.parametrize("kind", ["least-queue-filter", "utilization-detector"])
def test_whose_turn_it_is_to_be_tried_stays(kind: str, arrays: bool) -> None:
    """Else nothing would ever be known of it."""
    pool = candidates(waiting=[0, 90, NAN, NAN], kv_usage=[0, 0, NAN, NAN], trial=2, arrays=arrays)
    assert kept(make(kind), pool) == [0, 2]


@given(st.lists(st.one_of(st.just(NAN), st.floats(0, 1000)), min_size=1, max_size=90), st.integers(1, 40))
@examples(100)
def test_lists_and_arrays_agree_and_the_least_is_kept(values: list[float], threshold: int) -> None:
    for kind, parameters in (
        ("least-queue-filter", {}),
        ("low-queue-filter", {"threshold": threshold}),
        ("utilization-detector", {"queueDepthThreshold": threshold}),
    ):
        plugin = make(kind, parameters)
        lists, arrays = (kept(plugin, candidates(waiting=values, arrays=kind)) for kind in (False, True))
        assert lists == arrays
    known = [value for value in values if value == value]
    if known:
        assert values.index(min(known)) in kept(make("least-queue-filter"), candidates(waiting=values))


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("utilization-filter", {}),
        ("utilization-filter", {"conditions": [{"metric": "queue", "maxValue": 1}]}),
        ("utilization-filter", {"conditions": [{"metric": "waiting-queue"}]}),
        ("low-queue-filter", {"threshold": -1}),
        ("lora-affinity-filter", {"threshold": 1.5}),
    ],
)
def test_what_they_cant_be_told(kind: str, parameters: Mapping[str, object]) -> None:
    with pytest.raises(ValidationError):
        make(kind, parameters)


FULL = """
kind: EndpointPickerConfig
plugins: [{type: concurrency-detector, parameters: {maxConcurrency: 2}}, {type: queue-scorer}]
schedulingProfiles:
- {name: default, plugins: [{pluginRef: concurrency-detector}, {pluginRef: queue-scorer}]}
"""


def test_who_keeps_nobody_for_their_load_is_429() -> None:
    blueprint = build_scheduler(load_picker_config(FULL)[0])
    assert blueprint.detector == "concurrency-detector", "one plugin for both"
    scheduler = blueprint.scheduler(seeded())
    pool = candidates(waiting=[0, 9], in_flight=[2, 1])
    assert scheduler.schedule(cycle(), pool).run.endpoint == pool.endpoints[1].key
    with pytest.raises(Saturated, match="concurrency-detector leaves no endpoint"):
        choose(scheduler, candidates(waiting=[0, 9], in_flight=[2, 3]))


# -- trees -------------------------------------------------------------------------------------------------------


def tree(parameters: Mapping[str, object], **filters: Any) -> Filter:
    made: Filter = make("decision-tree-filter", parameters, kit("tree", plugins=filters))
    return made


def ref(name: str) -> dict[str, object]:
    return {"pluginRef": name}


def test_a_tree_asks_by_what_was_left() -> None:
    low, least_queue, least_kv = make("low-queue-filter"), make("least-queue-filter"), make("least-kv-cache-filter")
    filters = {"low": low, "queue": least_queue, "kv": least_kv}
    parameters = {"current": ref("low"), "nextOnSuccess": ref("queue"), "nextOnFailure": ref("kv")}
    whole = tree(parameters, **filters)
    assert kept(whole, candidates(waiting=[500, 3, 120], kv_usage=[0.1, 0.5, 0.9])) == [1], "of those that are low, the least"
    assert kept(whole, candidates(waiting=[3, 3, 3], kv_usage=[0.1, 0.5, 0.9])) == [0, 1, 2]
    assert kept(whole, candidates(waiting=[500, 600, 700], kv_usage=[0.9, 0.5, 0.1])) == [2], "none is low: by cache, of all"
    alone = tree({"current": ref("low")}, **filters)
    assert kept(alone, candidates(waiting=[500, 3])) == [1]
    assert kept(alone, candidates(waiting=[500, 600])) == []


def test_a_tree_in_a_tree() -> None:
    filters = {"low": make("low-queue-filter"), "queue": make("least-queue-filter"), "kv": make("least-kv-cache-filter")}
    inner = {"current": ref("queue"), "nextOnSuccessOrFailure": ref("kv")}
    whole = tree({"current": ref("low"), "nextOnSuccessOrFailure": {"decisionTree": inner}}, **filters)
    assert kept(whole, candidates(waiting=[1, 1, 90, 500], kv_usage=[0.9, 0.2, 0.0, 0.0])) == [1]
    assert kept(whole, candidates(waiting=[300, 300, 500], kv_usage=[0.9, 0.2, 0.0])) == [1]


TREE = """
kind: EndpointPickerConfig
plugins:
- {type: low-queue-filter}
- {type: queue-scorer}
- type: decision-tree-filter
  name: tree
  parameters: PARAMETERS
schedulingProfiles:
- {name: default, plugins: [{pluginRef: tree}]}
"""


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ("{}", "plugins[2].parameters.current: "),
        ("{current: {}}", "plugins[2].parameters.current"),
        ("{current: {pluginRef: nobody}}", "plugins[2].parameters.current.pluginRef: no plugin is called 'nobody'"),
        (
            "{current: {decisionTree: {current: {pluginRef: low-queue-filter}, nextOnFailure: {pluginRef: queue-scorer}}}}",
            "plugins[2].parameters.current.decisionTree.nextOnFailure.pluginRef: 'queue-scorer' is a scorer, expected a filter",
        ),
        ("{current: {pluginRef: tree}}", "plugins need each other in a circle: tree → tree"),
        (
            "{current: {pluginRef: low-queue-filter, decisionTree: {current: {pluginRef: low-queue-filter}}}}",
            "expected either pluginRef or decisionTree",
        ),
    ],
)
def test_trees_that_cant_be(parameters: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_scheduler(load_picker_config(TREE.replace("PARAMETERS", parameters))[0])
    assert problem in "\n".join(caught.value.problems)


def test_a_tree_in_a_config() -> None:
    text = TREE.replace("PARAMETERS", "{current: {pluginRef: low-queue-filter}}")
    scheduler = build_scheduler(load_picker_config(text)[0]).scheduler(seeded())
    assert len(scheduler.schedule(cycle(), candidates(waiting=[500, 3, 4])).run.candidates) == 2
