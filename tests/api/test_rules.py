"""Every rule of Databricks' API that can be broken: status, code, and a message with field, value and what was expected.

The rules are those of databricks-sdk's documentation of `serving_endpoints` and of Databricks' pages; the words are ours.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.served import served
from tests.control.desks import document, split
from tests.settings.serving.documents import external, openai

REFERENCE = "{{secrets/my/key}}"


def entity(name: str | None = "a", model: str = "model-A", **more: Any) -> dict[str, Any]:
    return {**({} if name is None else {"name": name}), "entity_name": model, **more}


def endpoint(*entities: Any, name: str = "new", **config: Any) -> dict[str, Any]:
    return {"name": name, "config": {"served_entities": list(entities), **config}}


def routes(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    return {"traffic_config": {"routes": [{"served_entity_name": name, "traffic_percentage": share} for name, share in pairs]}}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"config": {}}, "name: got nothing; expected a value"),
    ({"name": "new"}, "config: got nothing; expected a value"),
    (
        {"name": "new", "config": routes(("a", 100))},
        "config.served_entities: got nothing; expected the entities that the endpoint serves",
    ),
    (endpoint(entity(), name="a/b"), "name: got 'a/b'; expected a name of 1 to 128 letters, digits, dashes and underscores"),
    (endpoint(), "config.served_entities: got a list of 0; expected at least 1"),
    (endpoint(entity("x y")), "config.served_entities[0].name: got 'x y'; expected a name of 1 to 128 letters"),
    (
        endpoint(entity("a"), entity("a", "model-B"), **routes(("a", 100))),
        "config.served_entities[1].name: got 'a', which config.served_entities[0] has; expected a name of its own",
    ),
    (
        endpoint(entity("a"), entity("b", "model-B")),
        "config.traffic_config.routes: got nothing; expected the shares of 2 entities, 100 in all",
    ),
    (endpoint(entity(), **routes(("a", 99))), "config.traffic_config.routes: got 99 = 99; expected shares that add up to 100"),
    (
        endpoint(entity("a"), entity("b"), **routes(("a", 51), ("b", 50))),
        "config.traffic_config.routes: got 51 + 50 = 101; expected shares that add up to 100",
    ),
    (
        endpoint(entity(), **routes(("a", 100), ("z", 0))),
        "config.traffic_config.routes[1].served_entity_name: got 'z'; expected one of the endpoint's served entities: a",
    ),
    (
        endpoint(entity(), **routes(("a", 50), ("a", 50))),
        "config.traffic_config.routes[0].served_entity_name: got 'a' 2 times; expected one route for each entity",
    ),
    (
        endpoint(entity(), **routes(("a", 50.5))),
        "config.traffic_config.routes[0].traffic_percentage: got 50.5; expected a whole number from 0 to 100",
    ),
    (
        endpoint(entity(), **routes(("a", "much"))),
        "config.traffic_config.routes[0].traffic_percentage: got 'much'; expected a whole number from 0 to 100",
    ),
    (
        endpoint(entity(), **routes(("a", -1))),
        "config.traffic_config.routes[0].traffic_percentage: got -1; expected a whole number from 0 to 100",
    ),
    (
        endpoint(entity(), served_models=[{"model_name": "model-A", "model_version": "1"}]),
        "served_models and served_entities are both given; expected served_entities alone",
    ),
    (
        endpoint(*[entity(f"e{number}") for number in range(16)], **routes(("e0", 100))),
        "config.served_entities: got 16 entities; expected at most 15",
    ),
    (
        endpoint(entity("a", "model-Z")),
        "config.served_entities[0].entity_name: got 'model-Z'; expected an entity that a pool serves: no pool serves "
        "'model-Z'; there are: cat.schema.m, model-A, model-B, model-C",
    ),
    (
        endpoint(entity("a", "cat.schema.m", entity_version="3")),
        "entity 'cat.schema.m' has versions 1, 2, and version '3' was asked for",
    ),
    (
        endpoint(entity(), openai(), **routes(("a", 100))),
        "got own models beside external ones; expected entities of one kind in an endpoint",
    ),
    (
        endpoint(openai("a"), openai("b", task="llm/v1/embeddings"), **routes(("a", 100))),
        "config.served_entities: got the tasks llm/v1/chat, llm/v1/embeddings; expected one task for all external models",
    ),
    (
        endpoint({**openai("a"), "entity_name": "model-A"}),
        "external_model and entity_name exclude each other; expected one of them",
    ),
    (
        endpoint(entity("a", environment_vars={f"v{number}": "x" for number in range(31)})),
        "config.served_entities[0].environment_vars: got an object with 31 keys; expected at most 30",
    ),
    (endpoint({"name": "a"}), "config.served_entities[0]: got an object with 1 keys; expected entity_name or external_model"),
    ({**endpoint(entity()), "tags": [{"value": "x"}]}, "tags[0].key: got nothing; expected a value"),
    (
        {**endpoint(entity()), "rate_limits": [{"calls": 1, "renewal_period": "hour"}]},
        "rate_limits[0].renewal_period: got 'hour'; expected 'minute'",
    ),
    ({**endpoint(entity()), "confg": {}}, "confg: unknown key; expected config"),
]


@pytest.mark.parametrize(("body", "expected"), WRONG)
async def test_a_new_endpoint_that_breaks_a_rule(body: dict[str, Any], expected: str) -> None:
    async with served() as api:
        status, code, message = (await api.post("", body)).error
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
        assert expected in message
        assert (await api.get()).json == {"endpoints": []}


CHANGES: list[tuple[str, str, Any, str]] = [
    ("PUT", "/config", {}, "got nothing to change; expected served_entities, traffic_config or both"),
    (
        "PUT",
        "/config",
        {"served_entities": [openai()]},
        "served_entities: got external models; expected own ones as before: to change the kind, delete the endpoint",
    ),
    (
        "PUT",
        "/config",
        {"served_entities": [entity("a"), entity("c", "model-C")]},
        "traffic_config.routes: got none, and 'b' is left out, which has 10 % of the traffic; expected the split to be",
    ),
    ("PUT", "/config", routes(("a", 100), ("z", 0)), "traffic_config.routes[1].served_entity_name: got 'z'"),
    ("PUT", "/config", {"name": "other", **split(a=1, b=99)}, "name: got 'other'; expected the endpoint's name, 'chat'"),
    ("PATCH", "/tags", {"add_tags": {"a": "b"}}, "add_tags: got an object with 1 keys; expected a list"),
    (
        "PUT",
        "/ai-gateway",
        {"rate_limits": [{"renewal_period": "minute"}]},
        "rate_limits[0]: got an object with 1 keys; expected calls, tokens or both",
    ),
    (
        "PUT",
        "/ai-gateway",
        {"guardrails": {"input": {"safety": True}}},
        "guardrails are not enforced by this gateway; expected none, so that nobody relies on them",
    ),
    ("PUT", "/ai-gateway", {"fallback_config": {"enabled": "maybe"}}, "fallback_config.enabled: got 'maybe'; expected true"),
    ("PUT", "/rate-limits", {"rate_limits": [{"calls": -1, "renewal_period": "minute"}]}, "rate_limits[0].calls: got -1"),
    ("PATCH", "/notifications", {"email_notifications": []}, "email_notifications: got a list of 0; expected an object"),
]


@pytest.mark.parametrize(("method", "path", "body", "expected"), CHANGES)
async def test_a_change_that_breaks_a_rule(method: str, path: str, body: Any, expected: str) -> None:
    async with served() as api:
        before = (await api.post("", document())).json
        status, code, message = (await api.call(method, f"/api/2.0/serving-endpoints/chat{path}", body)).error
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
        assert expected in message
        assert (await api.get("/chat")).json == before


async def test_names_that_are_not_given() -> None:
    """Databricks' defaults: `{entity_name}-{entity_version}`, and of an external model its own name, with dashes."""
    async with served() as api:
        one = (await api.post("", endpoint(entity(None, entity_version="1")))).json
        assert one["config"]["served_entities"][0]["name"] == "model-A-1"
        assert one["config"]["traffic_config"]["routes"] == [
            {"served_entity_name": "model-A-1", "served_model_name": "model-A-1", "traffic_percentage": 100}
        ]
        provider = openai(model="gpt-4.1:mini")
        del provider["name"]
        two = (await api.post("", external({**provider, "name": "gpt-4-1-mini"}, name="given"))).json
        assert two["config"]["served_entities"][0]["name"] == "gpt-4-1-mini"
        three = (await api.post("", endpoint(provider, name="not-given"))).json
        assert three["config"]["served_entities"][0]["name"] == "gpt-4-1-mini"


async def test_the_deprecated_twin_is_taken_and_shown_as_entities() -> None:
    async with served() as api:
        config = {"served_models": [{"name": "a", "model_name": "model-A", "model_version": "2"}]}
        found = (await api.post("", {"name": "old", "config": config})).json["config"]
        assert found["served_models"] == []
        assert (found["served_entities"][0]["entity_name"], found["served_entities"][0]["entity_version"]) == ("model-A", "2")


async def test_an_entity_without_a_share_stays_warm() -> None:
    async with served() as api:
        made = (await api.post("", endpoint(entity("a"), entity("b", "model-B"), **routes(("a", 100))))).json
        assert [route["traffic_percentage"] for route in made["config"]["traffic_config"]["routes"]] == [100, 0]


async def test_what_means_something_only_in_the_cloud_is_kept_and_shown_but_for_what_is_written_only() -> None:
    cloud: dict[str, Any] = {"workload_size": "Small", "scale_to_zero_enabled": False, "workload_type": "GPU_SMALL"}
    async with served() as api:
        body = endpoint(entity("a", **cloud, burst_scaling_enabled=True))
        found = (await api.post("", {**body, "route_optimized": True, "budget_policy_id": "p"})).json
    assert cloud.items() <= found["config"]["served_entities"][0].items()
    assert "burst_scaling_enabled" not in found["config"]["served_entities"][0]
    assert (found["route_optimized"], found["budget_policy_id"]) == (True, "p")
