"""What requests are decided by beside the split: part of a config's revisions, of its history and of its export."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from extproc.control.advice import advice_on
from extproc.control.changes import Create, Declare, Revert, UpdateConfig
from extproc.control.differences import differences
from extproc.control.errors import InvalidParameter
from extproc.control.exchange import exported, of_yaml, to_yaml
from extproc.control.records import of_document
from extproc.control.specs import spec_of
from extproc.traffic import Catalog
from extproc.traffic.conditions import Window
from extproc.traffic.layout import moved
from extproc.traffic.segments import Segments, SegmentSpec
from tests.control.desks import Bench, catalog, document

RULES: list[dict[str, Any]] = [{"name": "gold", "match": {"headers": {"x-tier": "gold"}}, "entity": "b"}]


async def opened() -> Bench:
    bench = Bench()
    await bench.desk.open()
    return bench


async def test_a_rule_lives_through_changes_and_comes_back_with_a_revert() -> None:
    bench = await opened()
    await bench.desk.apply(Create({**document(), "rules": RULES}), "me")
    changed = await bench.desk.apply(UpdateConfig("chat", {"rules": [{"name": "none", "refuse": {"status": 503}}]}), "me")
    assert changed.record is not None
    assert [rule["name"] for rule in changed.record.delivery["rules"]] == ["none"]
    gone = await bench.desk.apply(UpdateConfig("chat", {"rules": []}), "me")
    assert gone.record is not None
    assert (gone.record.delivery, gone.record.config_version) == ({}, 3)
    back = await bench.desk.apply(Revert("chat", 1), "me")
    assert back.record is not None
    assert back.record.delivery["rules"][0]["entity"] == "b"
    served = bench.table.get("chat")
    assert served is not None
    assert [rule.name for rule in served.rules] == ["gold"]
    assert of_document(back.record.to_document()) == back.record
    assert spec_of(of_document(back.record.to_document())) == spec_of(back.record)


async def test_an_export_can_be_declared() -> None:
    bench, other = await opened(), await opened()
    await bench.desk.apply(Create({**document(), "rules": RULES}), "me")
    record = bench.desk.get("chat")
    await other.desk.apply(Declare("file:x", of_yaml(to_yaml([record]))), "me")
    assert other.desk.get("chat").delivery == record.delivery
    assert exported(other.desk.get("chat")) == exported(record)


async def test_an_entity_that_a_rule_needs_cant_be_left_out() -> None:
    bench = await opened()
    await bench.desk.apply(Create({**document(a=100, b=0), "rules": RULES}), "me")
    without = {key: value for key, value in document(a=100)["config"].items() if key == "served_entities"}
    with pytest.raises(InvalidParameter, match=r"rules\[0\].entity: got 'b'; expected one of the endpoint's"):
        await bench.desk.apply(UpdateConfig("chat", without), "me")
    with pytest.raises(InvalidParameter, match=r"servingEndpoints\[0\].rules\[0\].entity: got 'b'"):
        await (await opened()).desk.apply(Declare("f", [{**document(a=100), "rules": RULES}]), "me")


async def test_differences_are_by_name_and_order() -> None:
    bench = await opened()
    two = [*RULES, {"name": "all", "entity": "a"}]
    one = await bench.desk.apply(Create({**document(), "rules": two}), "me")
    turned = await bench.desk.apply(UpdateConfig("chat", {"rules": two[::-1]}), "me")
    assert [each.path for each in differences(one.record, turned.record)] == ["rules.(order)"]
    other = await bench.desk.apply(UpdateConfig("chat", {"rules": [{**RULES[0], "entity": "a"}, two[1]]}), "me")
    assert [each.path for each in differences(one.record, other.record)] == ["rules.gold.entity"]


async def test_times_and_shares_become_what_is_compared() -> None:
    bench = await opened()
    time = {"hours": "09:30-17:00", "days": ["fri", "mon"], "timezone": "Europe/Berlin", "before": "1970-01-01T00:01:00Z"}
    rule = {"name": "r", "entity": "b", "match": {"time": time, "percentage": 0.5, "expression": "size(model) > 1"}}
    await bench.desk.apply(Create({**document(), "rules": [rule]}), "me")
    (match,) = spec_of(bench.desk.get("chat")).rules[0].matches
    assert match.window == Window(None, 60.0, (0, 4), 570, 1020, ZoneInfo("Europe/Berlin"))
    assert (match.buckets, match.expression) == (50, "size(model) > 1")


AB: list[dict[str, Any]] = [
    {"name": "control", "weight": 10, "entity": "a"},
    {"name": "treatment", "weight": 10, "entity": "b"},
]


def experiment(control: int, treatment: int) -> list[dict[str, Any]]:
    return [{"name": "e", "arms": [{**AB[0], "weight": control}, {**AB[1], "weight": treatment}, {"name": "c", "weight": 10}]}]


async def test_who_is_in_an_arm_stays_there_and_a_revert_brings_everybody_back() -> None:
    bench = await opened()
    first = await bench.desk.apply(Create({**document(), "experiments": experiment(10, 10)}), "me")
    assert first.record is not None
    last = first.record
    for weights, need in (((60, 10), 5000), ((60, 30), 2000), ((20, 70), 4000)):
        before = last
        await bench.desk.apply(UpdateConfig("chat", {"experiments": experiment(*weights)}), "me")
        last = bench.desk.get("chat")
        assert moved(before.layouts["e"], last.layouts["e"]) == need
    assert of_document(last.to_document()) == last
    (served,) = spec_of(last).experiments
    assert served.layout == last.layouts["e"]
    back = await bench.desk.apply(Revert("chat", 1), "me")
    assert back.record is not None
    assert back.record.layouts == first.record.layouts
    gone = await bench.desk.apply(UpdateConfig("chat", {"experiments": []}), "me")
    assert gone.record is not None
    assert gone.record.layouts == {}


async def test_a_change_says_how_many_change_their_arm_and_what_never_gets_a_request() -> None:
    bench = await opened()
    await bench.desk.apply(Create({**document(), "experiments": experiment(10, 10)}), "me")
    rules = [{"name": "all", "entity": "a"}, {"name": "late", "match": {"path": "/x"}, "entity": "b"}]
    change = UpdateConfig("chat", {"experiments": experiment(10, 15), "rules": rules})
    effect = (await bench.desk.apply(change, "me", dry_run=True)).effect
    assert effect is not None
    assert effect.notes == (
        "rules[1]: 'late' never matches, as rules[0], 'all', has all of its requests",
        "experiments[0]: 'e' never gets a request, as rules[0], 'all', decides on all of them",
        "experiment 'e': 500 of 10000 keys change their arm, or whether they are in one",
    )


async def test_what_is_declared_is_laid_out_alike_everywhere() -> None:
    one, other = await opened(), await opened()
    await one.desk.apply(Declare("f", [{**document(), "experiments": experiment(10, 10)}]), "f")
    await one.desk.apply(Declare("f", [{**document(), "experiments": experiment(30, 20)}]), "f")
    await other.desk.apply(Declare("f", [{**document(), "experiments": experiment(30, 20)}]), "f")
    assert spec_of(one.desk.get("chat")).experiments == spec_of(other.desk.get("chat")).experiments


async def test_a_segment_must_be_there_when_it_is_named_and_may_go() -> None:
    segments = [Segments([SegmentSpec("beta", keys=frozenset({b"ann"}))])]
    bench = Bench(segments=lambda: segments[0])
    await bench.desk.open()
    rule = {"name": "r", "match": {"segments": ["beta"]}, "entity": "b"}
    with pytest.raises(InvalidParameter, match=r"segments: got 'gamma'; expected one of the gateway's segments: beta"):
        await bench.desk.apply(Create({**document(), "rules": [{**rule, "match": {"segments": ["gamma"]}}]}), "me")
    await bench.desk.apply(Create({**document(), "rules": [rule]}), "me")
    assert bench.desk.problems() == {}
    segments[0] = Segments()
    bench.desk.recompile()
    assert bench.desk.problems() == {"chat": ["rule r: there is no segment 'beta', so nobody is in it"]}
    await bench.desk.apply(UpdateConfig("chat", {"rules": [rule, {"name": "s", "entity": "a"}]}), "me")


async def test_an_experiment_that_another_one_leaves_nothing() -> None:
    whole = [{"name": "all", "weight": 100, "entity": "b"}]
    delivery = {
        "experiments": [{"name": "one", "arms": whole}, {"name": "two", "arms": whole}, {"name": "label", "arms": AB[:0]}]
    }
    assert advice_on(delivery, "x.") == [
        "x.experiments[1]: 'two' never gets a request, as experiments[0], 'one', decides on all of them"
    ]


async def test_shadows_are_part_of_a_config_and_differ_by_entity() -> None:
    bench = await opened()
    shadows = [{"entity": "b", "percentage": 10}]
    one = await bench.desk.apply(Create({**document(), "shadows": shadows}), "me")
    other = await bench.desk.apply(UpdateConfig("chat", {"shadows": [{"entity": "b", "percentage": 20}]}), "me")
    assert other.record is not None
    assert [each.path for each in differences(one.record, other.record)] == ["shadows.b.percentage"]
    served = bench.table.get("chat")
    assert served is not None
    assert [(shadow.entity, shadow.share) for shadow in served.spec.shadows] == [("b", 0.2)]
    without = {key: value for key, value in document(a=100)["config"].items() if key == "served_entities"}
    with pytest.raises(InvalidParameter, match=r"shadows\[0\].entity: got 'b'; expected one of the endpoint's"):
        await bench.desk.apply(UpdateConfig("chat", without), "me")


async def test_residency_is_part_of_a_config_and_needs_regions() -> None:
    bench = Bench()
    await bench.desk.open()
    rules = [{"name": "eu", "stay_in": ["west", "north"]}, {"name": "own", "stay_in": "own", "entities": ["b"]}]
    with pytest.raises(
        InvalidParameter, match=r"residency\[0\]: got the rule 'eu'; expected none, as the gateway's config has"
    ):
        await bench.desk.apply(Create({**document(), "residency": rules}), "me")
    bench.catalog = with_regions("west", "north")
    with pytest.raises(
        InvalidParameter, match=r"residency\[0\].stay_in: got 'mars'; expected one of the gateway's regions: west"
    ):
        await bench.desk.apply(Create({**document(), "residency": [{"name": "eu", "stay_in": ["mars"]}]}), "me")
    made = await bench.desk.apply(Create({**document(), "residency": rules}), "me")
    assert made.record is not None
    assert [(rule.name, rule.regions, rule.entities) for rule in spec_of(made.record).residency] == [
        ("eu", ("west", "north"), ()),
        ("own", (), ("b",)),
    ]
    assert spec_of(of_document(made.record.to_document())) == spec_of(made.record)
    await bench.desk.apply(UpdateConfig("chat", {"residency": []}), "me")
    back = await bench.desk.apply(Revert("chat", 1), "me")
    assert back.record is not None
    assert back.record.delivery["residency"] == made.record.delivery["residency"]


async def test_regions_that_went_leave_an_endpoint_unserved_and_not_elsewhere() -> None:
    bench = Bench()
    await bench.desk.open()
    bench.catalog = with_regions("west")
    await bench.desk.apply(Create({**document(), "residency": [{"name": "eu", "stay_in": ["west"]}]}), "me")
    assert bench.desk.problems() == {}
    bench.catalog = with_regions()
    bench.desk.recompile()
    served = bench.table.get("chat")
    assert served is not None
    assert all("has no regions" in entity.problem for entity in served.entities)


def with_regions(*names: str) -> Catalog:
    return Catalog([], catalog()._routes, regions=names)
