"""Decisions over the API, and a request that is only tried."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from extproc.audit.journal import Journal
from extproc.control.audited import Audited
from extproc.domain import RequestHead
from extproc.observability.decisions import DecisionLog
from extproc.traffic import EndpointSpec, EntitySpec, RateLimit
from tests.api.page.test_decisions import decided
from tests.api.served import served
from tests.api.tokens import ALICE, QUENTIN, Door
from tests.control.test_audited import write
from tests.fakes.deployment import Deployment
from tests.fakes.page import counted

CHAT = EndpointSpec("chat", (EntitySpec("a", "m"),), (100,), rate_limits=(RateLimit("endpoint", calls=1),))
HELLO = {"path": "/serving-endpoints/chat/invocations", "headers": {"x-user-id": "ada"}, "body": {"messages": []}}


async def test_search_and_one_with_its_candidates() -> None:
    log = DecisionLog()
    decided(log, "r-1")
    decided(log, "r-2", status=503)
    async with served(decisions=log) as api:
        found = (await api.get(":decisions")).json
        assert [each["request_id"] for each in found["decisions"]] == ["r-2", "r-1"]
        assert "considered" not in found["decisions"][0]
        assert [each["status"] for each in (await api.get(":decisions?outcome=bad")).json["decisions"]] == [503]
        assert (await api.get(":decisions?request_id=r-1")).json["decisions"][0]["considered"] is None
        assert (await api.get(":decisions?limit=1")).json["total"] == 2
        assert "expected a status" in (await api.get(":decisions?status=often")).error[2]
        assert "expected good" in (await api.get(":decisions?outcome=fine")).error[2]
    async with served() as api:
        assert (await api.get(":decisions")).error[0] == 404


async def test_older_ones_are_in_files_and_seen_by_who_may(tmp_path: Path) -> None:
    at = 1_790_000_000
    rows: list[dict[str, object]] = [
        {"at_ms": at * 1000, "id": name, "endpoint": name, "status": 200} for name in ("chat", "secret")
    ]
    write(tmp_path, at, "a-1", *rows)
    async with served(guard=Door().guard, decisions=DecisionLog(), audited=Audited(None, tmp_path)) as api:
        api.token = ALICE
        assert {each["id"] for each in (await api.get(":decisions?older=true")).json["older"]} == {"chat", "secret"}
        assert "older" not in (await api.get(":decisions")).json
        api.token = QUENTIN
        assert [each["id"] for each in (await api.get(":decisions?older=true")).json["older"]] == ["chat"]
    async with served(decisions=DecisionLog(), audited=Audited(None, None, Journal(tmp_path / "c"))) as api:
        assert "not given" in (await api.get(":decisions?older=true")).json["notes"][0]


class Deciding:
    """A gateway's stages over one pool, which may be asked for real, too."""

    def __init__(self) -> None:
        self.deployment = Deployment()
        self.deployment.add_pool("p", 2)
        stages = self.deployment.serving(CHAT, p=["m"])
        self.director = self.deployment.director(*stages, self.deployment.routes(p=["m"]), self.deployment.picker(None))

    def explain(self, head: RequestHead, body: bytes | None, known: Mapping[str, object] = {}) -> dict[str, Any]:
        return self.director.explain(head, body, known)


async def test_a_request_is_tried_and_leaves_nothing_behind() -> None:
    deciding = Deciding()
    before = counted(deciding.deployment.instruments, "")
    async with served(explain=deciding.explain) as api:
        for _ in range(3):
            told = (await api.post(":try", HELLO)).json
            assert told["FindEndpoint"] == {"endpoint": "chat"}
            assert told["LimitRate"] == {"exceeded": None}, "though one call a minute is all there is"
            assert told["ServeEndpoint"]["entity"] == "a"
            assert told["PickEndpoint"]["runner_up"] is not None
            assert "flip" in told["PickEndpoint"]
    assert len(deciding.deployment.log) == 0
    assert counted(deciding.deployment.instruments, "") == before
    assert [view.in_flight for view in deciding.deployment.pools["p"].store.describe()] == [0, 0]


async def test_who_may_not_query_it_may_not_try_it() -> None:
    deciding = Deciding()
    async with served(guard=Door().guard, explain=deciding.explain) as api:
        api.token = QUENTIN
        assert (await api.post(":try", HELLO)).status == 200
        for path in ("/v1/chat/completions", "/serving-endpoints/secret/invocations", "/serving-endpoints/none/invocations"):
            assert (await api.post(":try", {**HELLO, "path": path})).error[1] == "PERMISSION_DENIED", path
        api.token = "dapi-token-of-nobody"
        assert (await api.post(":try", HELLO)).status == 401


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "body"),
        ([], 400, "not an object"),
        ({"headers": {"x": 1}}, 400, "headers: expected an object of strings"),
        ({"headers": {f"x-{number}": "" for number in range(101)}}, 400, "headers: got 101; expected at most 100"),
        ({"body": "x" * 70_000}, 413, "at most 65536"),
    ],
)
async def test_what_is_no_request_is_told(body: Any, status: int, words: str) -> None:
    async with served(explain=Deciding().explain) as api:
        answer = (await api.post(":try", body)).error
        assert answer[0] == status
        assert words in answer[2]


async def test_it_is_asked_in_the_callers_name_unless_it_has_one() -> None:
    asked: list[bytes] = []

    def explain(head: Any, body: Any, known: Any = {}) -> dict[str, Any]:
        asked.append(head.headers.get("authorization"))
        assert [each.subject for each in known.values()] == ["quentin@example.com"]
        return {"FindEndpoint": {"endpoint": "chat"}}

    async with served(guard=Door().guard, explain=explain) as api:
        api.token = QUENTIN
        await api.post(":try", HELLO)
        await api.post(":try", {**HELLO, "headers": {"Authorization": "Bearer other"}})
        await api.post(":try", {**HELLO, "headers": {"x-api-key": "other"}})
    assert asked == [f"Bearer {QUENTIN}".encode(), b"Bearer other", None]


@pytest.mark.parametrize(
    "question",
    [
        b'{"body": "\\ud800"}',
        b'{"body": {"model": "\\ud800"}}',
        b'{"body": {"model": "m", "max_tokens": 99999999999999999999999}}',
        b'{"body": {"model": "m"}, "subset": ["\\ud800"]}',
        b'{"body": {"model": "m"}, "headers": {"\\ud800": "\\ud800"}, "path": "/\\ud800", "method": "\\ud800"}',
    ],
)
async def test_what_is_odd_json_is_tried_as_a_client_would_send_it(question: bytes) -> None:
    async with served(explain=Deciding().explain) as api:
        assert (await api.post(":try", question)).status == 200


async def test_a_long_key_that_is_unknown_is_told_shortly() -> None:
    async with served(explain=Deciding().explain) as api:
        answer = (await api.post(":try", {"k" * 50_000: 1})).error
        assert answer[0] == 400
        assert len(answer[2]) < 500


@pytest.mark.parametrize("path", ["/serving-endpoints/chat/x", "/serving-endpoints/chat/invocations/x"])
async def test_a_try_does_not_tell_what_there_is_to_who_may_not_see_it(path: str) -> None:
    deciding = Deciding()
    async with served(guard=Door().guard, explain=deciding.explain) as api:
        question = {**HELLO, "path": path, "body": {"model": "nothing"}}
        api.token = QUENTIN
        answer = (await api.post(":try", question)).error
        assert answer[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
        assert "There are" not in answer[2]
        api.token = ALICE
        assert "There are: chat" in (await api.post(":try", question)).json["error"]["message"]
