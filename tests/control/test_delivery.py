"""What requests are decided by beside the split: part of a config's revisions, of its history and of its export."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from extproc.control.changes import Create, Declare, Revert, UpdateConfig
from extproc.control.differences import differences
from extproc.control.errors import InvalidParameter
from extproc.control.exchange import exported, of_yaml, to_yaml
from extproc.control.records import of_document
from extproc.control.specs import spec_of
from extproc.traffic.conditions import Window
from tests.control.desks import Bench, document

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
