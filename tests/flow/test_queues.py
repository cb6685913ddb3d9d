"""Who goes next, who has to leave, who never came in."""

from __future__ import annotations

import pytest

from extproc.flow import BandPlan, FlowPlan, FlowQueues
from extproc.flow.fairness import RoundRobin
from extproc.flow.limits import Holdback, SoftReflective, StaticLimit
from extproc.flow.ordering import EarliestDeadline, SloDeadline
from extproc.flow.plan import MAX_BYTES, MAX_REQUESTS
from extproc.flow.queues import BAND_IDLE_S, SWEEP_S
from tests.flow.tickets import drained, offered, ticket


class TestOrder:
    def test_the_highest_band_is_first_and_who_came_first_in_it(self) -> None:
        queues = FlowQueues(FlowPlan())
        for name, priority in [("a", 0), ("b", -5), ("c", 10), ("d", 0), ("e", 10)]:
            offered(queues, name, priority=priority)
        assert drained(queues) == ["c", "e", "a", "d", "b"]
        assert (queues.requests, queues.size_bytes) == (0, 0)

    def test_all_flows_are_one_unless_a_policy_knows_them(self) -> None:
        queues = FlowQueues(FlowPlan())
        for name, flow in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")]:
            offered(queues, name, flow=flow)
        assert drained(queues) == ["a1", "a2", "b1", "a3"]

    def test_flows_take_turns(self) -> None:
        queues = FlowQueues(FlowPlan(default=BandPlan(make_fairness=RoundRobin)))
        for name, flow in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c"), ("c2", "c")]:
            offered(queues, name, flow=flow)
        assert drained(queues) == ["a1", "b1", "c1", "a2", "c2", "a3"]

    def test_who_leaves_and_comes_again_has_not_gained_a_turn(self) -> None:
        queues = FlowQueues(FlowPlan(default=BandPlan(make_fairness=RoundRobin)))
        for name in ("a1", "b1", "c1"):
            offered(queues, name, flow=name[0])
        assert queues.take(0, 0) is not None
        offered(queues, "a2", flow="a")
        assert drained(queues) == ["b1", "c1", "a2"]

    def test_whose_first_token_is_due_first(self) -> None:
        queues = FlowQueues(FlowPlan(default=BandPlan(ordering=SloDeadline())))
        offered(queues, "whenever", 0)
        offered(queues, "late", 0, ttft_s=5.0)
        offered(queues, "soon", 1, ttft_s=0.5)
        offered(queues, "whenever too", 1)
        assert drained(queues, 1) == ["soon", "late", "whenever", "whenever too"]

    def test_whose_time_ends_first(self) -> None:
        queues = FlowQueues(FlowPlan(default=BandPlan(ordering=EarliestDeadline())))
        offered(queues, "b", 2)
        offered(queues, "a", 1)
        assert drained(queues, 2) == ["a", "b"]


class TestTheGate:
    def test_nobody_goes_while_the_pool_is_full(self) -> None:
        queues = FlowQueues(FlowPlan())
        offered(queues, "a")
        assert queues.take(0, 1.0) is None
        assert queues.take(0, 0.2) is not None

    def test_what_was_held_goes_on_when_the_saturation_has_fallen_a_little_further(self) -> None:
        queues = FlowQueues(FlowPlan(hysteresis=0.05))
        offered(queues, "a")
        assert queues.take(0, 1.0) is None
        assert queues.take(0, 0.96) is None
        assert not queues.may_pass(0, 0.96)
        assert drained(queues, 0, 0.94) == ["a"]
        assert queues.may_pass(0, 0.96), "it is open again, and stays so up to the ceiling"

    def test_who_passes_opens_the_band_for_the_next(self) -> None:
        queues = FlowQueues(FlowPlan(hysteresis=0.05))
        left = offered(queues, "a")
        assert queues.take(0, 1.0) is None
        queues.remove(left, 0)
        assert not queues.may_pass(0, 0.96)
        queues.passed(0, 0)
        assert queues.may_pass(0, 0.96)

    def test_who_comes_behind_others_waits_although_there_is_room(self) -> None:
        queues = FlowQueues(FlowPlan())
        assert queues.may_pass(0, 0.5)
        offered(queues, "a")
        assert not queues.may_pass(0, 0.5)
        assert not queues.may_pass(-1, 0.5)
        assert queues.may_pass(1, 0.5)

    def test_a_lower_band_does_not_go_past_a_higher_one_that_is_held(self) -> None:
        queues = FlowQueues(FlowPlan(limit=lambda: StaticLimit(0.5)))
        offered(queues, "low", priority=-1)
        offered(queues, "high", priority=1)
        assert queues.take(0, 0.6) is None
        assert drained(queues, 0, 0.4) == ["high", "low"]

    def test_lower_bands_are_held_sooner(self) -> None:
        plan = FlowPlan(limit=lambda: Holdback(0.4), bands={10: BandPlan(), -10: BandPlan()})
        queues = FlowQueues(plan)
        for priority in (-10, 0, 10):
            offered(queues, priority, priority=priority)
        assert drained(queues, 0, 0.75) == [10]
        assert drained(queues, 0, 0.6) == [0]
        assert drained(queues, 0, 0.3) == [-10]

    def test_a_lower_band_is_open_one_time_in_a_few(self) -> None:
        queues = FlowQueues(FlowPlan(limit=SoftReflective, bands={-1: BandPlan()}))
        for _ in range(100):
            offered(queues, "low", priority=-1)
        let_on = sum(queues.take(0, 0.75) is not None for _ in range(99))
        assert let_on == 33  # 0.75 / 0.25
        assert queues.alternates

    def test_looking_changes_nothing(self) -> None:
        queues = FlowQueues(FlowPlan(limit=SoftReflective, bands={-1: BandPlan()}))
        assert {queues.may_pass(-7, 0.5) for _ in range(10)} == {queues.may_pass(-7, 0.5)}
        assert [band.priority for band in queues.bands] == [0, -1]


class TestBounds:
    def test_a_full_band_takes_nobody(self) -> None:
        queues = FlowQueues(FlowPlan(bands={0: BandPlan(max_requests=1)}))
        first = offered(queues, "a")
        assert not queues.offer(ticket("b"), 0).taken
        offered(queues, "c", priority=1)
        queues.remove(first, 0)
        assert queues.offer(ticket("b"), 0).taken

    def test_bytes_count(self) -> None:
        queues = FlowQueues(FlowPlan(bands={0: BandPlan(max_bytes=100)}))
        offered(queues, "a", size_bytes=60)
        assert not queues.offer(ticket("b", size_bytes=41), 0).taken
        assert queues.offer(ticket("b", size_bytes=40), 0).taken
        assert queues.size_bytes == 100

    def test_for_who_is_more_important_the_newest_of_the_lowest_leaves(self) -> None:
        queues = FlowQueues(FlowPlan(max_requests=4))
        for name, priority in [("b", 0), ("y", -1), ("x", -2), ("z", -2)]:
            offered(queues, name, priority=priority)
        for expected in ("z", "x", "y", "b"):
            (evicted,) = queues.offer(ticket("new", priority=5), 0).evicted
            assert (evicted.holder, evicted.waits) == (expected, False)
        assert not queues.offer(ticket("new", priority=5), 0).taken
        assert queues.requests == 4

    def test_nobody_leaves_for_an_equal_or_when_it_does_not_help(self) -> None:
        queues = FlowQueues(FlowPlan(max_bytes=100))
        offered(queues, "low", size_bytes=10, priority=-1)
        offered(queues, "a", size_bytes=80)
        assert not queues.offer(ticket("b", size_bytes=30), 0).taken
        assert queues.requests == 2
        assert not queues.offer(ticket("c", size_bytes=11, priority=-1), 0).taken

    def test_the_usual_bounds(self) -> None:
        plan = FlowPlan().band(7)
        assert (plan.max_requests, plan.max_bytes) == (MAX_REQUESTS, MAX_BYTES) == (5000, 10**9)


class TestLeaving:
    def test_who_leaves_leaves_at_once(self) -> None:
        queues = FlowQueues(FlowPlan(default=BandPlan(make_fairness=RoundRobin)))
        tickets = [offered(queues, n, flow=str(n % 3), size_bytes=2) for n in range(9)]
        for each in tickets[::2]:
            assert queues.remove(each, 0)
        assert not queues.remove(tickets[0], 0)
        assert (queues.requests, queues.size_bytes) == (4, 8)
        assert sorted(map(str, drained(queues))) == ["1", "3", "5", "7"]

    def test_places_that_were_left_are_not_kept(self) -> None:
        queues = FlowQueues(FlowPlan())
        stays = offered(queues, "stays")
        for _ in range(10_000):
            queues.remove(offered(queues, "leaves"), 0)
        (band,) = queues.bands
        assert band.waiting() == [stays]
        assert len(band._arrivals) < 100
        assert len(band._lanes[""]._heap) < 100

    def test_a_time_that_is_over(self) -> None:
        queues = FlowQueues(FlowPlan(ttl_s=10, no_endpoint_ttl_s=30))
        offered(queues, "a", 0)
        offered(queues, "b", 5, priority=3)
        assert queues.next_expiry_s(no_endpoints=False) == 10
        assert [each.holder for each in queues.expired(10, no_endpoints=False)] == ["a"]
        assert queues.next_expiry_s(no_endpoints=True) == 35
        assert queues.expired(20, no_endpoints=True) == []
        assert [each.holder for each in queues.expired(20, no_endpoints=False)] == ["b"]
        assert queues.next_expiry_s(no_endpoints=False) == float("inf")

    def test_no_end(self) -> None:
        queues = FlowQueues(FlowPlan(ttl_s=float("inf")))
        offered(queues, "a", 0)
        assert queues.expired(1e9, no_endpoints=False) == []
        assert queues.next_expiry_s(no_endpoints=False) == float("inf")

    def test_everybody_leaves(self) -> None:
        queues = FlowQueues(FlowPlan())
        for name, priority in [("a", 0), ("b", 1)]:
            offered(queues, name, priority=priority)
        assert {each.holder for each in queues.clear(0)} == {"a", "b"}
        assert not len(queues)


class TestBands:
    def test_the_one_of_priority_0_is_always_there(self) -> None:
        assert [band.priority for band in FlowQueues(FlowPlan(bands={5: BandPlan()})).bands] == [5, 0]

    @pytest.mark.parametrize(("priority", "most"), [(3, 3), (0, 3), (-1, 2), (7, 1)])
    def test_others_come_with_their_first_request(self, priority: int, most: int) -> None:
        plan = FlowPlan(
            bands={7: BandPlan(max_requests=1)}, default=BandPlan(max_requests=3), default_negative=BandPlan(max_requests=2)
        )
        queues = FlowQueues(plan)
        for _ in range(most):
            offered(queues, "a", priority=priority)
        assert not queues.offer(ticket("b", priority=priority), 0).taken

    def test_those_that_nobody_uses_go(self) -> None:
        queues = FlowQueues(FlowPlan(bands={5: BandPlan()}))
        queues.passed(3, 0.0)
        offered(queues, "waits", 0.0, priority=2)
        queues.band(0, BAND_IDLE_S - 1)
        assert [band.priority for band in queues.bands] == [5, 3, 2, 0]
        queues.band(0, BAND_IDLE_S + SWEEP_S)
        assert [band.priority for band in queues.bands] == [5, 2, 0]
