"""What has gone is known for a while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extproc.observability.kept import Grace, Key

A, B = ("chat", "a"), ("chat", "b")


def test_it_stays_for_the_grace_and_not_longer() -> None:
    grace = Grace(10.0)
    both, one = frozenset([A, B]), frozenset([A])
    assert grace.seen(both, 0.0) == (both, frozenset())
    assert grace.seen(one, 5.0) == (both, frozenset())
    assert grace.seen(one, 14.9) == (both, frozenset())
    assert grace.seen(one, 15.0) == (one, frozenset())


def test_what_comes_back_begins_anew() -> None:
    grace = Grace(10.0)
    both, one = frozenset([A, B]), frozenset([A])
    grace.seen(both, 0.0)
    grace.seen(one, 1.0)
    assert grace.seen(both, 2.0) == (both, frozenset([B]))
    assert grace.seen(both, 3.0) == (both, frozenset()), "said once"


KEYS = st.frozensets(st.tuples(st.sampled_from("xy"), st.sampled_from("abc")), max_size=6)


@given(st.lists(st.tuples(KEYS, st.floats(0.1, 5.0)), max_size=30))
def test_nothing_that_is_there_is_missing_and_nothing_stays_for_ever(steps: list[tuple[frozenset[Key], float]]) -> None:
    grace, now_s = Grace(6.0), 0.0
    last_there: dict[Key, float] = {}
    for there, wait_s in steps:
        now_s += wait_s
        kept, back = grace.seen(there, now_s)
        assert there <= kept
        assert back <= there
        for key in kept - there:
            assert now_s - last_there[key] < 6.0 + 5.0, "a look late at most"
        last_there |= dict.fromkeys(there, now_s)
