"""What is said: the same for the same prompt, bounded by the options."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.simulator import tokens
from extproc.simulator.answers import AnswerOptions, Speaker

PROMPT = [1, 2, 3]
SPEAKER = Speaker(seed=7, mean_tokens=20, spread=0.5)


def test_the_same_prompt_gets_the_same_answer() -> None:
    options = AnswerOptions(max_tokens=50)
    first = SPEAKER.answer(PROMPT, 0, options)
    assert SPEAKER.answer(PROMPT, 0, options) == first
    others = [
        SPEAKER.answer(PROMPT, 1, options),
        SPEAKER.answer([1, 2, 4], 0, options),
        SPEAKER.answer(PROMPT, 0, AnswerOptions(max_tokens=50, seed=1)),
        Speaker(seed=8, mean_tokens=20).answer(PROMPT, 0, options),
    ]
    assert len({answer.text for answer in [first, *others]}) == 5


def test_it_stops_by_itself_with_an_end_token() -> None:
    answer = Speaker(mean_tokens=20, spread=0.0).answer(PROMPT, 0, AnswerOptions(max_tokens=100))
    assert (len(answer.token_ids), answer.finish_reason, answer.token_ids[-1]) == (20, "stop", tokens.END)
    assert tokens.decode(answer.token_ids) == answer.text
    assert len(answer.text) == 19 * 4


def test_or_is_cut_short() -> None:
    long = SPEAKER.answer(PROMPT, 0, AnswerOptions(max_tokens=100))
    short = SPEAKER.answer(PROMPT, 0, AnswerOptions(max_tokens=4))
    assert (len(short.token_ids), short.finish_reason) == (4, "length")
    assert long.text.startswith(short.text)


def test_or_goes_on_as_long_as_it_may() -> None:
    answer = SPEAKER.answer(PROMPT, 0, AnswerOptions(max_tokens=200, ignore_eos=True))
    assert (len(answer.token_ids), answer.finish_reason) == (200, "length")
    least = SPEAKER.answer(PROMPT, 0, AnswerOptions(max_tokens=200, min_tokens=60))
    assert (len(least.token_ids), least.finish_reason) == (61, "stop")


def test_a_stop_string_ends_it() -> None:
    whole = SPEAKER.answer(PROMPT, 0, AnswerOptions(max_tokens=10, ignore_eos=True))
    stop = whole.text[9:13]
    cut = SPEAKER.answer(PROMPT, 0, AnswerOptions(max_tokens=10, ignore_eos=True, stop=("never there", stop)))
    assert (cut.finish_reason, cut.stop_reason, cut.text) == ("stop", stop, whole.text[:9])
    assert cut.token_ids == whole.token_ids[:4]
    kept = SPEAKER.answer(PROMPT, 0, AnswerOptions(max_tokens=10, stop=(stop,), include_stop=True))
    assert kept.text == whole.text[:13]
    later = SPEAKER.answer(PROMPT, 0, AnswerOptions(max_tokens=10, ignore_eos=True, stop=(stop,), min_tokens=10))
    assert later.text == whole.text


@given(
    st.integers(1, 40),
    st.integers(0, 10),
    st.booleans(),
    st.lists(st.sampled_from(["a", "e t", "he"]), max_size=2),
    st.integers(0, 99),
)
def test_options_are_kept(maximum: int, minimum: int, ignore: bool, stop: list[str], prompt: int) -> None:
    minimum = min(minimum, maximum)
    options = AnswerOptions(maximum, minimum, ignore, tuple(stop))
    answer = SPEAKER.answer([prompt], 0, options)
    assert minimum <= len(answer.token_ids) <= maximum
    assert (answer.stop_reason in stop) == (answer.stop_reason is not None)
    assert answer.finish_reason == "stop" or len(answer.token_ids) == maximum
    pieces = [answer.piece(number, number) for number in range(1, len(answer.token_ids) + 1)]
    assert "".join(pieces) == answer.text


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_lengths_are_spread_around_the_mean(spread: float) -> None:
    speaker = Speaker(mean_tokens=100, spread=spread)
    lengths = [len(speaker.answer([n], 0, AnswerOptions(max_tokens=1000)).token_ids) for n in range(200)]
    assert max(1, round(100 * (1 - spread))) <= min(lengths)
    assert max(lengths) <= round(100 * (1 + spread))
    assert abs(sum(lengths) / len(lengths) - 100) < 10


@pytest.mark.parametrize(
    ("options", "text", "reason", "count"),
    [
        (AnswerOptions(max_tokens=100, said="hello there"), "hello there", "stop", 4),
        (AnswerOptions(max_tokens=2, said="hello there"), "hello th", "length", 2),
        (AnswerOptions(max_tokens=100, said="hello there", stop=("the",)), "hello ", "stop", 3),
        (AnswerOptions(max_tokens=100, said="Grüße"), "Grüße", "stop", 3),
    ],
)
def test_an_echo(options: AnswerOptions, text: str, reason: str, count: int) -> None:
    answer = Speaker(echo=True).answer([1], 0, options)
    assert (answer.text, answer.finish_reason, len(answer.token_ids)) == (text, reason, count)
    assert "".join(answer.piece(number, number) for number in range(1, count + 1)) == text
