"""Formulas against values worked out by hand; lists and arrays give the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extproc.scheduling.plugins.base import Scorer
from extproc.scheduling.plugins.scorers import (
    ActiveRequestScorer,
    KvCacheScorer,
    LoadAwareScorer,
    QueueScorer,
    RunningRequestsScorer,
)
from extproc.scheduling.registry import PLUGIN_TYPES
from tests.fakes.candidates import NAN, candidates, cycle
from tests.fakes.fuzz import examples
from tests.fakes.plugins import kit

both_kinds = pytest.mark.parametrize("arrays", [False, True], ids=["lists", "arrays"])


def active(**parameters: object) -> ActiveRequestScorer:
    """As a config file with these parameters has it."""
    row = PLUGIN_TYPES["active-request-scorer"]
    assert row.make is not None
    made = row.make(row.parameters.model_validate(parameters), kit())
    assert isinstance(made, ActiveRequestScorer)
    return made


def points(scorer: Scorer, arrays: bool, **columns: Sequence[float]) -> list[float]:
    return [float(value) for value in scorer.score(cycle(), candidates(arrays=arrays, **columns))]  # type: ignore[arg-type]


# q, (max - q) / (max - min) over the known
RESCALED: list[tuple[list[float], list[float]]] = [
    ([0, 5, 10], [1, 0.5, 0]),
    ([2, 3, 6], [1, 0.75, 0]),
    ([7], [1]),
    ([3, 3, 3], [1, 1, 1]),
    ([0, 0], [1, 1]),
    ([0, NAN, 4, 1], [1, 0, 0, 0.75]),
    ([NAN, 3, 3], [0, 1, 1]),
    ([NAN, 9], [0, 1]),
    ([NAN, NAN], [0, 0]),
    ([NAN], [0]),
]


@both_kinds
@pytest.mark.parametrize(("column", "expected"), RESCALED)
def test_queue_scorer(column: list[float], expected: list[float], arrays: bool) -> None:
    assert points(QueueScorer(), arrays, waiting=column) == pytest.approx(expected)


@both_kinds
@pytest.mark.parametrize(("column", "expected"), RESCALED)
def test_running_requests_size_scorer(column: list[float], expected: list[float], arrays: bool) -> None:
    assert points(RunningRequestsScorer(), arrays, running=column) == pytest.approx(expected)


@both_kinds
def test_load_aware_scorer(arrays: bool) -> None:
    assert points(LoadAwareScorer(), arrays, waiting=[0, 64, 128, 999, NAN]) == pytest.approx([0.5, 0.25, 0, 0, 0])
    assert points(LoadAwareScorer(10), arrays, waiting=[5]) == pytest.approx([0.25])


def test_parameters_that_upstream_never_read_are_told() -> None:
    for kind, name in (("queue-scorer", "maxQueueSize"), ("kv-cache-utilization-scorer", "maxKVCacheUsage")):
        row = PLUGIN_TYPES[kind]
        assert row.note is not None
        assert (
            row.note(row.parameters.model_validate({name: 1})) == f"{name} has no effect, upstream's plugin reads no parameters"
        )
        assert row.note(row.parameters.model_validate({})) == ""
    assert "kv-cache-scorer" in PLUGIN_TYPES["kv-cache-utilization-scorer"].older


@both_kinds
def test_kv_cache_utilization_scorer(arrays: bool) -> None:
    assert points(KvCacheScorer(), arrays, kv_usage=[0, 0.25, 1, NAN]) == pytest.approx([1, 0.75, 0, 0])


@both_kinds
@pytest.mark.parametrize(
    ("parameters", "column", "expected"),
    [
        ({}, [0, 0], [1, 1]),
        ({}, [0, 1, 4], [1, 0.75, 0]),
        ({}, [4, 4], [0, 0]),
        ({"idleThreshold": 2}, [0, 2, 3, 4], [1, 1, 0.25, 0]),
        ({"idleThreshold": 9}, [0, 2, 3, 4], [1, 1, 1, 1]),
        ({"maxBusyScore": 0.5}, [0, 1, 4], [1, 0.375, 0]),
        ({"maxBusyScore": 0}, [0, 1, 4], [1, 0, 0]),
    ],
)
def test_active_request_scorer(parameters: dict[str, object], column: list[float], expected: list[float], arrays: bool) -> None:
    assert points(active(**parameters), arrays, in_flight=column) == pytest.approx(expected)


@pytest.mark.parametrize("parameters", [{"idleThreshold": -1}, {"maxBusyScore": 1.1}, {"maxBusyScore": -0.1}, {"idle": 1}])
def test_active_request_parameters_have_a_range(parameters: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        active(**parameters)


def test_active_request_parameters_of_upstream_are_accepted() -> None:
    active(inFlightLoadProducerName="inflight-load-producer", requestTimeout="5m")


SCORERS: dict[str, Scorer] = {
    "waiting": QueueScorer(),
    "running": RunningRequestsScorer(),
    "kv_usage": KvCacheScorer(),
    "in_flight": active(),
}


@both_kinds
@pytest.mark.parametrize("signal", ["waiting", "running", "kv_usage"])
def test_the_unknown_never_beats_a_known_idle_one(signal: str, arrays: bool) -> None:
    """Read as zero load, a pod that was never scraped would attract all traffic."""
    unknown, idle, busy = points(SCORERS[signal], arrays, **{signal: [NAN, 0.0, 0.9]})
    assert unknown == 0
    assert idle == 1
    assert unknown <= busy < idle


def test_what_is_live_is_not_kept_from_request_to_request() -> None:
    """The queue's projection and the requests in flight change with every pick; the pages' own values don't."""
    assert {name: scorer.per_snapshot for name, scorer in SCORERS.items()} == {
        "waiting": False,
        "running": True,
        "kv_usage": True,
        "in_flight": False,
    }


counts = st.one_of(st.just(NAN), st.integers(0, 5).map(float), st.floats(0, 1e6))
shares = st.one_of(st.just(NAN), st.floats(0, 1))


@examples(50)
@given(
    st.lists(st.tuples(counts, counts, shares, st.integers(0, 500)), min_size=1, max_size=12),
    st.builds(lambda idle, most: active(idleThreshold=idle, maxBusyScore=most), st.integers(0, 5), st.floats(0, 1)),
)
def test_lists_and_arrays_agree_and_points_stay_in_range(
    rows: list[tuple[float, float, float, int]], active_scorer: ActiveRequestScorer
) -> None:
    waiting, running, kv_usage, in_flight = (list(column) for column in zip(*rows, strict=True))
    columns: dict[str, list[float]] = {"waiting": waiting, "running": running, "kv_usage": kv_usage}
    for scorer in (*SCORERS.values(), active_scorer):
        lists = points(scorer, False, **columns, in_flight=in_flight)
        arrays = points(scorer, True, **columns, in_flight=in_flight)
        assert lists == pytest.approx(arrays, abs=1e-12)
        assert all(0 <= value <= 1 for value in lists + arrays)
