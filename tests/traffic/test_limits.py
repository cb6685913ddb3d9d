"""Limits on calls and tokens a minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.traffic import RateLimit
from extproc.traffic.limits import Asker, EndpointLimits, Limiter

ANYBODY = Asker()


def used(limits: EndpointLimits, asker: Asker, calls: int, *, now_s: float = 0.0, tokens: int = 0) -> list[bool]:
    """Whether each of so many calls in a row had room."""
    went = []
    for _ in range(calls):
        room = limits.exceeded(asker, now_s) is None
        went.append(room)
        if room:
            limits.take(asker, 1, tokens, now_s)
    return went


class TestOneLimit:
    def test_a_minute_s_worth_may_come_at_once_and_then_evenly(self) -> None:
        limits = EndpointLimits([RateLimit("endpoint", calls=3)])
        assert used(limits, ANYBODY, 5) == [True, True, True, False, False]
        assert used(limits, ANYBODY, 2, now_s=20.0) == [True, False]
        assert used(limits, ANYBODY, 5, now_s=3600.0) == [True, True, True, False, False]

    def test_it_says_when_there_is_room_again(self) -> None:
        limits = EndpointLimits([RateLimit("endpoint", calls=3)])
        used(limits, ANYBODY, 3)
        exceeded = limits.exceeded(ANYBODY, 5.0)
        assert exceeded is not None
        assert exceeded.wait_s == pytest.approx(15.0)
        assert str(exceeded) == "the limit of 3 calls per minute"
        assert limits.exceeded(ANYBODY, 5.0 + exceeded.wait_s + 1e-9) is None

    def test_none_at_all_is_a_limit_too(self) -> None:
        exceeded = EndpointLimits([RateLimit("user", calls=0)]).exceeded(ANYBODY, 0.0)
        assert exceeded is not None
        assert (exceeded.wait_s, str(exceeded)) == (60.0, "the limit of 0 calls per minute for each user")

    def test_asking_uses_nothing(self) -> None:
        limits = EndpointLimits([RateLimit("endpoint", calls=1)])
        assert [limits.exceeded(ANYBODY, 0.0) for _ in range(9)] == [None] * 9

    def test_an_answer_that_cost_more_than_was_there_is_paid_off(self) -> None:
        limits = EndpointLimits([RateLimit("endpoint", tokens=60)])
        assert limits.counts_tokens
        limits.take(ANYBODY, 1, 10, 0.0)
        limits.take(ANYBODY, 0, 110, 0.0)
        exceeded = limits.exceeded(ANYBODY, 0.0)
        assert exceeded is not None
        assert exceeded.what == "tokens"
        assert exceeded.wait_s == pytest.approx(61.0)
        limits.take(ANYBODY, 0, -100, 0.0)
        assert limits.exceeded(ANYBODY, 0.0) is None, "given back"

    def test_time_that_stands_still_or_goes_back_gives_nothing(self) -> None:
        limits = EndpointLimits([RateLimit("endpoint", calls=1)])
        used(limits, ANYBODY, 1, now_s=100.0)
        assert limits.exceeded(ANYBODY, 40.0) is not None

    @given(amount=st.integers(1, 50), steps=st.lists(st.floats(0, 30), max_size=60))
    def test_never_more_than_a_burst_and_the_rate(self, amount: int, steps: list[float]) -> None:
        limits = EndpointLimits([RateLimit("endpoint", calls=amount)])
        now_s, went = 0.0, 0
        for step in steps:
            now_s += step
            went += sum(used(limits, ANYBODY, 3, now_s=now_s))
            assert went <= amount + amount * now_s / 60 + 1e-6


class TestWhose:
    def test_each_user_has_its_own(self) -> None:
        limits = EndpointLimits([RateLimit("user", calls=1)])
        assert used(limits, Asker(b"a"), 2) == [True, False]
        assert used(limits, Asker(b"b"), 2) == [True, False]

    def test_those_of_whom_nothing_is_known_share_one(self) -> None:
        limits = EndpointLimits([RateLimit("user", calls=1)])
        assert used(limits, ANYBODY, 2) == [True, False]

    def test_the_endpoint_s_holds_beside_the_user_s(self) -> None:
        limits = EndpointLimits([RateLimit("user", calls=2), RateLimit("endpoint", calls=3)])
        assert used(limits, Asker(b"a"), 3) == [True, True, False]
        assert used(limits, Asker(b"b"), 3) == [True, False, False]

    def test_a_principal_s_own_goes_before_its_group_s_and_everybody_s(self) -> None:
        limits = EndpointLimits(
            [
                RateLimit("user", calls=1),
                RateLimit("user_group", calls=2, principal="team"),
                RateLimit("user", calls=3, principal="ann"),
                RateLimit("service_principal", calls=4, principal="robot"),
            ]
        )
        assert sum(used(limits, Asker(b"ann", "ann", ["team"]), 9)) == 3
        assert sum(used(limits, Asker(b"robot", "robot"), 9)) == 4
        assert sum(used(limits, Asker(b"x", "x", ["team"]), 9)) == 2
        assert sum(used(limits, Asker(b"y", "y", ["team"]), 9)) == 0, "a group shares one"
        assert sum(used(limits, Asker(b"z", "z", ["other"]), 9)) == 1

    def test_the_longest_wait_is_told(self) -> None:
        limits = EndpointLimits([RateLimit("endpoint", calls=60), RateLimit("user", calls=1, tokens=1)])
        used(limits, ANYBODY, 1, tokens=1)
        exceeded = limits.exceeded(ANYBODY, 0.0)
        assert exceeded is not None
        assert exceeded.key == "user"


def test_users_are_bounded_and_those_who_wait_longest_stay() -> None:
    limiter = Limiter("user", "calls", 10, most_users=20)
    for user in range(20):
        limiter.take(b"%d" % user, 1 if user < 10 else 10, 0.0)
    for user in range(100, 110):
        limiter.take(b"%d" % user, 1, 0.0)
    assert len(limiter) <= 20
    assert all(limiter.exceeded(b"%d" % user, 0.0) is not None for user in range(10, 20))
