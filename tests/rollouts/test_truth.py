"""A small part of the table of docs/rollouts.md, seeded: `make rollouts-truth` makes all of it."""

from __future__ import annotations

import pytest

from tests.rollouts.truth import Case, row, worded


@pytest.mark.parametrize("kind", ["lognormal", "bimodal", "drifting"])
def test_a_canary_that_is_a_fifth_slower_is_caught(kind: str) -> None:
    found = row(Case(kind, slower=0.2), 40)
    assert found.caught >= 38, worded(found)
    assert found.median <= 2000, worded(found)


def test_two_points_more_errors_are_caught() -> None:
    found = row(Case("lognormal", errors=0.03), 40)
    assert found.caught >= 38, worded(found)
    assert found.median <= 2000, worded(found)


@pytest.mark.parametrize("case", [Case("lognormal"), Case("bimodal"), Case("drifting", share=0.1, later=0.5)])
def test_a_good_canary_goes_on_however_often_it_is_looked_at(case: Case) -> None:
    found = row(case, 30)
    assert found.caught <= 2, worded(found)
