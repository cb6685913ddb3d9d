"""What is the same for lists and for arrays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extproc.scheduling.columns import largest
from tests.fakes.candidates import candidates
from tests.fakes.fuzz import examples


@examples(100)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=40), st.integers(1, 50))
def test_the_largest_first_and_of_equal_ones_the_first(values: list[float], most: int) -> None:
    expected = sorted(range(len(values)), key=lambda at: -values[at])[:most]
    for arrays in (False, True):
        assert largest(candidates(running=values, arrays=arrays).running, most) == expected
