"""Averages in which the new counts more than the old."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.scheduling.averages import Average, Averages
from tests.fakes.candidates import candidates

A, B = "10.0.0.1:8000", "10.0.0.2:8000"


class TestAverage:
    @given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1000)), min_size=1, max_size=20), st.floats(1, 100))
    def test_is_the_sum_by_age(self, measured: list[tuple[float, float]], half_life_s: float) -> None:
        average, now_s = Average(), 0.0
        times = []
        for pause_s, value in measured:
            now_s += pause_s
            times.append((now_s, value))
            average.add(value, now_s, half_life_s)
        weights = [2 ** ((at_s - now_s) / half_life_s) for at_s, _ in times]
        expected = sum(weight * value for weight, (_, value) in zip(weights, times, strict=True)) / sum(weights)
        assert average.value == pytest.approx(expected)
        assert average.weight == pytest.approx(sum(weights))


class TestAverages:
    @pytest.mark.parametrize("number", [3, 100])
    def test_of_who_was_not_measured_the_pools_is_believed(self, number: int) -> None:
        averages, given = Averages(60.0), candidates(number, arrays=number >= 64)
        assert averages.column(given, 0.0) is None
        averages.add(A, 4.0, 0.0)
        column = averages.column(given, 0.0)
        assert column is not None
        assert list(column) == [4.0] * number
        assert isinstance(column, list) == (number < 64)

    def test_ones_own_counts_with_the_pools_as_one_more(self) -> None:
        averages = Averages(60.0)
        averages.add(A, 4.0, 0.0)
        averages.add(B, 1.0, 0.0)
        assert averages.column(candidates(3), 0.0) == pytest.approx([(4 + 2.5) / 2, (1 + 2.5) / 2, 2.5])

    def test_arrays_and_lists_say_the_same_as_measurements_come(self) -> None:
        averages, lists = Averages(60.0), Averages(60.0)
        given, few = candidates(3, arrays=True), candidates(3)
        for second, (key, value) in enumerate([(A, 4.0), (B, 1.0), (A, 2.0), ("10.9.9.9:1", 7.0), (B, 3.0)]):
            averages.add(key, value, float(second))
            lists.add(key, value, float(second))
            array, column = averages.column(given, second + 0.5), lists.column(few, second + 0.5)
            assert array is not None
            assert list(array) == pytest.approx(column)

    def test_a_bad_start_is_forgiven_in_time(self) -> None:
        averages = Averages(60.0)
        averages.add(A, 100.0, 0.0)
        for second in range(600):
            averages.add(B, 1.0, float(second))
        column = averages.column(candidates(2), 600.0)
        assert column is not None
        assert column[0] == pytest.approx(1.1, abs=0.05)

    def test_forgets_an_endpoint(self) -> None:
        averages = Averages(60.0)
        averages.add(A, 4.0, 0.0)
        averages.add(B, 1.0, 0.0)
        assert averages.column(candidates(2), 0.0) is not None
        averages.forget(A)
        averages.forget("nobody")
        assert averages.column(candidates(2), 0.0) == pytest.approx([2.5, 1.75])
        assert (len(averages), averages.dump(9)) == (1, {B: 1.0})
