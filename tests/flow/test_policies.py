"""The formulas of policies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extproc.flow import BandPlan, FlowPlan, FlowQueues, fairness, limits, ordering, programs
from extproc.flow.limits import Holdback, SoftReflective, StaticLimit
from extproc.flow.parameters import HoldbackParameters, ProgramAwareParameters, StaticLimitParameters
from extproc.flow.programs import MOST_PROGRAMS, ProgramAware
from extproc.scheduling.plugins.base import Kit
from tests.flow.tickets import drained, offered

KIT = Kit("x", lambda: 0.0, lambda: 0.0, 0.05)
PRIORITIES = st.sets(st.integers(-100, 100), min_size=1, max_size=8).map(lambda each: sorted(each, reverse=True))


class TestUsageLimits:
    def test_static(self) -> None:
        assert StaticLimit(0.7).ceilings(0.3, [1, 0], 0) == [0.7, 0.7]

    def test_holdback_by_rank(self) -> None:
        assert Holdback(0.4, 0.9).ceilings(0, [100, 1, 0], 0) == pytest.approx([0.9, 0.65, 0.4])

    def test_holdback_by_value(self) -> None:
        assert Holdback(0.4, 0.9, by_value=True).ceilings(0, [100, 10, 0], 0) == pytest.approx([0.9, 0.45, 0.4])

    def test_holdback_of_one_band_is_the_highest(self) -> None:
        assert Holdback(0.4, 0.9).ceilings(0, [0], 0) == [0.9]

    @pytest.mark.parametrize(
        ("saturation", "open_of_12"),
        [(0.0, 12), (0.49, 12), (0.5, 12), (0.75, 4), (0.8, 3), (1.0, 0), (3.0, 0)],
    )
    def test_soft_reflective_opens_the_lower_band_less_and_less(self, saturation: float, open_of_12: int) -> None:
        ceilings = [SoftReflective().ceilings(saturation, [1, 0], tick) for tick in range(12)]
        assert {each[0] for each in ceilings} == {1.0}
        assert sum(each[1] for each in ceilings) == open_of_12

    @given(PRIORITIES, st.floats(0, 2), st.integers(0, 1000))
    def test_a_lower_band_never_has_more(self, priorities: list[int], saturation: float, tick: int) -> None:
        for policy in (StaticLimit(), Holdback(0.2), Holdback(0.2, by_value=True), SoftReflective()):
            ceilings = list(policy.ceilings(saturation, priorities, tick))
            assert len(ceilings) == len(priorities)
            assert ceilings == sorted(ceilings, reverse=True)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({}, "minCeiling"),
            ({"minCeiling": 0}, "never serves the lowest band"),
            ({"minCeiling": 0.9, "maxCeiling": 0.5}, "above maxCeiling"),
            ({"minCeiling": 0.5, "shape": "cubic"}, "linear"),
        ],
    )
    def test_what_holdback_can_not_be(self, given: dict[str, object], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            HoldbackParameters.model_validate(given)

    def test_a_threshold_that_nobody_gets_below(self) -> None:
        with pytest.raises(ValidationError):
            StaticLimitParameters.model_validate({"threshold": -1})


class TestProgramAware:
    def test_whoever_was_served_least_goes_first(self) -> None:
        policy = ProgramAware()
        queues = FlowQueues(FlowPlan(default=BandPlan(make_fairness=lambda: policy)))
        for flow in ("a", "b", "c"):
            offered(queues, flow, flow=flow)
        queues.cost(0, "a", 1000, 0)
        queues.cost(0, "b", 10, 0)
        queues.cost(9, "c", 9, 0)  # of a band that is not there
        assert queues.counts_cost(0)
        assert not queues.counts_cost(9)
        assert drained(queues) == ["c", "b", "a"]

    def test_whoever_waits_longest_goes_first_when_all_were_served_alike(self) -> None:
        queues = FlowQueues(FlowPlan(default=BandPlan(make_fairness=ProgramAware)))
        for at, flow in enumerate(("b", "a", "c")):
            offered(queues, flow, float(at), flow=flow)
        assert drained(queues, 3) == ["b", "a", "c"]

    def test_a_long_wait_outweighs_a_little_service(self) -> None:
        policy = ProgramAware(0.5, 0.5)
        queues = FlowQueues(FlowPlan(default=BandPlan(make_fairness=lambda: policy)))
        for flow, at in (("old", 0.0), ("new", 9.0), ("greedy", 9.0)):
            offered(queues, flow, at, flow=flow)
        for flow, tokens in (("old", 10.0), ("greedy", 100.0)):
            policy.cost(flow, tokens, 9.0)
        assert drained(queues, 10)[0] == "old"  # 0.5 × 0.9 + 0.5 × 1, against 0.5 × 1 + 0

    def test_a_service_is_forgotten_by_halves(self) -> None:
        policy = ProgramAware(half_life_s=60)
        policy.cost("a", 100, 0)
        assert policy.service("a", 60) == pytest.approx(50)
        policy.cost("a", 10, 120)
        assert policy.service("a", 120) == pytest.approx(35)
        assert policy.service("b", 0) == 0

    def test_programs_that_are_not_heard_of_are_forgotten(self) -> None:
        policy = ProgramAware(forget_s=3600, sweep_s=300)
        policy.cost("a", 1, 0)
        policy.cost("b", 1, 3000)
        assert not policy.sweep(3600)
        assert len(policy) == 1
        assert not policy.sweep(3700), "too soon to look again"
        assert policy.sweep(7000)

    def test_names_that_clients_invent_are_bounded(self) -> None:
        policy = ProgramAware()
        policy.cost("first", 1, 0)
        policy.cost("often", 1, 0)
        for number in range(MOST_PROGRAMS - 1):
            policy.cost(str(number), 1, number)
            if number % 1000 == 0:
                policy.cost("often", 1, number)
        assert len(policy) == MOST_PROGRAMS
        assert policy.service("first", 0) == 0
        assert policy.service("often", 0) > 0

    @pytest.mark.parametrize("given", [{"strategy": "fifo"}, {"lasHalfLifeSeconds": 0}, {"lasWeightService": -1}])
    def test_what_it_can_not_be(self, given: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            ProgramAwareParameters.model_validate(given)


def test_every_row_makes_its_policy() -> None:
    given = {"priority-holdback-policy": {"minCeiling": 0.5}}
    for row in (*ordering.TYPES, *fairness.TYPES, *programs.TYPES, *limits.TYPES):
        assert row.make is not None
        assert row.make(row.parameters.model_validate(given.get(row.name, {})), KIT) is not None
        assert row.family in ("ordering policy", "fairness policy", "usage limit policy")
