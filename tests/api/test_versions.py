"""Histories, going back, and taking endpoints along."""

from __future__ import annotations

import yaml

from tests.api.served import served
from tests.control.desks import document, split

START_MS = 1_700_000_000_000


async def test_a_history_says_who_when_why_and_what() -> None:
    async with served() as api:
        await api.post("?reason=a%20new%20one", document())
        await api.put("/chat/config", {**split(a=50, b=50), "reason": "half for b"})
        await api.patch("/chat/tags", {"add_tags": [{"key": "team", "value": "x"}]})
        found = (await api.get("/chat/history")).json
        assert found["next_before"] is None
        tags, update, create = found["history"]
        assert update == {
            "revision": 2,
            "kind": "update",
            "author": "local",
            "reason": "half for b",
            "timestamp": START_MS + 1,
            "config_version": 2,
            "changes": [
                {"path": "config.traffic.a", "before": 90, "after": 50},
                {"path": "config.traffic.b", "before": 10, "after": 50},
            ],
        }
        assert (create["kind"], create["reason"]) == ("create", "a new one")
        assert tags["changes"] == [{"path": "tags.team", "before": None, "after": "x"}]


async def test_a_history_comes_in_pages() -> None:
    async with served() as api:
        await api.post("", document())
        for each in range(6):
            await api.put("/chat/config", split(a=each, b=100 - each))
        seen: list[int] = []
        before = ""
        while True:
            page = (await api.get(f"/chat/history?limit=3{before}")).json
            seen += [each["config_version"] for each in page["history"]]
            if page["next_before"] is None:
                break
            before = f"&before={page['next_before']}"
        assert seen == [7, 6, 5, 4, 3, 2, 1]


async def test_a_deleted_endpoint_keeps_its_history() -> None:
    async with served() as api:
        await api.post("", document())
        await api.delete("/chat?reason=over")
        last = (await api.get("/chat/history")).json["history"][0]
        assert (last["kind"], last["reason"], last["config_version"]) == ("delete", "over", None)


async def test_going_back_is_a_new_version() -> None:
    async with served() as api:
        await api.post("", document())
        await api.put("/chat/config", document(a=20, b=30, c=50)["config"])
        back = (await api.post("/chat/revert", {"config_version": 1, "reason": "c is slow"})).json
        assert back["config"]["config_version"] == 3
        assert [route["traffic_percentage"] for route in back["config"]["traffic_config"]["routes"]] == [90, 10]
        assert api.bench.shares("chat") == {"a": 90, "b": 10}
        tried = (await api.post("/chat/revert?dry_run=true", {"config_version": 2})).json
        assert tried["effects"][0]["buckets_after"] == {"a": 2000, "b": 3000, "c": 5000}
        reasons = [each["reason"] for each in (await api.get("/chat/history")).json["history"]]
        assert reasons == ["c is slow", "", ""]
        await api.post("/chat/revert", {"config_version": "2"})
        assert (await api.get("/chat/history")).json["history"][0]["reason"] == "back to version 2"
        assert (await api.post("/chat/revert", {"config_version": 1, "reason": 3})).error[1] == "MALFORMED_REQUEST"


async def test_what_is_exported_can_be_imported() -> None:
    async with served() as one, served() as other:
        await one.post("", {**document("chat"), "tags": [{"key": "team", "value": "x"}], "sticky": "none"})
        await one.post("", document("other", a=100))
        exported = await one.get(":export")
        answer = (await other.post(":import", exported.text.encode())).json
        assert [effect["endpoint"] for effect in answer["effects"]] == ["chat", "other"]
        assert (answer["dry_run"], answer["revision"]) == (False, 2)
        assert (await other.get(":export")).json == exported.json
        assert (await other.get("/chat")).json["sticky"] == "none"
        again = (await other.post(":import", exported.text.encode())).json
        assert again["effects"] == [], "nothing is new"


async def test_yaml_goes_both_ways() -> None:
    async with served() as one, served() as other:
        assert (await one.get(":export?format=yaml")).text == "servingEndpoints: []\n"
        for name in ("chat", "other"):
            await one.post("", document(name))
        answer = await one.get(":export?format=yaml")
        assert answer.headers["content-type"] == "application/yaml"
        assert [each["name"] for each in yaml.safe_load(answer.text)["servingEndpoints"]] == ["chat", "other"]
        await other.post(":import", answer.text.encode())
        assert (await other.get(":export?format=yaml")).text == answer.text


async def test_an_import_is_all_or_nothing_and_leaves_others() -> None:
    async with served() as api:
        await api.post("", document("old"))
        status, code, message = (
            await api.post(":import", {"servingEndpoints": [document("good"), document("bad", a=50, b=51)]})
        ).error
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
        assert message.startswith("servingEndpoints[1].config.traffic_config.routes: got 50 + 51 = 101")
        assert (await api.post(":import?dry_run=true", [document("good")])).json["effects"][0]["endpoint"] == "good"
        assert [each["name"] for each in (await api.get()).json["endpoints"]] == ["old"]
        await api.post(":import?reason=moved", [document("good"), document("old", a=1, b=99)])
        assert [each["name"] for each in (await api.get()).json["endpoints"]] == ["good", "old"]
        assert api.bench.shares("old") == {"a": 1, "b": 99}
        assert (await api.get("/good/history")).json["history"][0]["reason"] == "moved"
        assert (await api.post(":import", b"a: b: c")).error[1] == "MALFORMED_REQUEST"
        assert (await api.post(":import", b"3")).error[1] == "MALFORMED_REQUEST"


async def test_an_export_of_one_owner() -> None:
    async with served() as api:
        await api.post("", document())
        assert len((await api.get(":export?owner=api")).json["servingEndpoints"]) == 1
        assert (await api.get(":export?owner=file:x")).json == {"servingEndpoints": []}
