"""What would have had the runner-up picked: told in the smallest step, tried, and only where it can be told."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from extproc.candidates import Candidates, Pages
from extproc.domain import Load
from extproc.scheduling import Profile, WeightedScorer
from extproc.scheduling.considered import Considered
from extproc.scheduling.facts import PrefixMatch
from extproc.scheduling.flips import Flips, flips
from extproc.scheduling.plugins.base import Picker
from extproc.scheduling.plugins.pickers import MaxScorePicker, RandomPicker, WeightedRandomPicker
from extproc.scheduling.plugins.prefix import PrefixScorer
from extproc.scheduling.plugins.scorers import ActiveRequestScorer, KvCacheScorer, LoadAwareScorer, QueueScorer
from tests.fakes.candidates import NAN, REQUEST, FixedScorer, candidates, cycle
from tests.fakes.chance import seeded

A, B, C = (f"10.0.0.{n}:8000" for n in (1, 2, 3))


PREFIX = ("prefix-cache-scorer", PrefixScorer("source"))


def chosen(
    given: Candidates, *scorers: tuple[str, object, float], picker: Picker | None = None, hits: Sequence[float] = ()
) -> Considered:
    """`hits`: shares of the prompt that each has."""
    profile = Profile("default", [WeightedScorer(*each) for each in scorers], picker or MaxScorePicker())  # type: ignore[arg-type]
    profile.keeps_points = True
    asked = cycle()
    asked.facts["source"] = PrefixMatch([100.0 * each for each in hits], 100, 16.0)
    run = profile.run(asked, given, seeded())
    kv = [float(each) for each in given.kv_usage]
    loads = [Load(kv_usage=None if each != each else each) for each in kv]
    return Considered(
        profile, run.candidates, run.pick.positions, Pages(given.endpoints, loads, [9.0] * len(kv)), 10.5, run.points
    )


def told(
    given: Candidates, *scorers: tuple[str, object, float], picker: Picker | None = None, hits: Sequence[float] = ()
) -> Flips:
    return flips(chosen(given, *scorers, picker=picker, hits=hits))


def test_fewer_waiting_requests() -> None:
    """Waiting 2, 5, 9: points 1, 4/7, 0. With 1 the second is the shortest queue; with 2 both are."""
    said = told(candidates(waiting=[2, 5, 9]), ("queue-scorer", QueueScorer(), 1.0))
    assert said.runner_up == B
    assert [(each.what, each.had, each.needed) for each in said.changes] == [("waiting", 5, 1)]
    assert said.words == f"{B} would have won with 4 fewer waiting requests (it had 5)"
    assert said.behind == pytest.approx(3 / 7)


def test_one_request_is_one() -> None:
    """Points 0.45 and 0.4 + 0.03."""
    said = told(candidates(waiting=[1, 2, 9]), ("q", LoadAwareScorer(10), 1.0), (*PREFIX, 1.0), hits=[0, 0.03, 0])
    assert said.words == f"{B} would have won with 1 fewer waiting request (it had 2), or a prefix hit ≥ 0.06 (it had 0.03)"


def test_a_prefix_hit_and_points_of_others() -> None:
    """Totals: 1 + 0.4 and 0.5 + 2 × 0.3: the second needs 0.15 more of a weight of 2, and 0.45 would be a draw."""
    said = told(candidates(2), ("own", FixedScorer(1, 0.5), 1.0), (*PREFIX, 2.0), hits=[0.2, 0.3])
    assert [(each.what, each.needed) for each in said.changes] == [("own", 0.81), ("prefix-cache-scorer", 0.46)]
    assert said.words == f"{B} would have won with points of own ≥ 0.81 (it had 0.5), or a prefix hit ≥ 0.46 (it had 0.3)"


def test_a_cache_that_is_less_full_and_who_may_have_judged_otherwise() -> None:
    given = candidates(kv_usage=[0.2, 0.5])
    said = told(given, ("kv", KvCacheScorer(), 1.0), ("mine", FixedScorer(0.1, 0.1), 1.0))
    kv = said.changes[0]
    assert (kv.what, kv.had, round(kv.needed, 2)) == ("kv_usage", 0.5, 0.19)
    assert said.unless == ("mine",)
    assert "a KV cache 19 % full (it was 50 %)" in said.words
    assert said.words.endswith("; if mine had judged as before")


def test_nothing_alone_is_said() -> None:
    said = told(candidates(2), ("a", FixedScorer(1, 0.9), 5.0), ("b", FixedScorer(1, 0.9), 5.0))
    assert said.changes == ()
    assert said.words == f"{B} was 1.00 points behind: no change of one thing alone would have had it picked"


@pytest.mark.parametrize(
    ("picker", "words"),
    [(RandomPicker(), "each candidate had the same chance"), (WeightedRandomPicker(), "The picker draws by points")],
)
def test_where_chance_decides_nothing_is_made_up(picker: Picker, words: str) -> None:
    said = told(candidates(2), ("a", FixedScorer(0.5, 0.5), 1.0), picker=picker)
    assert words in said.words
    assert said.changes == ()
    assert said.runner_up in (A, B)


def test_a_picker_of_somebody_else() -> None:
    class Own:
        def pick(self, totals: object, candidates: object, random: object) -> list[int]:
            return [1]

    assert "not one of ours" in told(candidates(2), ("a", FixedScorer(1, 0), 1.0), picker=Own()).words


def test_equals_a_trial_and_the_only_one() -> None:
    assert "2 candidates had the same points" in told(candidates(2), ("a", FixedScorer(1, 1), 1.0)).words
    assert told(candidates(1), ("a", FixedScorer(1), 1.0)).words == "It was the only candidate"
    seen = chosen(candidates(2), ("a", FixedScorer(1, 0), 1.0))
    seen = chosen(candidates(2, trial=0), ("a", FixedScorer(1, 0), 1.0))
    assert "its turn to be tried" in flips(seen).words


def test_with_a_tolerance_enough_is_what_leaves_nobody_else_a_turn() -> None:
    """Totals: 1 and 0.5: 0.51 more would be the most points, and within 0.2 they take turns."""
    given = candidates(2, picked_at=[1, 2])
    said = told(given, ("own", FixedScorer(1, 0.5), 1.0), (*PREFIX, 1.0), hits=[0, 0], picker=MaxScorePicker(tolerance=0.2))
    assert [(each.what, each.needed) for each in said.changes] == [("prefix-cache-scorer", 0.71)]
    said = told(
        candidates(kv_usage=[0.1, 0.5], picked_at=[1, 2]),
        ("kv-cache-utilization-scorer", KvCacheScorer(), 2.0),
        ("own", FixedScorer(0, 0.3), 1.0),
        picker=MaxScorePicker(tolerance=0.2),
    )
    assert [(each.what, round(each.needed, 2)) for each in said.changes] == [("kv_usage", 0.14)]


@pytest.mark.parametrize("second", [0.8, 0.95, 1.0, 1.1, 1.2])
def test_whose_turn_it_was_is_said(second: float) -> None:
    """Whether the one that was picked has the most points or nearly."""
    given = candidates(3, picked_at=[1, 2, 3])
    said = told(given, ("a", FixedScorer(1, second, 0.3), 1.0), picker=MaxScorePicker(tolerance=0.2))
    assert said.changes == ()
    assert (said.runner_up, round(said.behind, 2)) == (B, round(1 - second, 2))
    assert said.words == (
        f"2 candidates were as good, within 0.2 points, {B} one of them: they take turns, and of those with the fewest in "
        "flight, or one more, the one was picked that was the longest ago"
    )


def test_what_was_unknown_is_no_number_to_change() -> None:
    said = told(candidates(waiting=[3, NAN]), ("queue-scorer", QueueScorer(), 1.0))
    assert said.changes == ()


def test_what_was_let_go_says_so() -> None:
    seen = chosen(candidates(2), ("a", FixedScorer(1, 0), 1.0))
    assert (seen.size, seen.age_s(0)) == (2 * 3, 1.5)
    seen.let_go()
    assert "not kept any more" in flips(seen).words


def test_later_requests_change_nothing_of_it() -> None:
    given = candidates(waiting=[2, 5], in_flight=[1, 4])
    seen = chosen(given, ("queue-scorer", QueueScorer(), 1.0), ("active", ActiveRequestScorer(), 1.0))
    before = flips(seen)
    given.waiting[0], given.in_flight[0] = 99.0, 99.0
    assert flips(seen) == before
    assert seen.signals(0)["in_flight"] == 1


few = st.lists(st.integers(0, 12), min_size=2, max_size=6)


@drawn(few, st.booleans(), st.sampled_from([0.0, 0.25]))
def test_every_step_that_is_told_is_the_smallest_that_wins(waiting: list[int], arrays: bool, tolerance: float) -> None:
    scorers = (("queue-scorer", QueueScorer(), 2.0), ("f", FixedScorer(*[0.3] * len(waiting)), 1.0))
    picker = MaxScorePicker(tolerance=tolerance)
    seen = chosen(candidates(waiting=[float(each) for each in waiting], arrays=arrays), *scorers, picker=picker)
    said = flips(seen)
    fewer = [each for each in said.changes if each.what == "waiting"]
    second = next((at for at, each in enumerate(seen.endpoints) if each.key == said.runner_up), None)
    if second is None or "the same points" in said.words or "take turns" in said.words:
        return
    winning = []
    for needed in range(waiting[second]):
        changed = [float(each) for each in waiting]
        changed[second] = float(needed)
        again = chosen(candidates(waiting=changed, arrays=arrays), *scorers, picker=picker)
        totals = again.totals(again.points())
        others = max(total for at, total in enumerate(totals) if at != second)
        if again.picked == second and others < totals[second] - tolerance - 1e-9:
            winning.append(needed)
    assert [each.needed for each in fewer] == ([max(winning)] if winning else [])


def test_nothing_that_is_asked_for_is_kept_of_a_request() -> None:
    seen = chosen(candidates(2), ("a", FixedScorer(1, 0), 1.0))
    kept = gc.get_referents(seen)
    assert seen.profile in kept
    assert not [each for each in kept if each is REQUEST]
