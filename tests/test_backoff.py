from __future__ import annotations

import random

from extproc.backoff import Backoff


def test_pauses_double_until_the_longest_and_begin_again_when_it_worked() -> None:
    backoff = Backoff(lambda: 1.0, first_s=0.2, most_s=1)

    assert [backoff.next() for _ in range(5)] == [0.2, 0.4, 0.8, 1, 1]
    backoff.reset()
    assert backoff.next() == 0.2


def test_pauses_are_spread() -> None:
    chance = random.Random(1)
    pauses = [Backoff(chance.random, first_s=1, most_s=1).next() for _ in range(200)]

    assert 0.5 <= min(pauses) < 0.55
    assert 0.95 < max(pauses) <= 1
