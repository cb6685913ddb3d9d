"""Patterns that are plain tests of a text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.interop.endpoint import EXACT, ONE_OF, PREFIX, PRESENT, SUFFIX, TextTest
from extproc.interop.patterns import pattern_of, read_pattern
from tests.fakes.fuzz import examples

WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
TESTS = st.one_of(
    st.builds(lambda word, kind: TextTest(kind, (word,)), WORDS, st.sampled_from([EXACT, PREFIX, SUFFIX])),
    st.lists(WORDS, min_size=2, max_size=4, unique=True).map(lambda words: TextTest(ONE_OF, tuple(words))),
    st.just(TextTest(PRESENT)),
)


def passes(test: TextTest, text: str) -> bool:
    if test.kind == PREFIX:
        return text.startswith(test.values[0])
    if test.kind == SUFFIX:
        return text.endswith(test.values[0])
    return test.kind == PRESENT or text in test.values


@examples(300)
@given(TESTS, st.lists(WORDS, max_size=4), WORDS)
def test_a_test_is_its_pattern(test: TextTest, texts: list[str], more: str) -> None:
    pattern = pattern_of(test)
    assert read_pattern(pattern) == test
    assert read_pattern(f"^({pattern})$") == test or test.kind == PRESENT
    for text in [*texts, *test.values, *(value + more for value in test.values), *(more + value for value in test.values)]:
        assert (re.fullmatch(pattern, text, re.DOTALL) is not None) == passes(test, text)


@examples(300)
@given(st.text("ab.*|()\\^$[]?", max_size=12), st.lists(st.text("ab.|()*", max_size=6), max_size=6))
def test_what_is_taken_for_a_test_has_the_same_texts(pattern: str, texts: list[str]) -> None:
    test = read_pattern(pattern)
    if test is None:
        return
    expression = re.compile(pattern)
    for text in [*texts, *test.values, *(f"a{value}" for value in test.values), *(f"{value}b" for value in test.values)]:
        assert (expression.fullmatch(text) is not None) == passes(test, text)


@pytest.mark.parametrize(
    "pattern", ["", "a+", "[ab]", "a.c", "(a)(b)", "a|", "a|b.*", r"\d", r"a\\.*b", "a(b|c)", r"v1\.", "\\", r"\n"]
)
def test_other_patterns_are_none(pattern: str) -> None:
    assert read_pattern(pattern) in (None, TextTest(EXACT, ("v1.",)))


def test_the_words_of_people() -> None:
    assert read_pattern("^(gold|platinum)$") == TextTest(ONE_OF, ("gold", "platinum"))
    assert read_pattern("(?:a)") == TextTest(EXACT, ("a",))
    assert read_pattern(".*Chrome") == TextTest(SUFFIX, ("Chrome",))
    assert read_pattern("/v1/.*") == TextTest(PREFIX, ("/v1/",))
    assert read_pattern(r"^(\\)$") == TextTest(EXACT, ("\\",))
    assert read_pattern(r"a\$") == TextTest(EXACT, ("a$",))
    assert read_pattern(r"\(a\)") == TextTest(EXACT, ("(a)",))
