"""Quantiles are within the accuracy of the exact ones, whatever the values, and however sketches were added and subtracted."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.measures import ACCURACY, NO_SKETCH, Sketch
from extproc.measures.sketch import LEAST, MOST, bin_of, packed

SECONDS = st.floats(LEAST, MOST)
MANY = st.lists(SECONDS, min_size=1, max_size=300)
QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0)


def of(values: list[float]) -> Sketch:
    counts: dict[int, int] = {}
    for value in values:
        number = bin_of(log(value))
        counts[number] = counts.get(number, 0) + 1
    return packed(counts)


def near(sketch: Sketch, values: list[float]) -> None:
    ordered = sorted(values)
    for q in QUANTILES:
        exact = ordered[int(q * (len(ordered) - 1))]
        assert sketch.quantile(q) == pytest.approx(exact, rel=ACCURACY * 1.0001), q


@given(MANY)
def test_quantiles(values: list[float]) -> None:
    near(of(values), values)


@given(MANY, MANY)
def test_added_and_subtracted(some: list[float], others: list[float]) -> None:
    both = of(some).plus(of(others))
    near(both, some + others)
    assert both == of(some + others)
    assert both.minus(of(some)) == of(others)
    assert both.minus(both) == NO_SKETCH


def lognormal(chance: random.Random) -> float:
    return chance.lognormvariate(-1.5, 0.9)


def bimodal(chance: random.Random) -> float:
    return chance.lognormvariate(-3 if chance.random() < 0.8 else 1, 0.3)


def heavy(chance: random.Random) -> float:
    return min(0.05 * chance.paretovariate(1.1), MOST)


@pytest.mark.parametrize("draw", [lognormal, bimodal, heavy], ids=lambda draw: str(draw.__name__))
def test_of_latencies(draw: Callable[[random.Random], float]) -> None:
    chance = random.Random(7)
    values = [draw(chance) for _ in range(50_000)]
    sketch = of(values)
    near(sketch, values)
    assert len(sketch.bins) < 1300


@given(MANY, st.lists(SECONDS, min_size=1, max_size=10, unique=True))
def test_counts_below_bounds(values: list[float], bounds: list[float]) -> None:
    """As many as there are, but for those that are within the accuracy of the bound."""
    bounds.sort()
    ordered = sorted(values)
    for bound, count in zip(bounds, of(values).below(tuple(bounds)), strict=True):
        least = bisect_right(ordered, bound * (1 - 1.001 * ACCURACY))
        most = bisect_right(ordered, bound * (1 + 2.1 * ACCURACY))
        assert least <= count <= most


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_bins_are_bounded(logarithm: float) -> None:
    assert 0 <= bin_of(logarithm) <= 1300


def test_of_nothing() -> None:
    assert NO_SKETCH.quantile(0.5) is None
    assert NO_SKETCH.quantiles(0.5, 0.9) == [None, None]
    assert NO_SKETCH.plus(of([1.0])) == of([1.0])
    assert of([1.0]).minus(NO_SKETCH) == of([1.0])
