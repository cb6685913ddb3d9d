"""The numbers of two answers, and how far they are apart."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.shadow import Gap, gap_of, numbers_in
from extproc.shadow.numeric import MOST_LOOKED_AT

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def gap(one: Any, other: Any) -> Gap:
    return gap_of(numbers_in(one), numbers_in(other))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0.1, 0.9], [0.1, 0.9], Gap(2, 0.0, 0.0)),
        ([0.1, 0.9], [0.2, 0.9], Gap(2, 0.1, 0.05)),
        ([1, 2], [True, 2.0], Gap(2, 0.0, 0.0)),
        ([[1, 2], [3]], [[1, 2], [5]], Gap(3, 2.0, 2 / 3)),
        ([{"p": 1, "q": 2}], [{"q": 2, "p": 1}], Gap(2, 0.0, 0.0)),
        ([], [], Gap(0, 0.0, 0.0)),
    ],
)
def test_apart(one: Any, other: Any, expected: Gap) -> None:
    found = gap(one, other)
    assert found == pytest.approx(expected)
    assert not found.other_shape


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [1, 2, 3]),
        ([[1, 2]], [[1], [2]]),
        ([{"p": 1}], [{"q": 1}]),
        ([1, "yes"], [1, "no"]),
        ([1], ["1"]),
        ([1, None], [1]),
    ],
)
def test_numbers_of_other_things(one: Any, other: Any) -> None:
    assert gap(one, other).other_shape


def test_what_is_no_number() -> None:
    assert gap([math.nan], [math.nan]).largest == 0.0
    assert gap([math.nan], [1.0]).largest == math.inf
    assert gap([10**400], [1.0]).largest == math.inf
    assert gap([10**400], [10**400]).largest == 0.0


def test_only_so_much_is_looked_at() -> None:
    assert len(numbers_in([1.0] * (MOST_LOOKED_AT * 2))[0]) < MOST_LOOKED_AT
    numbers_in([[]] * 100_000)


@given(JSON)
def test_a_value_is_not_apart_from_itself(value: Any) -> None:
    found = gap(value, value)
    assert (found.largest, found.other_shape) == (0.0, False)


def test_deep() -> None:
    numbers, _ = numbers_in(orjson.loads(b"[" * 900 + b"1" + b"]" * 900))
    assert numbers == (1.0,)
