"""`residency` of an endpoint, and the region of an external model."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.settings.base import SettingsError
from extproc.settings.serving import read_create
from extproc.settings.serving.delivery import changed, check
from extproc.settings.serving.residency import regions_of_entities, unknown_regions

OWN = {"name": "a", "entity_name": "model-A"}
OPENAI = {
    "name": "x",
    "external_model": {
        "name": "gpt",
        "provider": "openai",
        "task": "llm/v1/chat",
        "openai_config": {"openai_api_key": "{{secrets/my/openai}}"},
    },
}


def document(*rules: Any, entity: dict[str, Any] = OWN) -> dict[str, Any]:
    return {"name": "chat", "config": {"served_entities": [entity]}, "residency": list(rules)}


def kept(*rules: Any) -> Any:
    return read_create(document(*rules)).config.delivery["residency"]


def problems(*rules: Any, entity: dict[str, Any] = OWN) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        read_create(document(*rules, entity=entity))
    return raised.value.problems


def test_what_is_kept_is_whole() -> None:
    rule = {"name": "eu", "stay_in": ["west"], "match": {"headers": {"X-Tenant": "clinic"}}, "entities": ["a"]}
    assert kept(rule, {"name": "own", "stay_in": "own"}) == [
        {"name": "eu", "stay_in": ["west"], "match": [{"headers": {"x-tenant": {"exact": "clinic"}}}], "entities": ["a"]},
        {"name": "own", "stay_in": "own"},
    ]
    assert changed({"residency": [rule]}, {"residency": []}) == {}


EXPECTED = "expected own, for the region that a request comes from, or a list of regions' names"


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"name": "r"}, "residency[0].stay_in: got nothing; expected a value"),
        ({"name": "r", "stay_in": "west"}, f"residency[0].stay_in: got 'west'; {EXPECTED}"),
        ({"name": "r", "stay_in": ["a b"]}, f"residency[0].stay_in: got a list of 1; {EXPECTED}"),
        (
            {"name": "r", "stay_in": "own", "regions": ["x"]},
            "residency[0].regions: unknown key; expected only keys that are known",
        ),
        ({"name": "r", "stay_in": "own", "match": {"percentage": 5}}, "match has a percentage; expected none"),
    ],
)
def test_what_is_wrong_is_said(rule: dict[str, Any], problem: str) -> None:
    (said,) = problems(rule)
    assert problem in said


def test_names_twice_and_entities_that_are_none() -> None:
    rules = [{"name": "r", "stay_in": "own", "entities": ["a", "b"]}, {"name": "r", "stay_in": "own"}]
    assert check({"residency": rules}, [OWN], "x.") == [
        "x.residency[0].name: got 'r' 2 times; expected a name of its own for each rule",
        "x.residency[1].name: got 'r' 2 times; expected a name of its own for each rule",
        "x.residency[0].entities: got 'b'; expected one of the endpoint's served entities: a",
    ]


def test_an_external_model_says_where_it_is() -> None:
    (entity,) = read_create(document(entity={**OPENAI, "region": "west"})).config.entities or [{}]
    assert entity["region"] == "west"
    (problem,) = problems(entity={**OWN, "region": "west"})
    assert "region belongs to external_model; expected none, as the gateway's pools say where they are" in problem


def test_regions_that_the_gateway_has_not() -> None:
    there = "expected one of the gateway's regions: west, north"
    rules: list[dict[str, Any]] = [{"name": "a", "stay_in": ["west", "mars"]}, {"name": "b", "stay_in": "own"}]
    assert unknown_regions(rules, ("west", "north"), "x.") == [f"x.residency[0].stay_in: got 'mars'; {there}"]
    assert unknown_regions(rules, ("west", "north"), "x.", before=rules[:1]) == []
    none = "expected none, as the gateway's config has no regions"
    assert unknown_regions(rules, (), "") == [f"residency[{at}]: got the rule '{name}'; {none}" for at, name in enumerate("ab")]
    entities = [{**OPENAI, "region": "mars"}, OPENAI, {**OPENAI, "region": "north"}]
    assert regions_of_entities(entities, ("west", "north"), "e") == [f"e[0].region: got 'mars'; {there}"]
    assert regions_of_entities(entities, ("west", "north"), "e", before=entities) == []
    assert regions_of_entities(entities, (), "e") == [f"e[{at}].region: got a region; {none}" for at in (0, 2)]
