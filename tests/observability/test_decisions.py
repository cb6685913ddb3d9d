"""The last decisions."""

from __future__ import annotations

import pytest

from extproc.candidates import Pages
from extproc.domain import NO_LOAD, Endpoint, Load
from extproc.observability.decisions import DecisionLog, DecisionRecord, Outcome
from extproc.scheduling import Profile
from extproc.scheduling.considered import Considered
from extproc.scheduling.plugins.pickers import MaxScorePicker
from tests.fakes.candidates import NAN, FixedScorer, candidates, cycle
from tests.fakes.chance import seeded

RECORD = DecisionRecord(
    at_s=1.0,
    request_id="r",
    model="m",
    target_model=None,
    priority=0,
    pool="p",
    endpoint=Endpoint("10.0.0.1", 8000),
    fallbacks=(),
    score=2.5,
    candidates=3,
    load=Load(waiting=1, running=7.0, kv_usage=0.31),
    waiting=4.0,
    in_flight=5.0,
    took_s=0.0001,
    outcome=Outcome(),
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "queue 4, running 7, kv 31%: 2.50 points, best of 3"),
        ({"load": Load(kv_usage=0.31)}, "queue 4, kv 31%: 2.50 points, best of 3"),
        ({"waiting": NAN, "load": Load(running=7)}, "running 7: 2.50 points, best of 3"),
        ({"waiting": NAN, "load": NO_LOAD}, "load unknown, 5 in flight, of 3"),
        ({"candidates": 1}, "the only candidate"),
    ],
)
def test_reason(changes: dict[str, object], reason: str) -> None:
    assert RECORD._replace(**changes).reason() == reason  # type: ignore[arg-type]


def test_its_signals_are_the_tables() -> None:
    assert RECORD.signals() == {"waiting": 4.0, "running": 7.0, "kv_usage": 0.31, "in_flight": 5.0}
    more = RECORD._replace(waiting=NAN, load=Load(running_loras=("a",))).signals()
    assert more == {"waiting": None, "running": None, "kv_usage": None, "running_loras": ("a",), "in_flight": 5.0}


def log(*request_ids: str, size: int = 1000) -> DecisionLog:
    log = DecisionLog(size)
    for number, request_id in enumerate(request_ids):
        log.add(RECORD._replace(request_id=request_id, at_s=float(number)))
    return log


def test_newest_first() -> None:
    assert [record.request_id for record in log("a", "b", "c").latest()] == ["c", "b", "a"]


def test_the_oldest_go_first() -> None:
    full = log("a", "b", "c", size=2)
    assert len(full) == 2
    assert [record.request_id for record in full.latest()] == ["c", "b"]


def test_one_request() -> None:
    """A retried request has a record for each try."""
    assert [record.at_s for record in log("a", "b", "a").latest(request_id="a")] == [2, 0]
    assert list(log("a").latest(request_id="x")) == []
    assert len(list(log("", "a").latest(request_id=""))) == 1


@pytest.mark.parametrize(("limit", "number"), [(0, 0), (-1, 0), (1, 1), (3, 3), (9, 4)])
def test_limit_counts_what_is_shown(limit: int, number: int) -> None:
    assert len(list(log("a", "b", "a", "b", "a", "a").latest(request_id="a", limit=limit))) == number


def test_no_more_than_a_hundred_unless_asked() -> None:
    assert len(list(log(*["a"] * 150).latest())) == 100


def test_empty() -> None:
    assert len(DecisionLog()) == 0
    assert list(DecisionLog().latest()) == []


def among(number: int) -> Considered:
    given = candidates(number)
    profile = Profile("default", [FixedScorer(*range(number)).weighing(1)], MaxScorePicker())
    run = profile.run(cycle(), given, seeded())
    return Considered(profile, given, run.pick.positions, Pages(given.endpoints, [], []), 0.0, profile.points(cycle(), given))


def test_candidates_of_large_pools_are_forgotten_sooner_than_their_decisions() -> None:
    log = DecisionLog(10, most_numbers=4 * 3 * 3)
    kept = [log.keep(among(3)) for _ in range(6)]
    assert [each.size for each in kept] == [0, 0, 9, 9, 9, 9]
    large = log.keep(among(100))
    assert [each.size for each in (*kept, large)] == [0] * 7, "not even one of such a pool"
    assert log.keep(among(3)).size == 9
    assert len(large.endpoints) == 0
    few = DecisionLog(2)
    kept = [few.keep(among(3)) for _ in range(3)]
    assert [each.size for each in kept] == [0, 9, 9]
