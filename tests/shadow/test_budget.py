"""What copies may cost."""

from __future__ import annotations

from extproc.shadow import Budget


def test_so_many_in_flight() -> None:
    budget = Budget(2, 100, 1000.0, 0.0)
    assert [budget.take(1, 0.0) for _ in range(3)] == ["", "", "in flight"]
    budget.answered()
    assert budget.take(1, 0.0) == ""
    assert repr(budget) == "<Budget 2/2 in flight, 3/100 bytes>"


def test_bytes_are_held_until_they_are_given_back() -> None:
    budget = Budget(10, 100, 1000.0, 0.0)
    assert budget.take(60, 0.0) == ""
    budget.answered()
    assert budget.take(41, 0.0) == "bytes"
    assert budget.take(40, 0.0) == ""
    budget.give_back(60)
    assert budget.take(60, 0.0) == ""


def test_so_many_a_second_after_a_burst_of_one_seconds_worth() -> None:
    budget = Budget(1000, 10**9, 5.0, 0.0)
    assert [budget.take(0, 0.0) for _ in range(7)] == [""] * 5 + ["rate"] * 2
    assert [budget.take(0, 0.4) for _ in range(3)] == ["", "", "rate"]
    assert budget.take(0, 0.3) == "rate"  # a clock that went back gives nothing
    assert [budget.take(0, 100.0) for _ in range(6)] == [""] * 5 + ["rate"]


def test_less_than_one_a_second() -> None:
    budget = Budget(10, 10, 0.1, 0.0)
    assert [budget.take(0, at_s) for at_s in (0.0, 5.0, 9.9, 10.1)] == ["", "rate", "rate", ""]


def test_what_is_refused_takes_nothing() -> None:
    budget = Budget(1, 10, 1.0, 0.0)
    assert budget.take(11, 0.0) == "bytes"
    assert (budget.in_flight, budget.bytes_held) == (0, 0)
    assert budget.take(10, 0.0) == ""


def test_other_bounds_leave_what_is_under_way() -> None:
    budget = Budget(5, 100, 100.0, 0.0)
    budget.take(50, 0.0)
    budget.resized(1, 40, 1.0)
    assert budget.take(1, 0.0) == "in flight"
    budget.answered()
    assert budget.take(1, 0.0) == "bytes"
    budget.give_back(50)
    assert budget.take(1, 0.0) == ""
    budget.answered()
    assert budget.take(1, 0.0) == "rate"
