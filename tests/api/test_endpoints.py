"""Create, list, get, update and delete, over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from extproc.control.changes import Declare
from tests.api.served import BASE, Api, served
from tests.control.desks import Bench, catalog, document, split
from tests.control.stores import Shaky
from tests.settings.serving.documents import external, openai

START_MS = 1_700_000_000_000


def shares(endpoint: dict[str, Any]) -> dict[str, int]:
    return {
        route["served_entity_name"]: route["traffic_percentage"] for route in endpoint["config"]["traffic_config"]["routes"]
    }


async def test_a_new_endpoint_is_answered_whole() -> None:
    async with served() as api:
        answer = await api.post("", {**document(), "tags": [{"key": "team", "value": "x"}, {"key": "bare"}]})
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        endpoint = answer.json
        assert endpoint == (await api.get("/chat")).json
    ready = {"deployment": "DEPLOYMENT_READY", "deployment_state_message": ""}
    stamps = {"creator": "local", "creation_timestamp": START_MS}
    assert endpoint == {
        "id": "id1",
        "name": "chat",
        **stamps,
        "last_updated_timestamp": START_MS,
        "state": {"ready": "READY", "config_update": "NOT_UPDATING"},
        "config": {
            "config_version": 1,
            "served_entities": [
                {"name": "a", "entity_name": "model-A", "state": ready, **stamps},
                {"name": "b", "entity_name": "model-B", "state": ready, **stamps},
            ],
            "served_models": [],
            "traffic_config": {
                "routes": [
                    {"served_entity_name": "a", "served_model_name": "a", "traffic_percentage": 90},
                    {"served_entity_name": "b", "served_model_name": "b", "traffic_percentage": 10},
                ]
            },
        },
        "tags": [{"key": "team", "value": "x"}, {"key": "bare"}],
        "permission_level": "CAN_MANAGE",
        "route_optimized": False,
        "description": "",
        "sticky": "key",
        "gateway_owner": "api",
    }


async def test_the_list_is_short_and_always_there() -> None:
    async with served() as api:
        assert (await api.get()).json == {"endpoints": []}
        for name in ("two", "one"):
            await api.post("", document(name))
        listed = (await api.get("/")).json["endpoints"]
    assert [each["name"] for each in listed] == ["one", "two"]
    assert listed[0]["config"] == {
        "served_entities": [{"name": "a", "entity_name": "model-A"}, {"name": "b", "entity_name": "model-B"}],
        "served_models": [],
    }
    assert listed[0]["state"]["config_update"] == "NOT_UPDATING"


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_slash_at_the_end_is_no_other_path(slash: str) -> None:
    async with served() as api:
        assert (await api.post(slash, document())).status == 200
        assert (await api.get(f"/chat{slash}")).status == 200
        assert (await api.put(f"/chat/config{slash}", split(a=50, b=50))).status == 200
        assert (await api.get(f"/chat/history{slash}")).status == 200
        assert (await api.delete(f"/chat{slash}")).json == {}


async def test_what_is_given_of_a_config_replaces_and_the_rest_stays() -> None:
    async with served() as api:
        await api.post("", document())
        changed = (await api.put("/chat/config", split(a=50, b=50))).json
        assert (shares(changed), changed["config"]["config_version"]) == ({"a": 50, "b": 50}, 2)
        assert api.bench.shares("chat") == {"a": 50, "b": 50}
        changed = (await api.put("/chat/config", document("chat", a=100)["config"])).json
        assert (shares(changed), changed["config"]["config_version"]) == ({"a": 100}, 3)


async def test_what_was_read_can_be_sent_back() -> None:
    """And says which version was read: what somebody else did meanwhile is not overwritten."""
    async with served() as api:
        read = (await api.post("", document())).json["config"]
        answer = await api.put("/chat/config", read)
        assert answer.json["config"] == {**read, "config_version": 2}
        assert (await api.put("/chat/config", read)).error == (
            409,
            "RESOURCE_CONFLICT",
            "config_version: got 1; expected 2: the endpoint 'chat' was changed meanwhile",
        )
        assert (await api.put("/chat/config?config_version=1", split(a=1, b=99))).status == 409
        assert (await api.put("/chat/config?config_version=2", split(a=1, b=99))).status == 200


async def test_a_dry_run_says_what_would_move_and_changes_nothing() -> None:
    async with served() as api:
        await api.post("", document())
        answer = (await api.put("/chat/config?dry_run=true", split(a=70, b=30))).json
        assert (answer["dry_run"], shares(answer["endpoint"])) == (True, {"a": 70, "b": 30})
        (effect,) = answer["effects"]
        assert effect["buckets_before"] == {"a": 9000, "b": 1000}
        assert effect["buckets_after"] == {"a": 7000, "b": 3000}
        assert effect["buckets_moved"] == 2000
        assert shares((await api.get("/chat")).json) == {"a": 90, "b": 10}
        tried = (await api.post("?dry_run=true", document("new"))).json
        assert tried["endpoint"]["state"]["ready"] == "NOT_READY"
        assert tried["endpoint"]["config"]["served_entities"][0]["state"]["deployment"] == "DEPLOYMENT_CREATING"
        assert (await api.get("/new")).status == 404
        assert (await api.delete("/chat?dry_run=1")).json["effects"][0]["buckets_after"] == {}
        for part, body in (("tags", {"add_tags": [{"key": "k"}]}), ("notifications", {}), ("telemetry-config", {})):
            assert (await api.patch(f"/chat/{part}?dry_run=true", body)).json["dry_run"] is True
        for part in ("rate-limits", "ai-gateway"):
            assert (await api.put(f"/chat/{part}?dry_run=true", {})).json["dry_run"] is True
        assert len((await api.get("/chat/history")).json["history"]) == 1
        assert (await api.put("/chat/config?dry_run=maybe", split(a=70, b=30))).error == (
            400,
            "INVALID_PARAMETER_VALUE",
            "dry_run: got 'maybe'; expected true or false",
        )


async def test_the_state_is_that_of_the_pools() -> None:
    async with served() as api:
        await api.post("", document(a=100, b=0))
        api.down.add("b")
        endpoint = (await api.get("/chat")).json
        assert endpoint["state"]["ready"] == "NOT_READY"
        assert [each["state"]["deployment"] for each in endpoint["config"]["served_entities"]] == [
            "DEPLOYMENT_READY",
            "DEPLOYMENT_RECOVERING",
        ]
        assert (await api.get()).json["endpoints"][0]["state"]["ready"] == "NOT_READY"
        api.down.clear()
        assert (await api.get("/chat")).json["state"]["ready"] == "READY"


async def test_an_entity_that_nothing_serves_any_more_is_a_problem() -> None:
    async with served() as api:
        await api.post("", document())
        api.bench.catalog = catalog("a")
        api.bench.desk.recompile()
        endpoint = (await api.get("/chat")).json
        assert endpoint["state"]["ready"] == "NOT_READY"
        state = endpoint["config"]["served_entities"][1]["state"]
        assert state["deployment"] == "DEPLOYMENT_FAILED"
        assert endpoint["gateway_problems"] == [f"b: {state['deployment_state_message']}"]


async def test_a_secret_that_is_given_as_text_is_shown_to_nobody() -> None:
    key = "sk-very-secret-indeed-0123456789"
    async with served() as api:
        answers = [await api.post("", external(openai("gpt", openai_api_key_plaintext=key), name="proxy"))]
        assert answers[0].status == 200
        paths = ("/proxy", "", "/proxy/history", ":export", ":export?format=yaml", "/proxy/openapi")
        answers += [await api.get(path) for path in paths]
        both = openai("other", openai_api_key_plaintext=key, openai_api_key="{{secrets/a/b}}")
        answers.append(await api.post("", external(both, name="wrong")))
        assert answers[-1].status == 400
        as_reference = openai("other", openai_api_key=key)
        answers.append(await api.put("/proxy/config", {"served_entities": [as_reference]}))
        assert answers[-1].status == 400
    assert [key in answer.text for answer in answers] == [False] * len(answers)


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/nope", None, (404, "RESOURCE_DOES_NOT_EXIST", "The serving endpoint 'nope' does not exist")),
        ("DELETE", "/nope", None, (404, "RESOURCE_DOES_NOT_EXIST", "The serving endpoint 'nope' does not exist")),
        ("PUT", "/nope/config", {}, (404, "RESOURCE_DOES_NOT_EXIST", "The serving endpoint 'nope' does not exist")),
        ("PATCH", "/nope/tags", {}, (404, "RESOURCE_DOES_NOT_EXIST", "The serving endpoint 'nope' does not exist")),
        ("GET", "/nope/metrics", None, (404, "RESOURCE_DOES_NOT_EXIST", "The serving endpoint 'nope' does not exist")),
        ("GET", "/nope/history", None, (404, "RESOURCE_DOES_NOT_EXIST", "The serving endpoint 'nope' does not exist")),
        (
            "PUT",
            "/chat/config",
            split(a=50, b=49),
            (
                400,
                "INVALID_PARAMETER_VALUE",
                "traffic_config.routes: got 50 + 49 = 99; expected shares that add up to 100",
            ),
        ),
        (
            "PUT",
            "/chat/config",
            {"config_version": "x", **split(a=50, b=50)},
            (
                400,
                "INVALID_PARAMETER_VALUE",
                "config_version: got 'x'; expected a whole number of at least 1, of at most 63 bits",
            ),
        ),
        (
            "PUT",
            "/chat/config",
            {"reason": 3},
            (400, "MALFORMED_REQUEST", "reason: got no text; expected why the config is changed, in words"),
        ),
        (
            "PUT",
            "/pt/chat/config",
            split(a=50, b=50),
            (
                400,
                "INVALID_PARAMETER_VALUE",
                "config: got nothing of the kind; expected an object with served_entities, traffic_config or both",
            ),
        ),
        (
            "POST",
            "/chat/revert",
            {},
            (
                400,
                "INVALID_PARAMETER_VALUE",
                "config_version: got nothing; expected the version to go back to, as the history has it",
            ),
        ),
        ("POST", "/chat/revert", {"config_version": 9}, (404, "RESOURCE_DOES_NOT_EXIST", None)),
        ("POST", "", document(), (409, "RESOURCE_ALREADY_EXISTS", "The serving endpoint 'chat' exists already")),
        ("POST", "", document("no good"), (400, "INVALID_PARAMETER_VALUE", None)),
        (
            "GET",
            "/chat/served-models/z/logs",
            None,
            (404, "RESOURCE_DOES_NOT_EXIST", "The endpoint 'chat' has no served entity 'z'. There are: a, b"),
        ),
        ("GET", ":export?format=xml", None, (400, "INVALID_PARAMETER_VALUE", "format: got 'xml'; expected json or yaml")),
        (
            "GET",
            "/chat/history?limit=-1",
            None,
            (400, "INVALID_PARAMETER_VALUE", "limit: got '-1'; expected a whole number of at least 0, of at most 63 bits"),
        ),
    ],
)
async def test_what_is_refused(method: str, path: str, body: Any, expected: tuple[int, str, str | None]) -> None:
    async with served() as api:
        await api.post("", document())
        status, code, message = (await api.call(method, BASE + path, body)).error
        assert (status, code) == expected[:2]
        assert expected[2] in (None, message), message


async def test_every_problem_is_said_at_once() -> None:
    async with served() as api:
        config = {
            "served_entities": [{"name": "a", "entity_name": "model-A"}, {"name": "a", "entity_name": "model-B"}],
            "traffic_config": {"routes": [{"served_entity_name": "a", "traffic_percentage": "90.5"}]},
        }
        _, code, message = (await api.post("", {"name": "x y", "config": config})).error
    assert code == "INVALID_PARAMETER_VALUE"
    assert "name: got 'x y'; expected a name" in message
    assert "config.traffic_config.routes[0].traffic_percentage: got '90.5'; expected a whole number from 0 to 100" in message


async def test_an_endpoint_of_a_file_is_shown_and_not_changed() -> None:
    async with served() as api:
        await api.bench.desk.apply(Declare("file:/etc/chat.yaml", [document()]), "file")
        assert (await api.get("/chat")).json["gateway_owner"] == "file:/etc/chat.yaml"
        status, code, message = (await api.put("/chat/config", split(a=50, b=50))).error
        assert (status, code) == (409, "RESOURCE_CONFLICT")
        assert "belongs to file:/etc/chat.yaml, and api can't change it" in message


async def test_updates_at_once_are_made_one_after_another() -> None:
    async with served() as api:
        await api.post("", document())
        answers = await asyncio.gather(*(api.put("/chat/config", split(a=each, b=100 - each)) for each in range(20)))
        assert [answer.status for answer in answers] == [200] * 20
        assert sorted(answer.json["config"]["config_version"] for answer in answers) == list(range(2, 22))


async def test_before_the_store_was_asked_nothing_is_claimed() -> None:
    async with served(opened=False) as api:
        for answer in (await api.get(), await api.get("/chat"), await api.post("", document())):
            assert answer.error[:2] == (503, "TEMPORARILY_UNAVAILABLE")
            assert answer.headers["retry-after"] == "1"
        assert (await api.call("GET", "/.well-known/databricks-config")).json == {}


async def test_while_the_store_is_away_endpoints_are_shown_and_changes_are_put_off() -> None:
    store = Shaky()
    async with served(Bench(store)) as api:
        await api.post("", document())
        store.go()
        changes = [
            await api.post("", document("other")),
            await api.put("/chat/config", split(a=50, b=50)),
            await api.delete("/chat"),
            await api.get("/chat/history"),
        ]
        for answer in changes:
            assert answer.error[:2] == (503, "TEMPORARILY_UNAVAILABLE")
            assert answer.headers["retry-after"] == "1"
        assert shares((await api.get("/chat")).json) == {"a": 90, "b": 10}
        store.back()
        assert (await api.put("/chat/config", split(a=50, b=50))).status == 200


async def test_a_change_whose_answer_was_lost_on_the_way_from_the_store_is_seen() -> None:
    store = Shaky()
    async with served(Bench(store)) as api:
        store.cut_after_commit = True
        assert (await api.post("", document())).status == 503
        assert (await api.post("", document())).error[:2] == (409, "RESOURCE_ALREADY_EXISTS")
        assert (await api.get("/chat")).status == 200


async def test_an_endpoint_may_be_called_pt() -> None:
    async with served() as api:
        assert (await api.post("/pt", document("pt"))).status == 200
        assert (await api.get("/pt")).json["name"] == "pt"
        assert shares((await api.put("/pt/config", split(a=1, b=99))).json) == {"a": 1, "b": 99}
        assert shares((await api.put("/pt/pt/config", {"config": split(a=2, b=98)})).json) == {"a": 2, "b": 98}
        assert (await api.delete("/pt")).status == 200


async def many(api: Api, number: int) -> None:
    await api.bench.desk.apply(Declare("file:x", [document(f"e{each:04}") for each in range(number)]), "file")


async def test_a_list_of_a_thousand_lets_others_between() -> None:
    """No turn of the event loop is longer than a few slices."""
    async with served() as api:
        await many(api, 1000)
        gaps = [0.0]
        loop = asyncio.get_running_loop()

        async def others() -> None:
            last_s = loop.time()
            while True:
                await asyncio.sleep(0)
                now_s = loop.time()
                gaps.append(now_s - last_s)
                last_s = now_s

        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        task = asyncio.create_task(others())
        writer.write(f"GET {BASE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        size = 0
        while piece := await reader.read(2**16):
            size += len(piece)
        task.cancel()
        writer.close()
    assert size > 300_000
    assert sorted(gaps)[-10] < 0.05  # of half a second or so at once


async def test_the_head_of_a_page_is_the_pages() -> None:
    async with served() as api:
        assert (await api.call("HEAD", BASE)).status == 200
