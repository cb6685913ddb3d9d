"""From points to an ordered choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.candidates import Candidates
from extproc.scheduling.plugins.base import Picker
from extproc.scheduling.plugins.pickers import (
    MaxScorePicker,
    RandomPicker,
    WeightedRandomPicker,
)
from tests.fakes.candidates import candidates
from tests.fakes.chance import Draws, seeded
from tests.fakes.fuzz import examples

Make: TypeAlias = Callable[[int], Picker]
PICKERS: tuple[Make, ...] = (MaxScorePicker, RandomPicker, WeightedRandomPicker)
both_kinds = pytest.mark.parametrize("arrays", [False, True], ids=["lists", "arrays"])


def of(
    totals: Sequence[float],
    in_flight: Sequence[float] | None = None,
    picked_at: Sequence[float] | None = None,
    *,
    arrays: bool = False,
) -> Candidates:
    """Candidates whose `running` column holds the totals, so that they are of the same kind."""
    return candidates(running=totals, in_flight=in_flight or [0.0] * len(totals), picked_at=picked_at, arrays=arrays)


def pick(picker: Picker, given: Candidates, random: object = None) -> list[int]:
    return [int(p) for p in picker.pick(given.running, given, random or seeded())]  # type: ignore[arg-type]


@both_kinds
class TestMaxScore:
    def test_most_points_win_without_a_draw(self, arrays: bool) -> None:
        assert pick(MaxScorePicker(), of([0.1, 0.9, 0.5], arrays=arrays), Draws()) == [1]

    @pytest.mark.parametrize(
        ("draws", "in_flight", "winner"),
        [
            ((0.0, 0.0), [5, 1, 9], 1),  # 0 and 1: the second is less busy
            ((0.0, 0.0), [1, 5, 9], 0),
            ((0.0, 0.99), [5, 1, 2], 2),  # 0 and 2: 1 is not drawn
            ((0.99, 0.0), [7, 1, 5], 2),  # 2 and 0
            ((0.4, 0.4), [3, 3, 3], 1),  # 1 and 0, equally busy: the first draw
        ],
    )
    def test_among_equals_the_less_busy_of_two(
        self, draws: tuple[float, float], in_flight: list[float], winner: int, arrays: bool
    ) -> None:
        assert pick(MaxScorePicker(), of([1, 1, 1], in_flight, arrays=arrays), Draws(*draws)) == [winner]

    def test_the_two_are_never_the_same(self, arrays: bool) -> None:
        given = of([1, 1], [9, 0], arrays=arrays)
        random = seeded()
        assert {pick(MaxScorePicker(), given, random)[0] for _ in range(50)} == {1}

    def test_equal_but_for_rounding(self, arrays: bool) -> None:
        given = of([0.1 + 0.2, 0.3], [9, 0], arrays=arrays)
        assert pick(MaxScorePicker(), given) == [1]

    def test_only_equals_are_drawn(self, arrays: bool) -> None:
        given = of([1, 0.9, 1, 0.9], [5, 0, 5, 0], arrays=arrays)
        random = seeded()
        assert Counter(pick(MaxScorePicker(), given, random)[0] for _ in range(200)).keys() == {0, 2}

    def test_fallbacks_follow_by_points_then_by_requests_in_flight(self, arrays: bool) -> None:
        given = of([0.5, 0.9, 0.5, 0.7, 0.1], [4, 0, 2, 9, 0], arrays=arrays)
        assert pick(MaxScorePicker(4), given) == [1, 3, 2, 0]

    def test_a_burst_spreads(self, arrays: bool) -> None:
        """100 picks on equal points before any page comes: nobody gets far more than a tenth."""
        load = [0.0] * 10
        random = seeded(3)
        for _ in range(100):
            (first,) = pick(MaxScorePicker(), of([1] * 10, load, arrays=arrays), random)
            load[first] += 1
        assert max(load) - min(load) <= 4


@both_kinds
class TestInTurn:
    """`max-score-picker` with a tolerance."""

    @pytest.mark.parametrize(
        ("tolerance", "winner"),
        [
            (0.05, 0),  # nobody else is as good
            (0.1, 1),  # exactly so much less is
            (0.19, 1),
            (0.2, 2),
            (5.0, 3),
        ],
    )
    def test_of_all_within_it_who_was_picked_the_longest_ago(self, tolerance: float, winner: int, arrays: bool) -> None:
        given = of([1.0, 0.9, 0.8, 0.0], picked_at=[9, 7, 4, 1], arrays=arrays)
        assert pick(MaxScorePicker(tolerance=tolerance), given, Draws()) == [winner]

    def test_who_is_busier_by_more_than_a_request_has_no_turn(self, arrays: bool) -> None:
        given = of([1.0, 0.95, 0.9, 0.0], [5, 3, 4, 0], [1, 9, 2, 3], arrays=arrays)
        assert pick(MaxScorePicker(tolerance=0.2), given, Draws()) == [2]

    def test_those_that_never_were_picked_are_drawn(self, arrays: bool) -> None:
        given = of([1.0, 0.9, 0.95], picked_at=[0, 3, 0], arrays=arrays)
        assert [pick(MaxScorePicker(tolerance=0.2), given, Draws(draw)) for draw in (0.0, 0.49, 0.5, 0.99)] == [
            [0],
            [0],
            [2],
            [2],
        ]

    def test_asking_is_no_turn(self, arrays: bool) -> None:
        given = of([1.0, 1.0, 1.0], picked_at=[2, 1, 3], arrays=arrays)
        picker = MaxScorePicker(tolerance=0.2)
        assert [pick(picker, given, Draws()) for _ in range(3)] == [[1]] * 3

    def test_fallbacks_follow_by_points(self, arrays: bool) -> None:
        given = of([1.0, 0.9, 0.95, 0.2], picked_at=[2, 1, 3, 0], arrays=arrays)
        assert pick(MaxScorePicker(3, tolerance=0.2), given, Draws()) == [1, 0, 2]

    def test_where_nobody_counts_picks_equals_are_drawn(self, arrays: bool) -> None:
        seen = of([1.0, 1.0, 0.9], [9, 0, 0], arrays=arrays)
        given = Candidates(seen.endpoints, seen.waiting, seen.running, seen.kv_usage, seen.in_flight, object())
        assert pick(MaxScorePicker(tolerance=0.2), given, Draws(0.0, 0.0)) == [1]


@both_kinds
@pytest.mark.parametrize("picker", PICKERS)
class TestEvery:
    def test_one_candidate(self, picker: Make, arrays: bool) -> None:
        for points in (0.0, 0.7):
            assert pick(picker(3), of([points], arrays=arrays)) == [0]

    @pytest.mark.parametrize(("asked", "named"), [(-1, 1), (0, 1), (1, 1), (2, 2), (4, 4), (9, 4)])
    def test_max_num_of_endpoints(self, picker: Make, arrays: bool, asked: int, named: int) -> None:
        for totals in ([0.2, 0.8, 0.4, 0.6], [0.0] * 4, [1.0, 0.0, 0.0, 0.0]):
            positions = pick(picker(asked), of(totals, arrays=arrays))
            assert len(positions) == len(set(positions)) == named
            assert set(positions) <= set(range(4))


@both_kinds
class TestRandom:
    def test_is_uniform(self, arrays: bool) -> None:
        given = of([0.9, 0.1, 0.0, 0.5], arrays=arrays)
        random = seeded(7)
        drawn = Counter(pick(RandomPicker(), given, random)[0] for _ in range(2000))
        assert all(400 < drawn[position] < 600 for position in range(4))

    def test_every_order_of_fallbacks_is_as_likely(self, arrays: bool) -> None:
        given = of([0.9, 0.1, 0.0], arrays=arrays)
        random = seeded(7)
        drawn = Counter(tuple(pick(RandomPicker(3), given, random)) for _ in range(3000))
        assert len(drawn) == 6
        assert all(400 < number < 600 for number in drawn.values())


@both_kinds
class TestWeightedRandom:
    @pytest.mark.parametrize("scale", [1.0, 4.0, 1e-6])
    def test_the_chance_is_in_proportion_to_the_points(self, arrays: bool, scale: float) -> None:
        given = of([0.6 * scale, 0.3 * scale, 0.1 * scale], arrays=arrays)
        random = seeded(7)
        drawn = Counter(pick(WeightedRandomPicker(), given, random)[0] for _ in range(2000))
        for position, share in enumerate((0.6, 0.3, 0.1)):
            assert drawn[position] / 2000 == pytest.approx(share, abs=0.04)

    def test_without_points_there_is_no_chance_while_another_has_some(self, arrays: bool) -> None:
        given = of([0.0, 1e-9, 0.0], arrays=arrays)
        random = seeded(7)
        assert {pick(WeightedRandomPicker(), given, random)[0] for _ in range(100)} == {1}

    def test_all_without_points_are_equal(self, arrays: bool) -> None:
        random = seeded(7)
        drawn = Counter(pick(WeightedRandomPicker(), of([0.0] * 4, arrays=arrays), random)[0] for _ in range(2000))
        assert all(400 < drawn[position] < 600 for position in range(4))

    def test_those_without_points_come_last_in_random_order(self, arrays: bool) -> None:
        given = of([0.0, 0.5, 0.0, 0.5], arrays=arrays)
        random = seeded(7)
        orders = [pick(WeightedRandomPicker(4), given, random) for _ in range(200)]
        assert {frozenset(order[:2]) for order in orders} == {frozenset({1, 3})}
        assert {tuple(order[2:]) for order in orders} == {(0, 2), (2, 0)}


@examples(50)
@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 9)), min_size=1, max_size=8),
    st.integers(1, 10),
    st.integers(0, 1000),
    st.sampled_from(PICKERS),
)
def test_positions_are_valid_and_the_best_comes_first(
    rows: list[tuple[float, int]], number: int, seed: int, picker: Make
) -> None:
    totals, in_flight = (list(column) for column in zip(*rows, strict=True))
    chosen = pick(picker(number), of(totals, in_flight), seeded(seed))
    assert len(chosen) == len(set(chosen)) == min(number, len(rows))
    assert set(chosen) <= set(range(len(rows)))
    if picker is MaxScorePicker:
        got = [totals[position] for position in chosen]
        assert got[0] >= max(totals) - 2e-9  # closer than that is equal
        assert got[1:] == sorted(got[1:], reverse=True)
    if picker is WeightedRandomPicker:
        assert totals[chosen[0]] > 0 or max(totals) == 0


@examples(100)
@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=8),
    st.integers(1, 6),
    st.booleans(),
    st.integers(0, 1000),
)
def test_who_takes_turns_is_nearly_the_best_nearly_the_least_busy_and_waited_longest(
    rows: list[tuple[int, int, int]], tenths: int, arrays: bool, seed: int
) -> None:
    totals, in_flight, picked_at = (list(column) for column in zip(*rows, strict=True))
    given_ = of([each / 10 for each in totals], in_flight, picked_at, arrays=arrays)
    (chosen,) = pick(MaxScorePicker(tolerance=tenths / 10), given_, seeded(seed))
    good = [at for at, total in enumerate(totals) if total >= max(totals) - tenths]
    least = min(in_flight[at] for at in good)
    assert chosen in good
    assert in_flight[chosen] <= least + 1
    assert picked_at[chosen] == min(picked_at[at] for at in good if in_flight[at] <= least + 1)
