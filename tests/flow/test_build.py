"""`flowControl` of a config, and what is wrong with it."""

from __future__ import annotations

import pytest

from extproc.flow import FlowPlan
from extproc.flow.build import FLOW_TYPES, build_flow
from extproc.flow.fairness import GlobalStrict, RoundRobin
from extproc.flow.limits import Holdback, StaticLimit
from extproc.flow.ordering import EarliestDeadline, FirstCome
from extproc.flow.plan import HYSTERESIS, MAX_BYTES, MAX_REQUESTS, UNLIMITED
from extproc.flow.programs import ProgramAware
from extproc.flow.victims import PriorityThenTime, Sheddable
from extproc.scheduling import build_scheduler
from extproc.scheduling.saturation import ConcurrencyDetector, SaturationDetector, UtilizationDetector
from extproc.settings.base import SettingsError
from extproc.settings.picker import load_picker_config
from tests.fakes.chance import seeded
from tests.fakes.clock import FakeClock

ON = "featureGates: [flowControl]\n"
FULL = """
featureGates: [flowControl=true]
plugins:
- {type: round-robin-fairness-policy}
- {type: edf-ordering-policy, name: edf}
- {type: program-aware-fairness, name: programs, parameters: {lasHalfLifeSeconds: 120}}
- {type: priority-holdback-policy, name: hold, parameters: {minCeiling: 0.5}}
flowControl:
  maxBytes: 10Gi
  maxRequests: 1k
  defaultRequestTTL: 30s
  noEndpointRequestTTL: 5m
  usageLimitPolicyPluginRef: hold
  priorityBands:
  - {priority: 100, maxRequests: "500", maxBytes: 1G, fairnessPolicyRef: round-robin-fairness-policy, orderingPolicyRef: edf}
  - {priority: -10, maxRequests: 0}
  defaultPriorityBand: {fairnessPolicyRef: programs}
  defaultNegativePriorityBand: {maxRequests: 7, orderingPolicyRef: fcfs-ordering-policy}
"""


def plan(text: str, detector: SaturationDetector = UtilizationDetector()) -> FlowPlan | None:
    return build_flow(load_picker_config(text)[0]).plan(detector, seeded(), FakeClock(), 0.05)


def problems(text: str) -> list[str]:
    config = load_picker_config(text)[0]
    with pytest.raises(SettingsError) as caught:
        build_flow(config, prefix="f: ")
    return caught.value.problems


def warnings(text: str) -> tuple[str, ...]:
    return build_flow(load_picker_config(text)[0]).warnings


def test_a_whole_one() -> None:
    made = plan(FULL)
    assert made is not None
    assert (made.max_bytes, made.max_requests, made.ttl_s, made.no_endpoint_ttl_s) == (10 * 2**30, 1000, 30, 300)
    top = made.band(100)
    assert (top.max_requests, top.max_bytes) == (500, 10**9)
    assert isinstance(top.ordering, EarliestDeadline)
    assert isinstance(top.make_fairness(), RoundRobin)
    assert (made.band(-10).max_requests, made.band(-10).max_bytes) == (MAX_REQUESTS, MAX_BYTES)
    assert isinstance(made.band(3).make_fairness(), ProgramAware)
    assert made.band(3).make_fairness() is not made.band(3).make_fairness(), "each band has its own"
    assert made.band(-3).max_requests == 7
    assert isinstance(made.limit(), Holdback)
    assert warnings(FULL) == ()


def test_the_usual() -> None:
    made = plan(ON)
    assert made is not None
    assert (made.max_bytes, made.max_requests, made.ttl_s, made.no_endpoint_ttl_s) == (UNLIMITED, UNLIMITED, 60, 60)
    assert isinstance(made.band(0).ordering, FirstCome)
    assert isinstance(made.band(0).make_fairness(), GlobalStrict)
    assert isinstance(made.limit(), StaticLimit)


def test_negative_bands_are_as_the_others_unless_they_have_their_own() -> None:
    made = plan(ON + "flowControl: {defaultPriorityBand: {maxRequests: 3}}")
    assert made is not None
    assert made.band(-1).max_requests == 3


def test_no_time_is_no_end() -> None:
    made = plan(ON + "flowControl: {defaultRequestTTL: 0s}")
    assert made is not None
    assert (made.ttl_s, made.no_endpoint_ttl_s) == (float("inf"), float("inf"))


def test_off_is_nothing() -> None:
    assert plan("") is None
    assert plan(FULL.replace("=true", "=false")) is None


@pytest.mark.parametrize(("detector", "hysteresis"), [(UtilizationDetector(), HYSTERESIS), (ConcurrencyDetector(), 0.0)])
def test_what_is_counted_here_does_not_swing(detector: SaturationDetector, hysteresis: float) -> None:
    made = plan(ON, detector)
    assert made is not None
    assert made.hysteresis == hysteresis


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "flowControl: {priorityBands: [{priority: 1}, {priority: 0}, {priority: 1}]}",
            ["f: flowControl.priorityBands[2].priority: 1 is that of priorityBands[0], so this band could never be served"],
        ),
        (
            "flowControl: {defaultPriorityBand: {fairnessPolicyRef: fair}}",
            [
                "f: flowControl.defaultPriorityBand.fairnessPolicyRef: no plugin is called 'fair' "
                "(there are: global-strict-fairness-policy)"
            ],
        ),
        (
            "flowControl: {defaultPriorityBand: {fairnessPolicyRef: round-robin-fairness-policy}}",
            [
                "f: flowControl.defaultPriorityBand.fairnessPolicyRef: no plugin is called 'round-robin-fairness-policy'; "
                "list it in plugins"
            ],
        ),
        (
            "flowControl: {defaultPriorityBand: {fairnessPolicyRef: fcfs-ordering-policy}}",
            [
                "f: flowControl.defaultPriorityBand.fairnessPolicyRef: 'fcfs-ordering-policy' is a ordering policy, expected a "
                "fairness policy"
            ],
        ),
        (
            "plugins: [{type: queue-scorer}]\nflowControl: {usageLimitPolicyPluginRef: queue-scorer}",
            ["f: flowControl.usageLimitPolicyPluginRef: 'queue-scorer' is a queue-scorer, expected a usage limit policy"],
        ),
        (
            "flowControl: {priorityBands: [{priority: 1, orderingPolicyRef: a}], defaultNegativePriorityBand: "
            "{orderingPolicyRef: b}}",
            [
                "f: flowControl.defaultNegativePriorityBand.orderingPolicyRef: no plugin is called 'b' "
                "(there are: fcfs-ordering-policy)",
                "f: flowControl.priorityBands[0].orderingPolicyRef: no plugin is called 'a' (there are: fcfs-ordering-policy)",
            ],
        ),
    ],
)
@pytest.mark.parametrize("gate", ["", ON])
def test_what_is_wrong_is_said(text: str, expected: list[str], gate: str) -> None:
    assert problems(gate + text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flowControl: {maxBytes: lots}", "flowControl.maxBytes: expected a size"),
        ("flowControl: {maxRequests: -1}", "flowControl.maxRequests: expected a size"),
        ("flowControl: {defaultRequestTTL: soon}", "flowControl.defaultRequestTTL: expected a duration"),
        ("flowControl: {priorityBands: [{maxBytes: 1}]}", "flowControl.priorityBands[0].priority: field required"),
        ("flowControl: {priorityBands: [{priority: 3000000000}]}", "flowControl.priorityBands[0].priority: "),
        ("flowControl: {priorityBand: []}", "flowControl.priorityBand: unknown key"),
    ],
)
def test_what_has_another_form_is_said(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_picker_config(text)
    (problem,) = caught.value.problems
    assert problem.startswith(said)


def test_a_band_that_could_never_be_served() -> None:
    config = load_picker_config(
        "plugins: [{type: priority-holdback-policy, parameters: {minCeiling: 0}}]\n"
        "flowControl: {usageLimitPolicyPluginRef: priority-holdback-policy}"
    )[0]
    with pytest.raises(SettingsError) as caught:
        build_scheduler(config, elsewhere=FLOW_TYPES)
    assert caught.value.problems == [
        "plugins[0].parameters.: minCeiling 0 never serves the lowest band: expected more than 0"
    ] or caught.value.problems == ["plugins[0].parameters: minCeiling 0 never serves the lowest band: expected more than 0"]


def test_warnings() -> None:
    assert warnings("flowControl: {maxRequests: 1, defaultRequestTTL: 1s}") == (
        "flowControl: defaultRequestTTL, maxRequests: no effect without the feature gate flowControl",
    )
    assert warnings("plugins: [{type: utilization-detector}]\nflowControl: {saturationDetector: {pluginRef: x}}") == ()
    assert warnings(ON + "plugins: [{type: round-robin-fairness-policy}, {type: sheddable-eviction-filter}]") == (
        "plugins[0]: nothing in flowControl refers to 'round-robin-fairness-policy'",
        "plugins[1]: 'sheddable-eviction-filter' has no effect without flowControl.enableEviction",
    )


class TestEviction:
    LISTED = "plugins: [{type: sheddable-eviction-filter}, {type: priority-then-time-eviction-order-policy}]\n"

    @pytest.mark.parametrize("listed", ["", LISTED])
    def test_on(self, listed: str) -> None:
        made = plan(ON + listed + "flowControl: {enableEviction: true}")
        assert made is not None
        assert made.eviction is not None
        assert isinstance(made.eviction.filter, Sheddable)
        assert isinstance(made.eviction.order, PriorityThenTime)
        assert warnings(ON + listed + "flowControl: {enableEviction: true}") == ()

    def test_off_unless_it_is_asked_for(self) -> None:
        made = plan(ON + self.LISTED)
        assert made is not None
        assert made.eviction is None

    @pytest.mark.parametrize(
        ("detector", "grace_s"), [(ConcurrencyDetector(), 0.01), (UtilizationDetector(), 0.05 + 2.0 + 0.25)]
    )
    def test_until_an_end_shows(self, detector: SaturationDetector, grace_s: float) -> None:
        made = plan(ON + "flowControl: {enableEviction: true}", detector)
        assert made is not None
        assert made.eviction is not None
        assert made.eviction.grace_s == pytest.approx(grace_s)

    def test_more_than_one(self) -> None:
        two = "plugins: [{type: sheddable-eviction-filter}, {type: sheddable-eviction-filter, name: other}]\n"
        assert problems(two + "flowControl: {enableEviction: true}") == [
            "f: plugins: more than one eviction filter: sheddable-eviction-filter, other; expected at most one"
        ]
