from __future__ import annotations

import pytest

from extproc.response.timing import Times


def test_an_answer_of_three_pieces() -> None:
    times = Times(10.0)
    assert times.ttft_s() is None
    assert [times.piece(10.5), times.piece(10.75), times.piece(11.5)] == [None, 0.25, 0.75]
    assert times.ttft_s() == 0.5
    assert times.tpot_s(12.5, 5) == 0.5
    assert times.ntpot_s(12.5, 5) == 0.5


@pytest.mark.parametrize("tokens", [None, 0])
def test_nothing_is_said_without_tokens(tokens: int | None) -> None:
    times = Times(0.0)
    times.piece(1.0)
    assert times.tpot_s(2.0, tokens) is None
    assert times.ntpot_s(2.0, tokens) is None


def test_one_token_has_no_time_between_tokens() -> None:
    times = Times(0.0)
    times.piece(1.0)
    assert times.tpot_s(2.0, 1) is None
    assert times.ntpot_s(2.0, 1) == 2.0


def test_an_answer_without_body() -> None:
    assert Times(0.0).tpot_s(2.0, 5) is None
