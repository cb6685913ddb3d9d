"""What is read of an endpoint besides itself, and what the API says of itself."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter

from extproc.api.openapi import document as openapi_document
from extproc.api.table import CALLS
from extproc.measures import Measures
from extproc.observability.serving import ServingMetrics
from tests.api.served import BASE, served
from tests.api.standing import Standing
from tests.api.tokens import VICTOR, Door
from tests.control.desks import document, split
from tests.fakes.clock import FakeClock
from tests.settings.serving.documents import external, openai

POOLS = "/api/2.0/pools"
FEEDBACK = {"request_id": "one", "good": True}


async def test_metrics_are_those_of_the_endpoint() -> None:
    async with served() as api:
        await api.post("", document())
        metrics = ServingMetrics(api.instruments)
        for endpoint in ("chat", "other"):
            metrics.decided(endpoint, "a", "draw")
            metrics.ended(endpoint, "a", 200)
        answer = await api.get("/chat/metrics", Accept="text/plain")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        assert set(families) == {"extproc_serving_requests", "extproc_serving_responses"}
        labels = [sample.labels["serving_endpoint"] for family in families.values() for sample in family.samples]
        assert labels == ["chat", "chat"]


async def test_logs_say_where_logs_are() -> None:
    async with served() as api:
        await api.post("", document())
        api.down.add("a")
        said = (await api.get("/chat/served-models/a/logs")).json["logs"]
        assert said.startswith("a: DEPLOYMENT_RECOVERING, no endpoint of the pool 'a' can serve it now\n")
        assert "Nothing is built" in (await api.get("/chat/served-models/b/build-logs")).json["logs"]


async def test_how_an_endpoint_is_queried() -> None:
    async with served() as api:
        await api.post("", document())
        await api.post("", external(openai("gpt"), name="proxy"))
        found = (await api.get("/chat/openapi")).json
        assert found["servers"] == [{"url": "/serving-endpoints/chat"}]
        assert list(found["paths"]) == ["/invocations", "/served-models/a/invocations", "/served-models/b/invocations"]
        found = (await api.get("/proxy/openapi")).json
        body = found["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert [list(shape["required"]) for shape in body["anyOf"]] == [["messages"]], "a chat endpoint takes chats"


async def test_the_api_says_what_it_has() -> None:
    async with served() as api:
        found = (await api.call("GET", "/api/2.0/openapi.json")).json
    listed = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    assert listed == {(call.method, call.path) for call in CALLS} | {("GET", "/api/2.0/openapi.json")}
    references = set(_references(found))
    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(found["components"]["schemas"])


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [each for inner in value.values() for each in _references(inner)]
    return [each for inner in value for each in _references(inner)] if isinstance(value, list) else []


async def test_answers_are_what_the_document_says() -> None:
    measures = Measures(FakeClock(), remembered=2)
    measures.remembered.add(b"one", (measures.cell("chat", "a"),))
    standing = Standing()
    standing.pool("own", 2)
    async with served(measures=measures, pools=standing.pools) as api:
        answers = {
            ("POST", BASE): (await api.post("", document())).json,
            ("GET", BASE): (await api.get()).json,
            ("GET", f"{BASE}/{{name}}"): (await api.get("/chat")).json,
            ("PUT", f"{BASE}/{{name}}/config"): (await api.put("/chat/config", split(a=1, b=99))).json,
            ("POST", f"{BASE}/{{name}}/revert"): (await api.post("/chat/revert", {"config_version": 1})).json,
            ("POST", f"{BASE}/pt"): (await api.post("/pt", document("two"))).json,
            ("GET", f"{BASE}/{{name}}/measures"): (await api.get("/chat/measures")).json,
            ("GET", f"{BASE}/{{name}}/measures/series"): (await api.get("/chat/measures/series")).json,
            ("GET", POOLS): (await api.call("GET", POOLS)).json,
            ("GET", f"{POOLS}/{{pool}}/endpoints"): (await api.call("GET", f"{POOLS}/own/endpoints")).json,
            ("GET", f"{POOLS}/{{pool}}/history"): (await api.call("GET", f"{POOLS}/own/history")).json,
            ("POST", f"{BASE}/{{name}}/feedback"): (await api.post("/chat/feedback", FEEDBACK)).json,
        }
        history = (await api.get("/chat/history")).json["history"]
    told = {(call.method, call.path): call.gives for call in CALLS if call.gives is not None}
    assert set(answers) == set(told) - {("GET", f"{BASE}/{{name}}/history")}
    for key, answer in answers.items():
        TypeAdapter(told[key]).validate_python(answer, strict=True)
    TypeAdapter(told[("GET", f"{BASE}/{{name}}/history")]).validate_python({"history": history}, strict=True)


def test_the_document_needs_no_server() -> None:
    document = openapi_document(CALLS)
    create = document["paths"][BASE]["post"]
    assert create["requestBody"]["content"]["application/json"]["schema"]["properties"]["config"] == {
        "$ref": "#/components/schemas/CoreConfig"
    }
    assert create["x-extproc-role"] == "manage"


class TestRights:
    async def test_who_may_what(self) -> None:
        async with served(guard=Door().guard) as api:
            api.token = "dapi-token-of-alice"
            endpoint = (await api.post("", document())).json
            path = f"/api/2.0/permissions/serving-endpoints/{endpoint['id']}"
            found = (await api.call("GET", path)).json
            assert (found["object_id"], found["object_type"]) == (f"/serving-endpoints/{endpoint['id']}", "serving-endpoint")
            assert {each["user_name"]: each["all_permissions"] for each in found["access_control_list"]} == {
                "alice@example.com": [{"permission_level": "CAN_MANAGE", "inherited": False}],
                "victor@example.com": [{"permission_level": "CAN_VIEW", "inherited": False}],
                "quentin@example.com": [{"permission_level": "CAN_QUERY", "inherited": False}],
            }
            levels = (await api.call("GET", f"{path}/permissionLevels")).json["permission_levels"]
            assert [each["permission_level"] for each in levels] == ["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]
            for method in ("PUT", "PATCH"):
                status, code, message = (await api.call(method, path, {"access_control_list": []})).error
                assert (status, code) == (501, "NOT_IMPLEMENTED")
                assert "--api-tokens-file" in message
            api.token = VICTOR
            found = (await api.call("GET", path)).json
            assert [each["user_name"] for each in found["access_control_list"]] == ["victor@example.com"]
            assert (await api.call("PUT", path, {})).error[1] == "PERMISSION_DENIED"

    @pytest.mark.parametrize("path", ["nothing", "nothing/permissionLevels"])
    async def test_of_what_is_not_there(self, path: str) -> None:
        async with served() as api:
            answer = await api.call("GET", f"/api/2.0/permissions/serving-endpoints/{path}")
            assert answer.error[:2] == (404, "RESOURCE_DOES_NOT_EXIST")

    async def test_whose_token_it_is(self) -> None:
        async with served(guard=Door().guard) as api:
            api.token = VICTOR
            found = (await api.call("GET", "/api/2.0/preview/scim/v2/Me")).json
            assert (found["userName"], found["active"]) == ("victor@example.com", True)
