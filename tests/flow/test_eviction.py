"""Who is taken back, how many, and when: never twice on the same reading."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.flow import EvictionPlan, Evictor, FlowPlan, FlowQueues, Sent
from extproc.flow.eviction import MOST_AT_ONCE, TIMEOUT_S
from extproc.flow.limits import Holdback, SoftReflective
from tests.fakes.fuzz import examples
from tests.flow.tickets import offered

RETRY_S = 7


class Engine:
    """Keeps who was taken back, in order."""

    def __init__(self, grace_s: float = 0.01) -> None:
        self.evictor = Evictor(EvictionPlan(grace_s=grace_s))
        self.taken: list[str] = []
        self.heard: list[object] = []
        self.evictor.revoked = lambda waits, victim: self.heard.append((waits, victim))
        self.evictor.retired = lambda took_s, ended: self.heard.append((took_s, ended))

    def sent(self, name: str, priority: int, at_s: float = 0.0, *, begun: bool = False) -> Sent:
        each = self.evictor.sent(priority, at_s)
        if each.lease is not None:

            def revoke(retry_after_s: int) -> bool:
                assert retry_after_s == RETRY_S
                if not begun:
                    self.taken.append(name)
                return not begun

            each.lease.revoke = revoke
        return each

    def reclaim(self, saturation: float = 1.0, priority: int = 0, ceiling: float = 1.0, now_s: float = 9.0) -> int:
        return self.evictor.reclaim(saturation, priority, ceiling, RETRY_S, now_s)


def test_only_what_may_be_shed_and_the_newest_of_the_lowest_first() -> None:
    engine = Engine()
    for at_s, (name, priority) in enumerate([("a", -1), ("b", -10), ("c", 0), ("d", -10), ("e", 5)]):
        engine.sent(name, priority, at_s)
    assert (engine.evictor.in_flight, engine.evictor.evictable, engine.evictor.lowest()) == (5, 3, -10)
    assert engine.reclaim(saturation=2.0) == 2
    assert engine.taken == ["d", "b"]
    assert engine.heard == [(0, -10), (0, -10)]
    assert (engine.evictor.evictable, engine.evictor.lowest()) == (1, -1)


def test_nobody_as_important_as_who_waits() -> None:
    engine = Engine()
    engine.sent("a", -1)
    engine.sent("b", -5)
    assert engine.reclaim(saturation=3.0, priority=-1) == 1
    assert engine.taken == ["b"]


@pytest.mark.parametrize(
    ("saturation", "ceiling", "taken"),
    [(1.0, 1.0, 1), (1.01, 1.0, 1), (1.1, 1.0, 1), (1.1, 0.95, 2), (1.2, 1.0, 2), (9.0, 0.1, MOST_AT_ONCE)],
)
def test_as_many_as_it_is_too_much(saturation: float, ceiling: float, taken: int) -> None:
    """At the ceiling one, as nobody goes on there."""
    engine = Engine()
    for number in range(11):
        engine.sent(str(number), -1)
    assert engine.reclaim(saturation, ceiling=ceiling) == taken
    assert engine.evictor.target == pytest.approx(saturation - ceiling)
    assert engine.evictor.pending(9.0) == pytest.approx(taken * saturation / 11)


def test_an_answer_that_has_begun_goes_on_and_the_next_is_asked() -> None:
    engine = Engine()
    begun = [engine.sent("begun", -9, begun=True) for _ in range(3)]
    engine.sent("a", -1)
    assert engine.reclaim() == 1
    assert engine.taken == ["a"]
    assert engine.evictor.lowest() is None
    for each in begun:
        engine.evictor.over(each, 10.0)
    assert (engine.evictor.in_flight, engine.evictor.evictable) == (1, 0)
    assert engine.heard == [(0, -1)]


def test_all_answers_have_begun() -> None:
    engine = Engine()
    engine.sent("begun", -9, begun=True)
    assert engine.reclaim() == 0
    assert engine.evictor.is_due(9.0), "nothing is waited for"


class TestPace:
    def test_nobody_else_until_its_end_shows(self) -> None:
        engine = Engine(grace_s=0.5)
        first = engine.sent("a", -1)
        engine.sent("b", -1)
        assert engine.evictor.is_due(0.0)
        engine.reclaim(now_s=1.0)
        assert not engine.evictor.is_due(5.0)
        assert engine.evictor.pause_s(5.0) == float("inf"), "nobody knows when its stream ends"
        engine.evictor.over(first, 6.0)
        # "b" was the newest, so it is the one that was taken back, and the end of "a" is nobody's but its own.
        assert engine.taken == ["b"]
        assert not engine.evictor.is_due(6.6)

    def test_its_end_and_the_grace(self) -> None:
        engine = Engine(grace_s=0.5)
        each = engine.sent("a", -1)
        engine.reclaim(now_s=1.0)
        engine.evictor.over(each, 1.2)
        engine.evictor.over(each, 1.3)
        assert engine.heard == [(0, -1), (pytest.approx(0.2), True)]
        assert not engine.evictor.is_due(1.6)
        assert engine.evictor.pause_s(1.6) == pytest.approx(0.1)
        assert engine.evictor.pending(1.6) > 0
        assert engine.evictor.is_due(1.71)
        assert (engine.evictor.pending(1.71), engine.evictor.pause_s(1.71)) == (0.0, float("inf"))

    def test_a_stream_that_does_not_end_is_not_waited_for_for_ever(self) -> None:
        engine = Engine(grace_s=0.5)
        each = engine.sent("a", -1)
        engine.reclaim(now_s=1.0)
        assert not engine.evictor.is_due(1.0 + TIMEOUT_S - 0.1)
        assert not engine.evictor.is_due(1.0 + TIMEOUT_S), "from here on it cools"
        assert engine.heard[1:] == [(TIMEOUT_S, False)]
        assert engine.evictor.is_due(1.0 + TIMEOUT_S + 0.5)
        engine.evictor.over(each, 99.0)
        assert engine.heard[1:] == [(TIMEOUT_S, False)], "its outcome is said once"
        assert engine.evictor.in_flight == 0


class TestDemand:
    def test_nobody_waits_or_there_is_room(self) -> None:
        queues = FlowQueues(FlowPlan())
        assert queues.demand(2.0) is None
        offered(queues, "a")
        assert queues.demand(0.5) is None
        assert queues.demand(1.0) == (0, 1.0)

    def test_the_first_band_in_which_somebody_waits(self) -> None:
        queues = FlowQueues(FlowPlan(limit=lambda: Holdback(0.5)))
        offered(queues, "low", priority=-3)
        assert queues.demand(0.7) == (-3, 0.5)
        offered(queues, "high", priority=4)
        assert queues.demand(0.7) is None, "it goes on, and the other behind it"
        assert queues.demand(1.0) == (4, 1.0)

    def test_a_band_that_is_closed_whatever_is_taken_back(self) -> None:
        queues = FlowQueues(FlowPlan(limit=SoftReflective))
        offered(queues, "low", priority=-3)
        assert queues.demand(1.0) is None

    def test_down_to_where_a_band_that_was_held_goes_on(self) -> None:
        queues = FlowQueues(FlowPlan())
        offered(queues, "a")
        assert queues.take(0.0, 1.0) is None
        assert queues.demand(0.97) == (0, 0.95)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("sent"), st.integers(-5, 5)),
        st.tuples(st.just("over"), st.integers(0, 99)),
        st.tuples(st.just("reclaim"), st.integers(-5, 5)),
        st.tuples(st.just("pass"), st.integers(0, 99)),
    ),
    max_size=60,
)


@examples(100)
@given(steps)
def test_whatever_happens(steps: Sequence[tuple[str, int]]) -> None:
    """Counts are right, the order is kept, and whoever was taken back is not taken back again."""
    engine = Engine()
    there: dict[str, Sent] = {}
    now_s = 0.0
    for number, (what, value) in enumerate(steps):
        if what == "sent":
            there[str(number)] = engine.sent(str(number), value, now_s, begun=number % 5 == 4)
        elif what == "over" and there:
            name = sorted(there)[value % len(there)]
            engine.evictor.over(there.pop(name), now_s)
        elif what == "reclaim" and engine.evictor.is_due(now_s):
            before = len(engine.taken)
            lowest = engine.evictor.lowest()
            left = [e for e in there.values() if e.priority < 0 and e.revoked_s == float("inf")]
            assert lowest == min([e.priority for e in left], default=None)
            engine.reclaim(1.5, value, now_s=now_s)
            taken = [there[name] for name in engine.taken[before:]]
            assert all(e.priority < min(0, value) for e in taken)
            assert [(e.priority, -e.sent_s) for e in taken] == sorted((e.priority, -e.sent_s) for e in taken)
        elif what == "pass":
            now_s += value / 10
        assert engine.evictor.in_flight == len(there)
        assert engine.evictor.evictable == sum(e.priority < 0 and e.revoked_s == float("inf") for e in there.values())
    assert len(set(engine.taken)) == len(engine.taken)
    for each in there.values():
        engine.evictor.over(each, now_s)
        assert each.lease is None or each.lease.revoke is None
    assert repr(engine.evictor).startswith("<Evictor in_flight=0 evictable=0")
