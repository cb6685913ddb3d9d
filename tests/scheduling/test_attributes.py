"""Plugins that go by any number that pages tell of endpoints; lists and arrays give the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extproc.candidates import Candidates
from extproc.domain import NO_LOAD, Load
from extproc.scheduling import build_scheduler
from extproc.scheduling.attributes import CORE, Attribute
from extproc.settings.picker import load_picker_config
from tests.fakes.candidates import NAN, candidates, cycle
from tests.fakes.chance import seeded
from tests.fakes.fuzz import examples
from tests.fakes.plugins import make

both_kinds = pytest.mark.parametrize("arrays", [False, True], ids=["lists", "arrays"])


def pool(values: Sequence[float | None], *, arrays: bool = False, trial: int = -1, stamp: object = None) -> Candidates:
    """Endpoints with these values of `heat`; None is unknown."""
    loads = [NO_LOAD if value is None else Load(attributes={"heat": value}) for value in values]
    return candidates(loads=loads, arrays=arrays, trial=trial, stamp=stamp)


def kept(everyone: Candidates, algorithm: Mapping[str, object], **parameters: object) -> list[int]:
    plugin = make("endpoint-attribute-filter", {"attribute": "heat", "algorithm": algorithm, **parameters})
    positions = plugin.keep(cycle(), everyone)
    return list(range(len(everyone))) if positions is None else list(positions)


def threshold(operator: str, value: float) -> dict[str, object]:
    return {"type": "threshold", "threshold": {"operator": operator, "value": value}}


@both_kinds
@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (threshold("LessThan", 2), [0]),
        (threshold("LessThanOrEqual", 2), [0, 1]),
        (threshold("GreaterThan", 2), [2, 4]),
        (threshold("GreaterThanOrEqual", 2), [1, 2, 4]),
        (threshold("Equal", 2), [1]),
        (threshold("NotEqual", 2), [0, 2, 4]),
        ({"type": "range", "range": {"min": 2, "max": 5}}, [1, 2]),
        ({"type": "topK", "topK": {"k": 2}}, [2, 4]),
        ({"type": "topK", "topK": {"k": 2, "higherIsBetter": False}}, [0, 1]),
        ({"type": "topK", "topK": {"k": 9}}, [0, 1, 2, 4]),
        ({"type": "percentile", "percentile": {"percentile": 50, "higherIsBetter": False}}, [0, 1]),
        ({"type": "percentile", "percentile": {"percentile": 51}}, [2, 4]),
        ({"type": "percentile", "percentile": {"percentile": 0}}, [0, 1, 2, 4]),
        ({"type": "percentile", "percentile": {"percentile": 100}}, [4]),
    ],
)
def test_who_is_kept(algorithm: Mapping[str, object], expected: list[int], arrays: bool) -> None:
    everyone = pool([1, 2, 5, None, 7], arrays=arrays)
    assert kept(everyone, algorithm, onMissing="Fail") == expected
    assert kept(everyone, algorithm) == sorted([*expected, 3]), "who says nothing passes unless it is told otherwise"


@both_kinds
def test_when_nobody_would_be_left(arrays: bool) -> None:
    everyone = pool([1, 2], arrays=arrays)
    assert kept(everyone, threshold("GreaterThan", 9)) == []
    assert kept(everyone, threshold("GreaterThan", 9), fallbackOnEmpty=True) == [0, 1]
    unknown = pool([None, None], arrays=arrays)
    for algorithm in (
        threshold("Equal", 1),
        {"type": "topK", "topK": {"k": 1}},
        {"type": "percentile", "percentile": {"percentile": 9}},
    ):
        assert kept(unknown, algorithm, onMissing="Fail") == []
        assert kept(unknown, algorithm) == [0, 1]


def test_whose_turn_it_is_to_be_tried_stays() -> None:
    assert kept(pool([1, 9, None, None], trial=3), threshold("LessThan", 5), onMissing="Fail") == [0, 3]


@pytest.mark.parametrize(
    "parameters",
    [
        {"attribute": "heat"},
        {"algorithm": threshold("Equal", 1)},
        {"attribute": "", "algorithm": threshold("Equal", 1)},
        {"attribute": "heat", "algorithm": threshold("Near", 1)},
        {"attribute": "heat", "algorithm": {"type": "threshold"}},
        {"attribute": "heat", "algorithm": {"type": "range", "range": {"min": 2, "max": 1}}},
        {"attribute": "heat", "algorithm": {"type": "topK", "topK": {"k": 0}}},
        {"attribute": "heat", "algorithm": {"type": "percentile", "percentile": {"percentile": 101}}},
        {"attribute": "heat", "algorithm": {**threshold("Equal", 1), "topK": {"k": 1}}},
        {"attribute": "heat", "algorithm": threshold("Equal", 1), "onMissing": "Perhaps"},
    ],
)
def test_filters_that_cant_be(parameters: Mapping[str, object]) -> None:
    with pytest.raises(ValidationError):
        make("endpoint-attribute-filter", parameters)


def points(everyone: Candidates, kind: str, **normalization: object) -> list[float]:
    algorithm: dict[str, object] = {"type": f"linear_{kind}_is_better"}
    if normalization:
        algorithm["normalization"] = normalization
    scorer = make("endpoint-attribute-scorer", {"attributeKey": "heat", "algorithm": algorithm})
    return [float(value) for value in scorer.score(cycle(), everyone)]


@both_kinds
def test_points_over_the_candidates_range(arrays: bool) -> None:
    everyone = pool([1, 2, None, 5], arrays=arrays)
    assert points(everyone, "lower") == pytest.approx([1, 0.75, 0, 0])
    assert points(everyone, "higher", adaptiveRange={}) == pytest.approx([0, 0.25, 0, 1])
    assert points(pool([3, None, 3], arrays=arrays), "lower") == [1, 0, 1]
    assert points(pool([3, None, 3], arrays=arrays), "higher") == [1, 0, 1]
    assert points(pool([None, None], arrays=arrays), "higher") == [0, 0]


@both_kinds
def test_points_over_a_fixed_range(arrays: bool) -> None:
    everyone = pool([-1, 0, 2.5, 10, 11, None], arrays=arrays)
    fixed = {"min": 0, "max": 10}
    assert points(everyone, "lower", fixedRange=fixed) == pytest.approx([1, 1, 0.75, 0, 0, 0])
    assert points(everyone, "higher", fixedRange=fixed) == pytest.approx([0, 0, 0.25, 1, 1, 0])


@pytest.mark.parametrize(
    "algorithm",
    [
        {},
        {"type": "linear"},
        {"type": "linear_lower_is_better", "normalization": {"fixedRange": {"min": 1, "max": 1}}},
        {"type": "linear_lower_is_better", "normalization": {"fixedRange": {"min": 1}}},
        {"type": "linear_lower_is_better", "normalization": {"fixedRange": {"min": 0, "max": 1}, "adaptiveRange": {"a": 1}}},
    ],
)
def test_scorers_that_cant_be(algorithm: Mapping[str, object]) -> None:
    with pytest.raises(ValidationError):
        make("endpoint-attribute-scorer", {"attributeKey": "heat", "algorithm": algorithm})


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=80), st.sampled_from(["lower", "higher"]))
@examples(100)
def test_points_are_shares_and_the_best_has_all(values: list[float | None], kind: str) -> None:
    lists, arrays = points(pool(values), kind), points(pool(values, arrays=True), kind)
    assert lists == pytest.approx(arrays)
    assert all(0.0 <= each <= 1.0 for each in lists)
    known = [value for value in values if value is not None]
    if known:
        best = values.index(min(known) if kind == "lower" else max(known))
        assert lists[best] == pytest.approx(1.0)


def test_signals_under_upstreams_names() -> None:
    load = Load(waiting=1, running=2, kv_usage=0.5, max_loras=4, kv_block_size=16, kv_blocks=100)
    everyone = candidates(waiting=[3], running=[2], kv_usage=[0.5], loads=[load])
    found = {name: list(Attribute(name).column(everyone)) for name in CORE}
    assert found == {
        "WaitingQueueSize": [3],
        "RunningRequestsSize": [2],
        "KVCacheUsagePercent": [0.5],
        "MaxActiveModels": [4],
        "CacheBlockSize": [16],
        "CacheNumBlocks": [100],
    }
    (nothing,) = Attribute("MaxActiveModels").column(candidates(1))
    assert nothing != nothing
    assert Attribute("WaitingQueueSize").is_live


def test_a_column_is_kept_until_the_next_page() -> None:
    attribute = Attribute("heat")
    assert list(attribute.column(pool([1], stamp="a"))) == [1]
    assert list(attribute.column(pool([2], stamp="a"))) == [1]
    assert list(attribute.column(pool([2], stamp="b"))) == [2]


@both_kinds
def test_scorers_of_clusters(arrays: bool) -> None:
    names = ("llm-d.ai/multicluster-queue-size", "llm-d.ai/multicluster-kv-cache-utilization")
    told: Any = [{names[0]: 4, names[1]: 0.25}, {names[0]: 12, names[1]: 1.0}, None]
    everyone = candidates(loads=[Load(attributes=each) for each in told], arrays=arrays)
    assert list(make("multicluster-queue-scorer").score(cycle(), everyone)) == [1, 0, 0]
    assert list(make("multicluster-kv-cache-utilization-scorer").score(cycle(), everyone)) == [0.75, 0, 0]


CONFIG = """
kind: EndpointPickerConfig
plugins:
- type: endpoint-attribute-filter
  parameters: {attribute: heat, algorithm: {type: threshold, threshold: {operator: LessThan, value: 5}}}
- {type: endpoint-attribute-scorer, parameters: {attributeKey: WaitingQueueSize, algorithm: {type: linear_lower_is_better}}}
- {type: multicluster-queue-scorer}
schedulingProfiles:
- {name: default, plugins: [{pluginRef: endpoint-attribute-filter}, {pluginRef: endpoint-attribute-scorer}]}
"""


def test_which_attributes_are_read_is_known_of_those_that_are_used() -> None:
    blueprint = build_scheduler(load_picker_config(CONFIG)[0])
    assert blueprint.attributes == {"heat", "WaitingQueueSize"}
    scheduler = blueprint.scheduler(seeded())
    loads = [Load(attributes={"heat": 9}), Load(attributes={"heat": 1}), NO_LOAD]
    everyone = candidates(waiting=[0, 3, NAN], loads=loads)
    assert scheduler.schedule(cycle(), everyone).run.endpoint == everyone.endpoints[1].key
