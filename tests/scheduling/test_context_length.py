"""Endpoints for prompts of some length."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.scheduling import Cycle
from extproc.scheduling.facts import Prompt
from extproc.scheduling.plugins.context_length import Range
from tests.fakes.candidates import asking, candidates
from tests.fakes.fuzz import examples
from tests.fakes.plugins import kit, make

both_kinds = pytest.mark.parametrize("arrays", [False, True], ids=["lists", "arrays"])
LABEL = "llm-d.ai/context-length-range"
POOL = [{LABEL: "0-2048"}, {LABEL: "2048-8192"}, {LABEL: " 0 - 100000 "}, {LABEL: "5000-5000"}, {LABEL: "wide"}, {}]


def prompt(tokens: int | None) -> Cycle:
    cycle = asking()
    if tokens is not None:
        cycle.facts["prompt"] = Prompt(tokens, False)
    return cycle


def plugin(**parameters: object) -> Any:
    return make("context-length-aware", parameters, kit(sources=["prompt"]))


@both_kinds
def test_points(arrays: bool) -> None:
    points = list(plugin().score(prompt(1024), candidates(labels=POOL, arrays=arrays)))
    assert points == pytest.approx(
        [
            0.3 + 0.7 * (0.7 / 1.2048 + 0.3 * 1024 / 2048),
            0.3 / (1 + 1024 / 1000),
            0.3 + 0.7 * (0.7 / 11 + 0.3 * 98976 / 100000),
            0.3 / (1 + 3976 / 1000),
            0.0,
            0.5,
        ]
    )
    assert list(plugin().score(prompt(5000), candidates(labels=POOL, arrays=arrays)))[3] == 1.0
    above = list(plugin().score(prompt(9000), candidates(labels=POOL, arrays=arrays)))
    assert above[1] == pytest.approx(0.3 / 1.808)
    assert above[1] > above[0], "the nearer one"


def test_unless_it_is_told_to_it_keeps_all() -> None:
    assert plugin().keep(prompt(1024), candidates(labels=POOL)) is None


@pytest.mark.parametrize(
    ("tokens", "expected"), [(1024, [0, 2, 5]), (2048, [0, 1, 2, 5]), (5000, [1, 2, 3, 5]), (200_000, [5]), (None, [0, 2, 5])]
)
def test_as_a_filter(tokens: int | None, expected: list[int]) -> None:
    assert plugin(enableFiltering=True).keep(prompt(tokens), candidates(labels=POOL)) == expected


def test_of_some_of_the_candidates() -> None:
    made, pool = plugin(enableFiltering=True), candidates(labels=POOL)
    assert made.keep(prompt(1024), pool.only([4, 2, 0])) == [1, 2]
    assert list(made.score(prompt(5000), pool.only([3]))) == [1.0]


def test_another_label() -> None:
    assert list(plugin(label="range").score(prompt(5), candidates(labels=[{"range": "5-5"}, {LABEL: "5-5"}]))) == [1.0, 0.5]


@pytest.mark.parametrize("text", ["", "-", "1-", "-1", "a-b", "5-1", "1.0-2", "-1-2", "1-2-3", "9" * 30 + "-" + "9" * 31])
def test_labels_that_cant_be_read(text: str) -> None:
    assert not Range(text).readable
    assert Range(text).points(1) == 0.0
    assert not Range(text).takes(1)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**7))
@examples(200)
def test_in_range_is_always_worth_more(low: int, width: int, tokens: int) -> None:
    found = Range(f"{low}-{low + width}")
    points = found.points(tokens)
    assert 0.0 <= points <= 1.0
    assert (points > 0.3) is found.takes(tokens)
