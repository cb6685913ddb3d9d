from __future__ import annotations

import math
from itertools import product
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.rollouts.samples import Moments
from extproc.rollouts.statistics import ErrorEvidence, TimeEvidence
from tests.rollouts.arms import moments


def _probability(errors: int, requests: int, rate: float) -> float:
    return comb(requests, errors) * rate**errors * (1 - rate) ** (requests - errors)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.floats(0.001, 0.6),
    st.floats(0, 0.2),
    st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(0, 40), st.integers(0, 30)),
    st.floats(0, 0.4),
)
def test_no_block_wins_money_from_a_canary_that_is_no_worse(
    n: int, m: int, rate: float, tolerance: float, before: tuple[int, int, int, int], better: float
) -> None:
    """The mean of the e-value over all that can happen is at most 1: exactly, for every rate that is tolerated."""
    margin = tolerance + 0.05
    evidence = ErrorEvidence().plus(before[0] + before[1], before[1], before[2] + before[3], before[3], tolerance, margin)
    canary = min(max(rate + tolerance - better, 0.0), 1.0)
    after = math.exp(evidence.log_e())
    bad = min(rate + margin + better, 1.0)
    mean = passing = 0.0
    for errors, baseline_errors in product(range(n + 1), range(m + 1)):
        then = evidence.plus(n, errors, m, baseline_errors, tolerance, margin)
        common = _probability(baseline_errors, m, rate)
        mean += math.exp(then.log_e()) * common * _probability(errors, n, canary)
        passing += math.exp(then.passing - evidence.passing) * common * _probability(errors, n, bad)
    assert mean <= after * (1 + 1e-6)
    if rate + margin + better <= 1:
        assert passing <= 1 + 1e-6


def test_errors_of_a_worse_canary_add_up_to_evidence() -> None:
    worse = good = ErrorEvidence()
    for _ in range(50):
        worse = worse.plus(20, 1, 20, 0, 0.0, 0.01)
        good = good.plus(100, 1, 100, 1, 0.0, 0.01)
    assert worse.log_e() > math.log(1000)
    assert worse.difference == 0.05
    assert good.log_e() < 0
    assert good.passing > math.log(20)
    assert worse.passing < 0


def test_a_tolerance_in_points_is_tolerated() -> None:
    evidence = ErrorEvidence()
    for _ in range(100):
        evidence = evidence.plus(100, 3, 100, 1, 0.03, 0.04)
    assert evidence.log_e() < 0


def _blocks(difference: float, blocks: int, cell: str = "", drift: float = 0.0) -> TimeEvidence:
    evidence = TimeEvidence()
    around = (-0.5, -0.2, 0.0, 0.2, 0.5)
    for number in range(blocks):
        level = drift * number
        evidence = evidence.plus(
            {cell: moments([level + difference + each for each in around * 4])},
            {cell: moments([level + each for each in around * 4])},
        )
    return evidence.scaled()


def test_times_of_a_slower_canary_add_up_to_evidence() -> None:
    assert _blocks(math.log(1.2), 20).log_e(0.0, 0.15) > math.log(1000)
    assert _blocks(0.0, 20).log_e(0.0, 0.15) < 0
    assert _blocks(-0.3, 20).log_e(0.0, 0.15) < 0
    assert _blocks(math.log(1.2), 20).log_e(math.log(1.25), 0.15) < 0, "so much is tolerated"


def test_bounds_hold_the_truth_and_close_in() -> None:
    few, many = _blocks(0.1, 5).bounds(0.05, 0.15), _blocks(0.1, 50).bounds(0.05, 0.15)
    for each in (few, many):
        assert each.estimate == pytest.approx(0.1)
        assert each.low < 0.1 < each.high
    assert many.high - many.low < few.high - few.low


def test_what_changes_for_both_is_in_no_difference() -> None:
    still, moving = _blocks(0.1, 30), _blocks(0.1, 30, drift=0.4)
    assert moving.bounds(0.05, 0.15) == pytest.approx(still.bounds(0.05, 0.15))
    assert moving.log_e(0.0, 0.15) == pytest.approx(still.log_e(0.0, 0.15))


def test_only_requests_that_are_alike_are_compared() -> None:
    """Cold prompts take ten times as long, and the canary has more of them: that makes it no slower."""
    warm, cold = (Moments(40, 0.0, 4.0), Moments(10, 2.3, 1.0)), (Moments(10, 0.0, 1.0), Moments(40, 2.3, 4.0))
    evidence = TimeEvidence()
    mixed = TimeEvidence()
    for _ in range(20):
        evidence = evidence.plus({"0|0": cold[0], "1|0": cold[1]}, {"0|0": warm[0], "1|0": warm[1]})
        mixed = mixed.plus({"": cold[0].plus(cold[1])}, {"": warm[0].plus(warm[1])})
    assert evidence.scaled().log_e(0.0, 0.15) < 0
    assert mixed.scaled().log_e(0.0, 0.15) > 100, "or it would have been rolled back for its prompts"


def test_cells_of_one_arm_alone_say_nothing() -> None:
    evidence = TimeEvidence().plus({"a": Moments(50, 3.0, 1.0)}, {"b": Moments(50, 0.0, 1.0)})
    assert (evidence.canary, evidence.baseline) == (0, 0)
    assert evidence.scaled().log_e(0.0, 0.15) == 0.0


def test_times_that_are_all_the_same_do_not_divide_by_zero() -> None:
    evidence = TimeEvidence()
    for _ in range(10):
        evidence = evidence.plus({"": Moments(20, 1.0, 0.0)}, {"": Moments(20, 1.0, 0.0)})
    assert evidence.scaled().log_e(0.0, 0.15) < 0
