"""The queues against a naive model: a list that is searched."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from extproc.flow import BandPlan, FlowPlan, FlowQueues, Ticket
from extproc.flow.fairness import RoundRobin
from extproc.flow.ordering import EarliestDeadline, FirstCome, SloDeadline
from tests.flow.tickets import drained, offered

TTL_S = 20.0
PRIORITIES = (-3, 0, 4)
FLOWS = ("a", "b", "c")


class Model:
    """Everybody in one list, and the rules in words."""

    def __init__(self, most: int, most_bytes: int, band_most: int, key: Callable[[Ticket], float]) -> None:
        self.waiting: list[Ticket] = []
        self.most, self.most_bytes, self.band_most, self.key = most, most_bytes, band_most, key

    def bytes(self) -> int:
        return sum(each.size_bytes for each in self.waiting)

    def offer(self, new: Ticket) -> list[Ticket] | None:
        if sum(each.priority == new.priority for each in self.waiting) >= self.band_most:
            return None
        before, evicted = list(self.waiting), list[Ticket]()
        while len(self.waiting) >= self.most or self.bytes() + new.size_bytes > self.most_bytes:
            lower = [each for each in self.waiting if each.priority < new.priority]
            if not lower:
                self.waiting = before
                return None
            victim = max(lower, key=lambda each: (-each.priority, each.number))
            self.waiting.remove(victim)
            evicted.append(victim)
        self.waiting.append(new)
        return evicted

    def next(self) -> Ticket | None:
        return min(self.waiting, key=lambda each: (-each.priority, self.key(each), each.number), default=None)


class Machine(RuleBasedStateMachine):
    """One policy of order, no fairness between flows."""

    ordering: type[FirstCome] | type[EarliestDeadline] | type[SloDeadline] = FirstCome
    key: Callable[[Ticket], float]

    def __init__(self) -> None:
        super().__init__()
        band = BandPlan(max_requests=6, ordering=self.ordering())
        self.queues = FlowQueues(
            FlowPlan(default=band, default_negative=band, max_requests=9, max_bytes=60, ttl_s=TTL_S, no_endpoint_ttl_s=TTL_S)
        )
        self.model = Model(9, 60, 6, type(self).key)
        self.now_s = 0.0

    @rule(seconds=st.sampled_from([0.0, 0.5, 7.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(
        priority=st.sampled_from(PRIORITIES),
        flow=st.sampled_from(FLOWS),
        size=st.integers(0, 30),
        ttft=st.none() | st.floats(0, 30),
    )
    def offer(self, priority: int, flow: str, size: int, ttft: float | None) -> None:
        new = Ticket(None, priority=priority, flow=flow, size_bytes=size, came_s=self.now_s, ttft_s=ttft)
        expected = self.model.offer(new)
        offer = self.queues.offer(new, self.now_s)
        assert offer.taken is (expected is not None)
        assert list(offer.evicted) == (expected or [])

    @rule(saturation=st.sampled_from([0.0, 0.5, 0.99, 1.0, 2.0]))
    def take(self, saturation: float) -> None:
        for band in self.queues.bands:
            band.held = False
        taken = self.queues.take(self.now_s, saturation)
        expected = self.model.next() if saturation < 1 else None
        assert taken is expected
        if taken is not None:
            self.model.waiting.remove(taken)

    @precondition(lambda self: self.model.waiting)
    @rule(at=st.integers(0, 100))
    def leave(self, at: int) -> None:
        leaver = self.model.waiting.pop(at % len(self.model.waiting))
        assert self.queues.remove(leaver, self.now_s)
        assert not self.queues.remove(leaver, self.now_s)

    @rule()
    def expire(self) -> None:
        over = [each for each in self.model.waiting if each.came_s <= self.now_s - TTL_S]
        self.model.waiting = [each for each in self.model.waiting if each not in over]
        found = self.queues.expired(self.now_s, no_endpoints=False)
        assert sorted(each.number for each in found) == sorted(each.number for each in over)

    @invariant()
    def same(self) -> None:
        model = self.model.waiting
        assert (self.queues.requests, self.queues.size_bytes) == (len(model), self.model.bytes())
        assert {id(each) for band in self.queues.bands for each in band.waiting()} == {id(each) for each in model}
        assert all(each.waits for each in model)
        expiry = min((each.came_s for each in model), default=float("inf")) + TTL_S
        assert self.queues.next_expiry_s(no_endpoints=False) == expiry


class DeadlineMachine(Machine):
    ordering = EarliestDeadline
    key = staticmethod(lambda each: each.came_s + TTL_S)


class SloMachine(Machine):
    ordering = SloDeadline
    key = staticmethod(lambda each: float("inf") if each.ttft_s is None else each.came_s + each.ttft_s)


Machine.key = staticmethod(lambda each: each.came_s)
BRIEF = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestFirstCome = Machine.TestCase
TestDeadline = DeadlineMachine.TestCase
TestSlo = SloMachine.TestCase
for case in (TestFirstCome, TestDeadline, TestSlo):
    case.settings = BRIEF


@given(st.lists(st.sampled_from("abcd"), max_size=40), st.sets(st.integers(0, 39)))
def test_turns_are_the_rounds_of_a_list(flows: list[str], leavers: set[int]) -> None:
    """One of each flow in the order in which they came, again and again; who left is not missed."""
    queues = FlowQueues(FlowPlan(default=BandPlan(make_fairness=RoundRobin)))
    tickets = [offered(queues, (flow, number), flow=flow) for number, flow in enumerate(flows)]
    for number in leavers:
        if number < len(tickets):
            queues.remove(tickets[number], 0)
    stay = [(flow, number) for number, flow in enumerate(flows) if number not in leavers]
    gone = drained(queues)
    assert sorted(map(str, gone)) == sorted(map(str, stay))
    for flow in "abcd":
        assert [each for each in gone if each in stay and each[0] == flow] == [each for each in stay if each[0] == flow]
    if not leavers:
        rounds: list[tuple[str, int]] = []
        lanes = {flow: [each for each in stay if each[0] == flow] for flow in dict.fromkeys(flows)}
        while any(lanes.values()):
            rounds += [lane.pop(0) for lane in lanes.values() if lane]
        assert gone == rounds


@pytest.mark.parametrize("saturation", [0.0, 0.9])
def test_between_any_two_turns_of_a_flow_every_other_one_has_one(saturation: float) -> None:
    queues = FlowQueues(FlowPlan(default=BandPlan(make_fairness=RoundRobin)))
    for flow, number in [("whale", 50), ("a", 3), ("b", 3)]:
        for _ in range(number):
            offered(queues, flow, flow=flow)
    first = drained(queues, 0, saturation)[:9]
    assert first == ["whale", "a", "b"] * 3
