from __future__ import annotations

from typing import Any

from extproc.rollouts import machine
from extproc.rollouts.machine import State
from extproc.rollouts.plan import Plan, read_plan
from extproc.rollouts.wanted import Served, change, impossible, remembered, signature

SERVED = Served(
    ({"name": "a", "entity_name": "m-a"}, {"name": "b", "entity_name": "m-b"}, {"name": "c", "entity_name": "m-c"}),
    {"a": 80, "b": 0, "c": 20},
    ({"name": "theirs", "entity": "c"},),
    ({"entity": "c", "percentage": 1.0},),
)


def plan(*steps: dict[str, Any], **more: Any) -> Plan:
    return read_plan({"baseline": "a", "canary": "b", "steps": [{"setWeight": 10}, *steps], **more})


def state(of: Plan, served: Served = SERVED, **fields: Any) -> State:
    return machine.started(of, "chat", "r", remembered(of, served), 0.0, "ann")._replace(**fields)


def shares(document: dict[str, Any] | None) -> dict[str, int]:
    assert document is not None
    return {each["served_entity_name"]: each["traffic_percentage"] for each in document["traffic_config"]["routes"]}


def test_shares_go_from_one_to_the_other_and_no_further() -> None:
    it = plan({"setWeight": 100})
    assert change(it, state(it), SERVED) is None, "nothing has begun"
    assert shares(change(it, state(it, weight=10, first_s=1.0), SERVED)) == {"a": 70, "b": 10, "c": 20}
    assert shares(change(it, state(it, weight=100, first_s=1.0), SERVED)) == {"a": 0, "b": 80, "c": 20}


def test_promotion_swaps_the_names_once() -> None:
    it = plan()
    healthy = state(it, phase=machine.HEALTHY, weight=100, first_s=1.0)
    document = change(it, healthy, SERVED._replace(percentages={"a": 70, "b": 10, "c": 20}))
    assert document is not None
    assert [(each["name"], each["entity_name"]) for each in document["served_entities"]] == [
        ("a", "m-b"),
        ("b", "m-a"),
        ("c", "m-c"),
    ]
    assert shares(document) == {"a": 80, "b": 0, "c": 20}
    after = SERVED._replace(entities=tuple(document["served_entities"]))
    assert change(it, healthy, after) is None
    undone = change(it, state(it, phase=machine.UNDONE, first_s=1.0), after)
    assert undone is not None
    assert undone["served_entities"] == list(SERVED.entities)


def test_promotion_by_weight_alone() -> None:
    it = plan(promotion="reweight")
    document = change(it, state(it, phase=machine.HEALTHY, weight=100, first_s=1.0), SERVED)
    assert document is not None
    assert "served_entities" not in document
    assert shares(document) == {"a": 0, "b": 80, "c": 20}


def test_a_shadow_is_one_beside_others_and_goes_with_the_rollout() -> None:
    it = plan({"shadow": {"percentage": 5}})
    theirs = {"entity": "c", "percentage": 1.0}
    document = change(it, state(it, shadow=5), SERVED)
    assert document == {"shadows": [theirs, {"entity": "b", "percentage": 5.0}]}
    with_it = SERVED._replace(shadows=tuple(document["shadows"]))
    assert change(it, state(it, shadow=5), with_it) is None
    for over in (machine.DEGRADED, machine.HEALTHY):
        back = change(it, state(it, phase=over), with_it)
        assert back is not None
        assert back["shadows"] == [theirs]


def test_a_shadow_of_before_comes_back_with_its_bounds() -> None:
    it = plan({"shadow": {"percentage": 5}})
    before = SERVED._replace(shadows=({"entity": "b", "percentage": 50.0, "max_in_flight": 2},))
    document = change(it, state(it, before, shadow=5), before)
    assert document == {"shadows": [{"entity": "b", "percentage": 5.0, "max_in_flight": 2}]}
    now = before._replace(shadows=tuple(document["shadows"]))
    back = change(it, state(it, before, phase=machine.DEGRADED), now)
    assert back == {"shadows": list(before.shadows)}


def test_header_routes_stand_before_other_rules() -> None:
    it = plan()
    routed = state(it, routes={"x": (("x-tester", "yes"),)})
    document = change(it, routed, SERVED)
    assert document == {
        "rules": [
            {"name": "rollout-x", "match": [{"headers": {"x-tester": {"exact": "yes"}}}], "entity": "b"},
            {"name": "theirs", "entity": "c"},
        ]
    }
    assert signature(routed) != signature(state(it))


def test_what_can_not_be_done_is_said_with_its_path() -> None:
    assert impossible(plan({"setWeight": 90}), SERVED) == [
        "rollout.steps[1].setWeight: got 90; expected at most 80, which is what a and b have together"
    ]
    assert impossible(plan({"setWeight": 100}), SERVED) == [], "all that there is"
    external = Served(({"name": "a", "external_model": {}}, {"name": "b", "external_model": {}}), {"a": 100, "b": 0})
    (said,) = impossible(plan({"shadow": {"percentage": 5}}), external)
    assert said.startswith("rollout.steps[1].shadow: got it with external models")
