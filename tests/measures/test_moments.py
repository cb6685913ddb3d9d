"""Moments are those of the values, however they were added up and subtracted."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.measures import NO_MOMENTS, Moments
from extproc.measures.moments import Spread

VALUES = st.lists(st.floats(-20, 20), max_size=200)


def of(values: list[float]) -> Moments:
    spread = Spread()
    for value in values:
        spread.add(value)
    return spread.moments()


def same(mine: Moments, values: list[float]) -> None:
    assert mine.n == len(values)
    assert mine.mean == pytest.approx(statistics.fmean(values) if values else 0.0, abs=1e-9)
    assert mine.variance == pytest.approx(statistics.variance(values) if len(values) > 1 else 0.0, abs=1e-7)


@given(VALUES)
def test_of_values(values: list[float]) -> None:
    same(of(values), values)


@given(VALUES, VALUES)
def test_of_both(some: list[float], others: list[float]) -> None:
    same(of(some).plus(of(others)), some + others)
    spread = Spread()
    spread.absorb(of(some))
    spread.absorb(of(others))
    assert spread.moments() == of(some).plus(of(others))


@given(VALUES, VALUES)
def test_of_what_is_left(earlier: list[float], later: list[float]) -> None:
    same(of(earlier + later).minus(of(earlier)), later)


def test_few_after_many_are_not_lost() -> None:
    """A thousand values after ten million of others."""
    many = Moments(10_000_000, 1.0, 10_000_000 * 0.25)
    few = of([2.0 + (at % 10) / 10 for at in range(1000)])
    left = many.plus(few).minus(many)
    assert left.n == 1000
    assert left.mean == pytest.approx(few.mean, rel=1e-6)
    assert left.m2 == pytest.approx(few.m2, rel=1e-5)


def test_nothing_is_left_of_itself() -> None:
    assert of([1.0, 2.0]).minus(of([1.0, 2.0])) == NO_MOMENTS
    assert of([3.0]).deviation == 0.0
    assert of([1.0, 3.0]).deviation == pytest.approx(2**0.5)
