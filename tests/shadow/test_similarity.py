"""How alike two texts are."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.shadow import has_similarity, similarity
from extproc.shadow import similarity as function
from extproc.shadow.similarity import MOST_WORDS, words_of

WORDS = st.lists(st.sampled_from(["a", "the", "cat", "sat", "mat", "dog", "ran", "."]), max_size=12)


def alike(one: str, other: str) -> float:
    found = similarity(one, other)
    assert found is not None
    return found


def test_the_library_is_here() -> None:
    assert has_similarity()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "", 1.0),
        ("the cat sat", "The cat  SAT", 1.0),
        ("the cat sat", "", 0.0),
        ("the cat sat", "one dog ran", 0.0),
        ("the cat sat", "the dog sat", 2 / 3),
        ("猫は好き", "猫が好き", 0.75),
        ("1.5", "1.6", 2 / 3),
    ],
)
def test_by_words(one: str, other: str, expected: float) -> None:
    assert similarity(one, other) == pytest.approx(expected)


@given(WORDS, WORDS)
def test_is_never_less_than_what_difflib_finds(one: list[str], other: list[str]) -> None:
    found = alike(" ".join(one), " ".join(other))
    assert found >= difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() - 1e-9
    assert found == pytest.approx(alike(" ".join(other), " ".join(one)))
    assert 0.0 <= found <= 1.0


def test_only_so_many_words_are_compared() -> None:
    long = "word " * MOST_WORDS
    assert len(words_of(long * 3)) == MOST_WORDS
    assert similarity(long + "one way", long + "another") == 1.0


def test_without_the_library_only_equal_texts_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(function.__globals__, "_measure", None)
    assert similarity("same", "same") == 1.0
    assert similarity("same", "other") is None
    assert not has_similarity()
