"""Profiles: weighted sums, kept as long as they may be, and explained."""

from __future__ import annotations

import pytest

from extproc.errors import NoEndpoints
from extproc.scheduling import Profile, Scheduler, WeightedScorer
from extproc.scheduling.plugins.pickers import MaxScorePicker
from extproc.scheduling.plugins.scorers import ActiveRequestScorer, KvCacheScorer, QueueScorer, RunningRequestsScorer
from extproc.scheduling.profile import MOST_EXPLAINED
from tests.fakes.candidates import NAN, FixedScorer, candidates, choose, explained
from tests.fakes.chance import seeded

both_kinds = pytest.mark.parametrize("arrays", [False, True], ids=["lists", "arrays"])
FALLBACKS = 3


def scheduler(*scorers: WeightedScorer, named: int = FALLBACKS) -> Scheduler:
    return Scheduler([Profile("default", scorers, MaxScorePicker(named))], seeded())


@both_kinds
def test_the_total_is_the_sum_of_points_times_weight(arrays: bool) -> None:
    """0: 2 × 1 + 3 × 0 = 2; 1: 2 × 0.5 + 3 × 0.5 = 2.5; 2: 2 × 0 + 3 × 1 = 3."""
    one, other = FixedScorer(1, 0.5, 0, per_snapshot=True), FixedScorer(0, 0.5, 1)
    chosen = choose(scheduler(one.weighing(2), other.weighing(3)), candidates(3, arrays=arrays))
    assert list(chosen.positions) == [2, 1, 0]
    assert chosen.score == pytest.approx(3)


@both_kinds
@pytest.mark.parametrize(("weights", "winner"), [((1, 2), 1), ((2, 1), 0), ((1, 0), 0), ((0.1, 0.2), 1)])
def test_weights_decide(weights: tuple[float, float], winner: int, arrays: bool) -> None:
    scorers = [FixedScorer(1, 0).weighing(weights[0]), FixedScorer(0, 1).weighing(weights[1])]
    assert choose(scheduler(*scorers), candidates(2, arrays=arrays)).positions[0] == winner


@both_kinds
def test_upstreams_default_on_real_signals(arrays: bool) -> None:
    """queue 2, kv 2. a: 2 × 0 + 2 × 0.9; b: 2 × 1 + 2 × 0.5; c: 2 × 0.5 + 2 × 0.8; d is unknown."""
    given = candidates(waiting=[4, 0, 2, NAN], kv_usage=[0.1, 0.5, 0.2, NAN], arrays=arrays)
    told = explained(scheduler(WeightedScorer("q", QueueScorer(), 2), WeightedScorer("kv", KvCacheScorer(), 2)), given)
    assert [row.endpoint for row in told.candidates] == [given.endpoints[i] for i in (1, 2, 0, 3)]
    assert [row.total for row in told.candidates] == pytest.approx([3.0, 2.6, 1.8, 0.0])


def test_no_scorer_leaves_all_equal() -> None:
    chosen = choose(scheduler(), candidates(in_flight=[3, 0]))
    assert chosen.score == 0
    assert chosen.positions[0] == 1


def test_no_candidate_is_no_endpoint() -> None:
    with pytest.raises(NoEndpoints):
        choose(scheduler(FixedScorer().weighing(1)), candidates(0))


def test_all_unknown_still_picks() -> None:
    given = candidates(3, in_flight=[2, 2, 2])
    scorers = [WeightedScorer("q", QueueScorer()), WeightedScorer("kv", KvCacheScorer())]
    assert choose(scheduler(*scorers), given).score == 0


class TestKept:
    def test_what_depends_on_pages_is_scored_once_for_a_stamp(self) -> None:
        kept, live = FixedScorer(1, 0, per_snapshot=True), FixedScorer(0, 0.5)
        chooser = scheduler(kept.weighing(1), live.weighing(1))
        first = candidates(2, stamp="page 1")
        for _ in range(3):
            assert choose(chooser, first).positions[0] == 0
        assert (kept.asked, live.asked) == (1, 3)

    def test_a_new_stamp_is_scored_anew(self) -> None:
        kept = FixedScorer(1, 0, per_snapshot=True)
        chooser = scheduler(kept.weighing(1))
        assert choose(chooser, candidates(2, stamp="page 1")).positions[0] == 0
        kept.points = [0, 1]
        assert choose(chooser, candidates(2, stamp="page 2")).positions[0] == 1
        assert kept.asked == 2

    @both_kinds
    def test_live_points_do_not_add_up_from_request_to_request(self, arrays: bool) -> None:
        chooser = scheduler(FixedScorer(0.5, 0.25, per_snapshot=True).weighing(1), FixedScorer(0.25, 0).weighing(1))
        given = candidates(2, arrays=arrays)
        assert [choose(chooser, given).score for _ in range(3)] == [0.75] * 3

    def test_pools_of_other_sizes_do_not_mix(self) -> None:
        chooser = scheduler(WeightedScorer("r", RunningRequestsScorer()))
        assert choose(chooser, candidates(running=[3, 1])).positions[0] == 1
        assert choose(chooser, candidates(running=[5, 3, 1])).positions[0] == 2


class TestExplanation:
    @both_kinds
    def test_says_what_was_known_and_what_it_was_worth(self, arrays: bool) -> None:
        given = candidates(waiting=[0, NAN], running=[2, NAN], kv_usage=[0.25, NAN], in_flight=[1, 0], arrays=arrays)
        told = explained(
            scheduler(WeightedScorer("kv", KvCacheScorer(), 2), WeightedScorer("active", ActiveRequestScorer(), 0.5)), given
        )
        assert told.profile == "default"
        assert told.weights == {"kv": 2, "active": 0.5}
        best, other = told.candidates
        assert best.endpoint == given.endpoints[0]
        assert best.signals == {"waiting": 0, "running": 2, "kv_usage": 0.25, "in_flight": 1}
        assert best.points == {"kv": 0.75, "active": 0}
        assert best.total == 1.5
        assert other.signals == {"waiting": None, "running": None, "kv_usage": None, "in_flight": 0}
        assert other.points == {"kv": 0, "active": 1}
        assert other.total == 0.5

    def test_agrees_with_the_choice_and_changes_nothing(self) -> None:
        chooser = scheduler(FixedScorer(0.1, 0.9, 0.5).weighing(1))
        given = candidates(3)
        before = choose(chooser, given)
        told = explained(chooser, given)
        assert [given.endpoints.index(row.endpoint) for row in told.candidates] == list(before.positions)
        after = choose(chooser, given)
        assert (after.positions, after.score, after.totals) == (before.positions, before.score, before.totals)


def test_of_many_candidates_the_best_are_explained() -> None:
    """And those that were picked, best or not: telling of each of thousands would hold up picks."""
    given = candidates(waiting=[float(number) for number in range(3000)])
    told = explained(
        scheduler(WeightedScorer("q", QueueScorer(), 1)), given, also=(given.endpoints[2999].key, given.endpoints[3].key)
    )
    assert [row.signals["waiting"] for row in told.candidates] == [*range(MOST_EXPLAINED), 2999]
