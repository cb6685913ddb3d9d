from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.rollouts.samples import MEASURES, ArmSample, Moments, Times
from tests.rollouts.arms import moments

VALUES = st.lists(st.floats(-10, 10), max_size=30)


@given(VALUES, VALUES)
def test_moments_add_up_and_come_apart(first: list[float], then: list[float]) -> None:
    one, other = moments(first), moments(then)
    both = one.plus(other)
    whole = moments([*first, *then])
    assert both.n == whole.n
    assert (both.mean, both.m2) == pytest.approx((whole.mean, whole.m2), abs=1e-6)
    later = whole.minus(one)
    assert later.n == other.n
    assert (later.mean, later.m2) == pytest.approx((other.mean, other.m2), abs=1e-6)


def test_what_is_not_known_is_none_and_what_is_known_is_a_number() -> None:
    empty = {name for name, measure in MEASURES.items() if measure(ArmSample()) is None}
    assert empty == MEASURES.keys() - {"requests", "errors", "input_tokens", "output_tokens", "cost"}
    times = Times({"": Moments(10, 0.0, 1.0)}, {50: 1.0, 90: 2.0, 95: 2.5, 99: 3.0})
    full = ArmSample(10, 1, times, times, times, 5, 6, 0.5, 3, 4, 1, 1, Moments(10, 2.0, 0.0), Moments(10, 0.5, 0.0))
    values = {name: measure(full) for name, measure in MEASURES.items()}
    assert None not in values.values()
    assert values["error_rate"] == 0.1
    assert values["ttft_mean"] == 1.0
    assert values["e2e_p95"] == 2.5
    assert values["shadow_agreement"] == 0.75
