"""The demo's last act says honestly how it went."""

from __future__ import annotations

from collections import Counter

import pytest

from extproc.demo.canary import PLAN, _all_by
from extproc.demo.split import CHALLENGER, CURRENT
from extproc.demo.stack import LLAMA, PHI4
from extproc.rollouts.plan import read_plan


def test_its_plan_is_one() -> None:
    plan = read_plan(PLAN)
    assert (plan.baseline, plan.canary) == (CURRENT, CHALLENGER)


@pytest.mark.parametrize(
    ("served", "holds"),
    [
        ({(CURRENT, "llama"): 20}, True),
        ({(CURRENT, "llama"): 19, (CURRENT, "phi4"): 1}, False),
        ({(CHALLENGER, "llama"): 20}, False),
        ({}, False),
    ],
)
def test_everybody_has_it_or_the_check_fails(served: dict[tuple[str, str], int], holds: bool) -> None:
    assert _all_by(Counter(served), LLAMA, "claim").holds is holds
    assert not _all_by(Counter({(CURRENT, "llama"): 20}), PHI4, "claim").holds
