from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.rollouts.conditions import BadCondition, condition
from extproc.rollouts.samples import ArmSample, Moments, Pair, Times

PAIR = Pair(
    ArmSample(100, 3, ttft=Times({"": Moments(100, 0.0, 1.0)}, {95: 1.2})),
    ArmSample(900, 9, ttft=Times({}, {95: 1.0})),
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("error_rate < 0.05", True),
        ("canary.error_rate < 0.02", False),
        ("canary.error_rate - baseline.error_rate <= 0.0200001", True),
        ("canary.ttft_p95 <= 1.1 * baseline.ttft_p95", False),
        ("ttft_p95 <= 1.1 * baseline.ttft_p95 || errors < 5", True),
        ("ttft_p95 > 1 && !(errors > 5)", True),
        ("not errors == 3 or errors != 3", False),
        ("1 < ttft_p95 < 1.5", True),
        ("ttft_mean > -1", True),
        ("tpot_p95 < 1", None),
        ("tpot_p95 < 1 or errors == 3", True),
        ("tpot_p95 < 1 and errors == 4", False),
        ("not tpot_p95 < 1", None),
        ("errors / (requests - 100) < 1", None),
        ("cost_mean < 1", True),
    ],
)
def test_what_holds(text: str, holds: bool | None) -> None:
    assert condition(text).holds(PAIR) is holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected comparisons"),
        ("error_rate", "expected comparisons"),
        ("1 + 2", "expected comparisons"),
        ("eror_rate < 1", "expected error_rate, or another of"),
        ("canary.nothing < 1", "got the measure 'nothing', which nobody knows"),
        ("stable.errors < 1", "got the arm 'stable'; expected canary or baseline"),
        ("a.b.errors < 1", "got the arm '?'"),
        ("errors < 'x'", "expected comparisons"),
        ("errors() < 1", "expected comparisons"),
        ("errors ** 9999 < 1", "expected comparisons"),
        ("errors < 1e999", "expected comparisons"),
        ("errors in (1, 2)", "expected comparisons"),
        ("errors < 1 " + "and errors < 1 " * 50, "expected at most 500"),
        ("-" * 100 + "1 < errors", "brackets in each other"),
        ("[x for x in errors] < 1", "expected comparisons"),
    ],
)
def test_bad_ones_are_refused(text: str, said: str) -> None:
    with pytest.raises(BadCondition) as caught:
        condition(text)
    assert said in str(caught.value)


@given(st.text(alphabet="errors canary.baseline<>=!&|+-*/()0123456789'[]{}\\\n", max_size=80))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        found = condition(text)
    except BadCondition:
        return
    assert found.holds(PAIR) in (True, False, None)
