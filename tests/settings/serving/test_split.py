from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.settings.base import SettingsError
from extproc.settings.serving.split import Share, settled
from tests.settings.serving.documents import openai


def entities(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "entity_name": f"model-{name}"} for name in names]


def problems(*arguments: Any, **words: Any) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        settled(*arguments, **words)
    return list(raised.value.problems)


def shares(**each: int) -> list[Share]:
    return [Share(name, share, f"traffic_config.routes[{i}]") for i, (name, share) in enumerate(each.items())]


def test_one_entity_gets_all_without_a_word() -> None:
    assert settled(entities("a"), None).percentages == {"a": 100}


def test_several_entities_need_a_split() -> None:
    assert problems(entities("a", "b"), None) == [
        "traffic_config.routes: got nothing; expected the shares of 2 entities, 100 in all"
    ]


@pytest.mark.parametrize(("a", "b"), [(90, 9), (90, 11), (0, 0), (100, 100)])
def test_shares_add_up_to_100(a: int, b: int) -> None:
    assert problems(entities("a", "b"), shares(a=a, b=b), prefix="config.") == [
        f"config.traffic_config.routes: got {a} + {b} = {a + b}; expected shares that add up to 100"
    ]


def test_an_entity_without_a_route_has_no_share() -> None:
    assert settled(entities("a", "b", "c"), shares(c=100)).percentages == {"a": 0, "b": 0, "c": 100}


def test_a_route_names_an_entity_that_there_is_and_only_one_does() -> None:
    assert problems(entities("a", "b"), [*shares(a=50, z=30), Share("a", 20, "traffic_config.routes[2]")]) == [
        "traffic_config.routes[0].served_entity_name: got 'a' 2 times; expected one route for each entity",
        "traffic_config.routes[1].served_entity_name: got 'z'; expected one of the endpoint's served entities: a, b",
        "traffic_config.routes[2].served_entity_name: got 'a' 2 times; expected one route for each entity",
    ]


def test_two_entities_are_not_called_the_same() -> None:
    assert problems(entities("a", "b", "a"), None) == [
        "served_entities[2].name: got 'a', which served_entities[0] has; expected a name of its own"
    ]


def test_names_that_are_not_given_are_those_of_databricks() -> None:
    found = settled(
        [
            {"entity_name": "ads1", "entity_version": "3"},
            {"entity_name": "catalog.schema.model-A", "entity_version": "1"},
            {"entity_name": "meta-llama/Llama-3.1"},
        ],
        [Share("ads1-3", 60), Share("catalog.schema.model-A-1", 30), Share("meta-llama-Llama-3-1", 10)],
    )
    assert found.percentages == {"ads1-3": 60, "catalog-schema-model-A-1": 30, "meta-llama-Llama-3-1": 10}
    external = openai(model="gpt-4o:2024.1")
    del external["name"]
    assert settled([external], None).percentages == {"gpt-4o-2024-1": 100}


def test_own_and_external_models_do_not_share_an_endpoint() -> None:
    (line,) = problems([*entities("a"), openai("gpt")], shares(a=100))
    assert line.startswith("served_entities[1].external_model: got own models beside external ones")


def test_external_models_of_an_endpoint_have_one_task() -> None:
    (line,) = problems([openai("a"), openai("b", task="llm/v1/embeddings")], shares(a=100))
    assert line.startswith("served_entities: got the tasks llm/v1/chat, llm/v1/embeddings; expected one task for all")


def test_more_entities_than_are_allowed() -> None:
    names = [f"e{i}" for i in range(16)]
    assert problems(entities(*names), shares(e0=100), listed_as="served_models") == [
        "served_models: got 16 entities; expected at most 15"
    ]
    assert settled(entities(*names), shares(e0=100), most=16).percentages["e0"] == 100


def test_the_split_of_before_stays_when_none_is_given() -> None:
    assert settled(entities("a", "b", "new"), None, before={"a": 90, "b": 10}).percentages == {"a": 90, "b": 10, "new": 0}
    assert settled(entities("a", "b"), None, before={"a": 90, "b": 10, "dark": 0}).percentages == {"a": 90, "b": 10}


def test_an_entity_that_has_traffic_is_not_left_out_in_silence() -> None:
    assert problems(entities("a", "c"), None, before={"a": 90, "b": 10}) == [
        "traffic_config.routes: got none, and 'b' is left out, which has 10 % of the traffic; expected the split to be"
    ]
    assert settled(entities("only"), None, before={"a": 90, "b": 10}).percentages == {"only": 100}


@given(st.lists(st.integers(0, 100), min_size=1, max_size=15))
def test_what_is_settled_adds_up(each: list[int]) -> None:
    given_shares = [Share(f"e{i}", share) for i, share in enumerate(each)]
    names = [f"e{i}" for i in range(len(each))]
    if sum(each) == 100:
        assert list(settled(entities(*names), given_shares).percentages.values()) == each
    else:
        assert any("add up to 100" in line for line in problems(entities(*names), given_shares))
