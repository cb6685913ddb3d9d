"""`request-attribute-reporter`: a number of an answer's tokens, by an expression."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.scheduling import Scheduler
from extproc.scheduling.cycle import Tokens
from extproc.scheduling.plugins.base import Reported
from tests.fakes.fuzz import examples
from tests.fakes.plugins import figures_of, problems_of, scheduler_of

COST = "x-gateway-inference-request-cost"


def config(expression: str, condition: str = "", key: str = f"{{name: {COST}}}") -> str:
    when = f"condition: '{condition}'" if condition else ""
    return f"""
plugins:
- type: request-attribute-reporter
  parameters:
    attributes:
    - key: {key}
      expression: '{expression}'
      {when}
"""


def told(scheduler: Scheduler, *tokens: int | None) -> list[float]:
    return [each.value for each in scheduler.reported(Tokens(*tokens))]


def test_upstreams_example() -> None:
    """The README's of gateway-api-inference-extension v1.5.0."""
    both = "has(usage.prompt_tokens) && has(usage.completion_tokens)"
    scheduler = scheduler_of(config("usage.prompt_tokens + usage.completion_tokens", both))
    assert scheduler.reports
    assert scheduler.reported(Tokens(9, 5)) == [Reported("envoy.lb", COST, 14.0)]
    assert told(scheduler, 9) == []
    assert told(scheduler) == []
    assert figures_of(scheduler) == {"extproc_reported_attributes_total": 1}


@pytest.mark.parametrize(
    ("expression", "tokens", "expected"),
    [
        ("usage.completion_tokens", (9, 5), [5.0]),
        ("usage.total_tokens", (9, 5), [14.0]),
        ("usage.total_tokens", (9, None), [9.0]),
        ("usage.input_tokens * 2.5 + usage.output_tokens * 10.0", (9, 5), [72.0]),
        ("usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens", (9, 5, 4), [5.0]),
        ('usage["completion_tokens"]', (9, 5), [5.0]),
        ("(has(usage.prompt_tokens) ? usage.prompt_tokens : 0.0) + 1.0", (None, 5), [1.0]),
        ("usage.completion_tokens - usage.prompt_tokens", (9, 5), [-4.0]),
        ("usage.completion_tokens / 10.0", (9, 5), []),  # its integer part is 0, which is not told
        ("usage.completion_tokens / 0.0", (9, 5), []),
        ("usage.completion_tokens", (9, None), []),
        ("7", (1, None), [7.0]),
    ],
)
def test_what_is_told(expression: str, tokens: tuple[int | None, ...], expected: list[float]) -> None:
    assert told(scheduler_of(config(expression)), *tokens) == expected


def test_what_fails_at_run_time_is_counted_and_not_told() -> None:
    """Tokens are doubles, as upstream's: an integer has no sum with one."""
    scheduler = scheduler_of(config("usage.prompt_tokens + 1"))
    assert told(scheduler, 9, 5) == []
    assert figures_of(scheduler)["extproc_reported_attributes_failed_total"] == 1


def test_the_namespace_may_be_another() -> None:
    scheduler = scheduler_of(config("usage.total_tokens", key="{namespace: my.space, name: cost}"))
    assert scheduler.reported(Tokens(1, 2)) == [Reported("my.space", "cost", 3.0)]
    scheduler = scheduler_of(config("usage.total_tokens", key='{namespace: "", name: cost}'))
    assert scheduler.reported(Tokens(1, 2)) == [Reported("envoy.lb", "cost", 3.0)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (config("usage.prompt_tokens +"), "plugins[0].parameters.attributes[0].expression: line 1, column 22: "),
        (config("prompt_tokens"), "plugins[0].parameters.attributes[0].expression: line 1, column 1: undeclared reference"),
        (
            config('"text"'),
            "plugins[0].parameters.attributes[0].expression: line 1, column 1: it gives string; expected a number",
        ),
        (config("usage"), "plugins[0].parameters.attributes[0].expression: line 1, column 1: "),
        (
            config("1", "usage.prompt_tokens"),
            "plugins[0].parameters.attributes[0].condition: line 1, column 1: it gives a value of",
        ),
        (config("1", "has(usage)"), "plugins[0].parameters.attributes[0].condition: line 1, column 5: "),
        (config(""), "plugins[0].parameters.attributes[0].expression: "),
        (config("1", key='{name: ""}'), "plugins[0].parameters.attributes[0].key.name: "),
        (config("1", key="{namespace: a}"), "plugins[0].parameters.attributes[0].key.name: "),
        ("plugins: [{type: request-attribute-reporter, parameters: {attributes: []}}]", "plugins[0].parameters.attributes: "),
        ("plugins: [{type: request-attribute-reporter}]", "plugins[0].parameters.attributes: "),
    ],
)
def test_what_can_not_be_is_told_at_start_with_its_place(text: str, problem: str) -> None:
    problems = problems_of(text)
    assert any(each.startswith(problem) for each in problems), problems


@examples(60)
@given(tokens=st.tuples(*[st.none() | st.integers(0, 2**53)] * 3))
def test_nothing_is_raised_and_every_number_is_an_integer(tokens: tuple[int | None, int | None, int | None]) -> None:
    assert all(value.is_integer() and value for value in told(_ANY, *tokens))


_ANY = scheduler_of(config("usage.total_tokens * usage.prompt_tokens * usage.prompt_tokens_details.cached_tokens"))
