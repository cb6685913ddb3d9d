"""What is the same for lists and for arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.candidates import Column
from extproc.scheduling.columns import largest, lowest_of
from tests.fakes.candidates import NAN, candidates
from tests.fakes.fuzz import examples


@examples(100)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=40), st.integers(1, 50))
def test_the_largest_first_and_of_equal_ones_the_first(values: list[float], most: int) -> None:
    expected = sorted(range(len(values)), key=lambda at: -values[at])[:most]
    for arrays in (False, True):
        assert largest(candidates(running=values, arrays=arrays).running, most) == expected


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize(
    ("values", "positions", "lowest"),
    [
        ([3, 1, 2], [0, 2], (2, 1)),
        ([3, NAN, 2], [0, 1], (3, 2)),
        ([NAN, 1], [0], (float("inf"), 1)),
        ([1, 2], [0, 1], (1, float("inf"))),
    ],
)
def test_the_lowest_of_some_and_of_the_others(
    values: list[float], positions: list[int], lowest: tuple[float, float], arrays: bool
) -> None:
    column: Column = np.asarray(values, dtype=np.float64) if arrays else [float(value) for value in values]
    assert lowest_of(column, positions) == lowest
