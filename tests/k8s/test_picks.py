"""Which picks count as wrong."""

from __future__ import annotations

import time

import pytest

from tests.k8s.picks import GRACE_S, Answer, Members

A = "127.0.0.2:8000"


def _pick(sent_s: float, *endpoints: str) -> Answer:
    return Answer(sent_s, sent_s + 0.01, endpoints, {}, "")


def test_a_member_may_be_picked_and_a_stranger_not() -> None:
    members = Members()
    now_s = time.monotonic()
    members.joins(A)
    assert members.wrong(_pick(now_s, A)) == []
    assert members.wrong(_pick(now_s, A, "127.0.0.3:8000")) == ["127.0.0.3:8000 was never a member"]


@pytest.mark.parametrize(("after_s", "wrong"), [(0.0, False), (GRACE_S - 0.1, False), (GRACE_S + 0.1, True), (60.0, True)])
def test_a_member_that_left_may_be_picked_for_a_while(after_s: float, wrong: bool) -> None:
    members = Members()
    members.joins(A)
    members.leaves(A)
    assert bool(members.wrong(_pick(time.monotonic() + after_s, A))) is wrong


def test_a_member_is_not_picked_before_it_joins() -> None:
    members = Members()
    members.joins(A)
    assert members.wrong(_pick(time.monotonic() - 5, A))


def test_a_member_that_comes_back_may_be_picked_again() -> None:
    members = Members()
    members.joins(A)
    members.leaves(A)
    members.joins(A)
    assert members.wrong(_pick(time.monotonic() + 60, A)) == []
    assert members.now() == {A}
