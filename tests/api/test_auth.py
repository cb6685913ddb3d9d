"""Who may do what, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from extproc.api.auth import API, Reviewed
from extproc.kubernetes import reviews
from extproc.kubernetes.client import KubeClient
from extproc.kubernetes.reviews import Reviews
from extproc.observability.instruments import Instruments
from extproc.settings.tokens import TokenTable, read_tokens
from tests.api.served import BASE, Api, served
from tests.api.tokens import ALICE, QUENTIN, ROWS, TEAM, VICTOR, Door
from tests.control.desks import document, split
from tests.fakes.kube import FakeKube

UNKNOWN = "dapi-token-of-nobody"


async def test_without_a_token_nothing_is_told() -> None:
    async with served(guard=Door().guard) as api:
        for headers in ({}, {"Authorization": ""}, {"Authorization": f"Basic {ALICE}"}, {"Authorization": "Bearer "}):
            for path in ("", "/chat", "/chat/metrics"):
                answer = await api.get(path, **headers)
                assert answer.error == (
                    401,
                    "UNAUTHENTICATED",
                    "The API needs a bearer token: Authorization: Bearer ...",
                )
                assert answer.headers["www-authenticate"] == 'Bearer realm="serving-endpoints"'
        assert (await api.post("", document())).status == 401
        assert (await api.call("GET", "/.well-known/databricks-config")).status == 200


async def test_a_token_that_nobody_has_is_not_repeated() -> None:
    async with served(guard=Door().guard) as api:
        api.token = UNKNOWN
        answer = await api.get()
        assert answer.error == (401, "UNAUTHENTICATED", "The token is not known here, or is no longer good")
        assert UNKNOWN not in str(answer)


async def as_(api: Api, token: str, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """Status, and the code of an error."""
    api.token = token
    answer = await api.call(method, BASE + path, body)
    return answer.status, "" if answer.status == 200 else answer.error[1]


CHANGES = [
    ("PUT", "/chat/config", split(a=50, b=50)),
    ("PATCH", "/chat/tags", {"add_tags": [{"key": "x"}]}),
    ("PUT", "/chat/rate-limits", {"rate_limits": []}),
    ("PUT", "/chat/ai-gateway", {}),
    ("PATCH", "/chat/notifications", {}),
    ("PATCH", "/chat/telemetry-config", {}),
    ("POST", "/chat/revert", {"config_version": 1}),
    ("POST", ":import", {"servingEndpoints": [document()]}),
    ("PUT", "/pt/chat/config", {"config": split(a=90, b=10)}),
    ("DELETE", "/chat", None),
]
READS = ["/chat", "/chat/history", "/chat/openapi", "/chat/metrics", "/chat/served-models/a/logs"]


async def test_roles() -> None:
    async with served(guard=Door().guard) as api:
        assert await as_(api, ALICE, "POST", "", document()) == (200, "")
        for token in (VICTOR, QUENTIN, TEAM):
            assert await as_(api, token, "POST", "", document("other")) == (403, "PERMISSION_DENIED")
            for method, path, body in CHANGES:
                assert await as_(api, token, method, path, body) == (403, "PERMISSION_DENIED")
        for path in READS:
            assert await as_(api, VICTOR, "GET", path) == (200, "")
            assert await as_(api, QUENTIN, "GET", path) == (200, "")
            assert await as_(api, TEAM, "GET", path) == (403, "PERMISSION_DENIED")
        for token, level in ((ALICE, "CAN_MANAGE"), (VICTOR, "CAN_VIEW"), (QUENTIN, "CAN_QUERY")):
            api.token = token
            assert (await api.get("/chat")).json["permission_level"] == level
        for method, path, body in CHANGES:
            assert await as_(api, ALICE, method, path, body) == (200, "")


async def test_whether_an_endpoint_is_there_is_told_to_nobody_without_a_right_to_it() -> None:
    async with served(guard=Door().guard) as api:
        await as_(api, ALICE, "POST", "", document())
        api.token = TEAM
        there, nowhere = await api.get("/chat"), await api.get("/chit")
        assert there.text.replace("chat", "chit") == nowhere.text
        assert there.error == (403, "PERMISSION_DENIED", "team-a has no right to view the serving endpoint 'chat'")


async def test_some_endpoints_only() -> None:
    async with served(guard=Door().guard) as api:
        for name in ("a-1", "shared"):
            assert await as_(api, TEAM, "POST", "", document(name)) == (200, "")
        assert await as_(api, ALICE, "POST", "", document("other")) == (200, "")
        for token, names in ((TEAM, ["a-1", "shared"]), (QUENTIN, []), (VICTOR, ["a-1", "other", "shared"])):
            api.token = token
            assert [each["name"] for each in (await api.get()).json["endpoints"]] == names
            exported = (await api.get(":export")).json
            assert [each["name"] for each in exported["servingEndpoints"]] == names
        both = {"servingEndpoints": [document("a-2"), document("b-2")]}
        assert await as_(api, TEAM, "POST", ":import", both) == (403, "PERMISSION_DENIED")
        assert await as_(api, ALICE, "GET", "/a-2") == (404, "RESOURCE_DOES_NOT_EXIST")


async def test_the_author_is_whose_token_it_is() -> None:
    async with served(guard=Door().guard) as api:
        await as_(api, ALICE, "POST", "", document("a-1"))
        await as_(api, TEAM, "PUT", "/a-1/config", split(a=1, b=99))
        history = (await api.get("/a-1/history")).json["history"]
        assert [each["author"] for each in history] == ["team-a", "alice@example.com"]
        assert (await api.get("/a-1")).json["creator"] == "alice@example.com"


async def test_guesses_are_slow() -> None:
    door = Door()
    async with served(guard=door.guard) as api:
        assert await as_(api, VICTOR, "GET", "") == (200, "")
        for number in range(20):
            assert await as_(api, f"{UNKNOWN}-{number}", "GET", "") == (401, "UNAUTHENTICATED")
        api.token = ALICE  # a good one, that was not seen before
        answer = await api.get()
        assert answer.error[:2] == (429, "RESOURCE_EXHAUSTED")
        assert answer.headers["retry-after"] == "1"
        assert await as_(api, VICTOR, "GET", "") == (200, ""), "who is known goes on"
        door.clock.advance(1)
        assert await as_(api, ALICE, "GET", "") == (200, "")


async def test_tokens_change_while_it_runs() -> None:
    door = Door()
    async with served(guard=door.guard) as api:
        assert await as_(api, VICTOR, "GET", "") == (200, "")
        door.tokens.replace(read_tokens({"tokens": ROWS[:1]}))
        assert await as_(api, VICTOR, "GET", "") == (401, "UNAUTHENTICATED")
        assert await as_(api, ALICE, "GET", "") == (200, "")
        door.tokens.replace(TokenTable())
        assert await as_(api, ALICE, "GET", "") == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:8080"}, 200),
        ({"Origin": "http://127.0.0.1:9004", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[oops"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
async def test_without_tokens_pages_of_others_are_kept_out(headers: dict[str, str], status: int) -> None:
    async with served() as api:
        assert (await api.post("", document(), **headers)).status == status
        assert (await api.get("", **headers)).status == status


class Cluster:
    """Who is known to the API server, and may what."""

    def __init__(self, fake: FakeKube) -> None:
        self.users = {"tok-alice": "alice", "tok-victor": "victor"}
        self.rights = {("alice", "get", API), ("alice", "put", f"{API}/chat"), ("alice", "get", f"{API}/chat")}
        self.rights |= {("victor", "get", f"{API}/chat")}
        fake.token_review = self._token
        fake.access_review = self._access

    def _token(self, body: dict[str, Any]) -> dict[str, Any]:
        name = self.users.get(body["spec"]["token"])
        return {"authenticated": True, "user": {"username": name}} if name else {"authenticated": False}

    def _access(self, body: dict[str, Any]) -> dict[str, Any]:
        spec = body["spec"]
        what = spec["nonResourceAttributes"]
        return {"allowed": (spec["user"], what["verb"], what["path"]) in self.rights}


class TestKubernetes:
    @pytest.fixture
    async def fake(self) -> AsyncIterator[FakeKube]:
        fake = FakeKube()
        await fake.start()
        yield fake
        await fake.kill()

    @pytest.fixture
    async def guard(self, fake: FakeKube, tmp_path: Path) -> AsyncIterator[Reviewed]:
        path = tmp_path / "kubeconfig"
        path.write_text(fake.kubeconfig())
        client = await KubeClient.connect(str(path))
        yield Reviewed(Reviews(client, Instruments(), reviews.API))
        await client.close()

    async def test_rights_are_those_of_rbac(self, fake: FakeKube, guard: Reviewed) -> None:
        Cluster(fake)
        async with served(guard=guard) as api:
            assert await as_(api, "tok-alice", "POST", "", document()) == (200, "")
            assert (await api.get("/chat")).json["creator"] == "alice"
            assert (await api.get("/chat")).json["permission_level"] == "CAN_MANAGE"
            assert [each["name"] for each in (await api.get()).json["endpoints"]] == ["chat"]
            assert await as_(api, "tok-victor", "GET", "/chat") == (200, "")
            assert (await api.get("/chat")).json["permission_level"] == "CAN_VIEW"
            assert await as_(api, "tok-victor", "PUT", "/chat/config", split(a=1, b=99)) == (403, "PERMISSION_DENIED")
            assert await as_(api, "tok-victor", "GET", "") == (403, "PERMISSION_DENIED")
            assert await as_(api, "tok-alice", "GET", "/other") == (403, "PERMISSION_DENIED")
            assert await as_(api, "tok-nobody", "GET", "/chat") == (401, "UNAUTHENTICATED")
            api.token = "tok-alice"
            entries = (await api.call("GET", "/api/2.0/permissions/serving-endpoints/id1")).json["access_control_list"]
            assert [each["user_name"] for each in entries] == ["alice"]

    async def test_an_api_server_that_is_away_is_said(self, fake: FakeKube, guard: Reviewed) -> None:
        await fake.kill()
        async with served(guard=guard) as api:
            api.token = "tok-alice"
            answer = await api.get()
            assert answer.error[:2] == (503, "TEMPORARILY_UNAVAILABLE")
            assert answer.headers["retry-after"] == "1"

    async def test_no_right_to_ask_is_our_own_problem(self, fake: FakeKube, guard: Reviewed) -> None:
        Cluster(fake)
        fake.forbidden.add(("create", "tokenreviews.authentication.k8s.io"))
        async with served(guard=guard) as api:
            api.token = "tok-alice"
            status, code, message = (await api.get()).error
        assert (status, code) == (500, "INTERNAL_ERROR")
        assert "system:auth-delegator" in message
