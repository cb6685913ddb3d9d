"""What a moved alias comes to: a change, a rollout, its end, or nothing yet."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.registry.moves import Abort, Begin, Going, Held, Move, Pair, next_step

PAIR = Pair("current", "next")


def entity(name: str, version: str = "", alias: str = "champion", **block: str) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "entity_name": "churn", "entity_version": f"@{alias}" if alias else "1"}
    if version:
        made["registry"] = {"version": version, **block}
    return made


def at(version: str, **more: str) -> dict[str, str]:
    return {"version": version, **more}


def test_nothing_moves_while_the_alias_stays() -> None:
    assert next_step([entity("a", "3")], {"a": at("3")}) == (None, {})


def test_a_moved_alias_is_one_change_that_names_both_versions() -> None:
    step = next_step(
        [entity("a", "3"), entity("b", "3"), entity("c", "1", "other")], {"a": at("4"), "b": at("4"), "c": at("1")}
    )
    assert step.action == Move(
        {"a": at("4"), "b": at("4")},
        "a: churn@champion moved from version 3 to 4; b: churn@champion moved from version 3 to 4",
    )


def test_what_was_never_resolved_gets_its_first_version() -> None:
    assert next_step([entity("a")], {"a": at("4")}).action == Move(
        {"a": at("4")}, "a: churn@champion moved from version none to 4"
    )


def test_a_version_that_no_pool_serves_moves_nothing_and_is_said() -> None:
    step = next_step([entity("a", "3"), entity("b", "3", "other")], {"a": Held("no pool"), "b": at("5")})
    assert step.held == {"a": "no pool"}
    assert step.action == Move({"b": at("5")}, "b: churn@other moved from version 3 to 5")


def test_the_same_version_elsewhere_is_a_change_too() -> None:
    step = next_step([entity("a", "3", pool="x", model="m")], {"a": at("3", pool="y", model="m")})
    assert step.action == Move({"a": at("3", pool="y", model="m")}, "a: churn@champion is version 3, served elsewhere now")


def test_who_went_back_stays_until_the_alias_moves_again() -> None:
    reverted = entity("a", "3", alias_version="4")
    assert next_step([reverted], {"a": at("4")}) == (None, {})
    assert isinstance(next_step([reverted], {"a": at("5")}).action, Move)


def planned(baseline: str = "3", canary: str = "3") -> list[dict[str, Any]]:
    return [entity("current", baseline), entity("next", canary)]


def both(version: str) -> dict[str, dict[str, str]]:
    return {"current": at(version), "next": at(version)}


def test_with_a_plan_the_canary_goes_first() -> None:
    step = next_step(planned(), both("4"), PAIR)
    assert step == (Begin(PAIR, at("4"), "current: churn@champion moves from version 3 to 4"), {})


def test_a_canary_that_has_the_version_already_is_not_changed() -> None:
    """Who was killed between the change and the rollout goes on there."""
    action = next_step(planned(canary="4"), both("4"), PAIR).action
    assert isinstance(action, Begin)
    assert action.block is None


@pytest.mark.parametrize("entities", [planned("3", "4"), planned("3", "3")])
def test_a_version_that_was_tried_is_not_tried_again(entities: list[dict[str, Any]]) -> None:
    step = next_step(entities, both("4"), PAIR, Going(True, True, "3", "4", "rolled back"))
    assert step == (None, {"current": "version 4 was tried: rolled back"})


def test_after_the_promotion_all_is_well() -> None:
    assert next_step(planned("4", "3"), both("4"), PAIR, Going(True, True, "3", "4")) == (None, {})


def test_the_next_version_begins_the_next_rollout() -> None:
    assert isinstance(next_step(planned("4", "3"), both("5"), PAIR, Going(True, True, "3", "4")).action, Begin)


def test_while_ours_goes_on_nothing_is_done() -> None:
    assert next_step(planned("3", "4"), both("4"), PAIR, Going(False, True, "3", "4")) == (None, {})


@pytest.mark.parametrize("now", ["3", "5"])
def test_an_alias_that_goes_elsewhere_ends_ours(now: str) -> None:
    step = next_step(planned("3", "4"), both(now), PAIR, Going(False, True, "3", "4"))
    assert step.action == Abort(f"churn@champion moved on to version {now}")


def test_a_rollout_of_somebody_else_is_left_alone_and_said() -> None:
    step = next_step(planned("3", "2"), both("4"), PAIR, Going(False, False, "3", "2"))
    assert step.action is None
    assert "somebody else" in step.held["current"]


def test_where_no_rollout_can_begin_it_stays_and_is_said() -> None:
    assert next_step(planned(), both("4"), PAIR, may_begin="a file's").held == {"current": "a file's"}


def test_a_baseline_whose_canary_follows_something_else_stays_and_is_said() -> None:
    entities = [entity("current", "3"), entity("next", "1", alias="")]
    step = next_step(entities, {"current": at("4")}, PAIR)
    assert step.action is None
    assert "to follow the same alias" in step.held["current"]
    assert next_step(entities, {"current": at("3")}, PAIR) == (None, {})


def test_a_canary_with_an_alias_of_its_own_moves_by_itself_but_not_in_a_rollout() -> None:
    entities = [entity("current", "3", alias=""), entity("next", "3", alias="challenger")]
    assert isinstance(next_step(entities, {"next": at("4")}, PAIR).action, Move)
    step = next_step(entities, {"next": at("4")}, PAIR, Going(False, False, "", "3"))
    assert step.action is None
    assert "a rollout goes on" in step.held["next"]


def test_others_of_the_endpoint_move_beside_the_plan() -> None:
    entities = [*planned(), entity("third", "1", "other")]
    assert next_step(entities, {**both("3"), "third": at("2")}, PAIR).action == Move(
        {"third": at("2")}, "third: churn@other moved from version 1 to 2"
    )


def test_a_plan_whose_entities_were_never_resolved_begins_with_both() -> None:
    entities = [entity("current"), entity("next")]
    action = next_step(entities, both("4"), PAIR).action
    assert isinstance(action, Move)
    assert dict(action.blocks) == both("4")
