"""Tokens on requests for serving endpoints."""

from __future__ import annotations

import orjson
import pytest

from extproc.domain import RequestHead
from extproc.errors import PermissionDenied, Unauthenticated
from extproc.live import LiveWriter
from extproc.request import parse
from extproc.settings.tokens import Grant, Role, TokenTable, digest_of
from extproc.stages import CheckAccess, Draft
from extproc.transport.session import reply_of
from tests.fakes.deployment import Deployment
from tests.stages.running import explained, run
from tests.stages.test_serve import spec

ANN, BOB, EVE = "ann-has-a-long-token", "bob-has-a-long-token", "eve-has-a-long-token"
TABLE = TokenTable(
    {
        digest_of(ANN): Grant("ann", Role.QUERY, groups=("team",)),
        digest_of(BOB): Grant("bob", Role.MANAGE, ("other", "pre*")),
        digest_of(EVE): Grant("eve", Role.VIEW),
    }
)
PREFLIGHT = {"origin": "https://a.example", "access-control-request-method": "POST"}
PATH = "/serving-endpoints/chat/invocations"


def ask(
    path: str = PATH,
    headers: dict[str, str] = {},
    *,
    model: str | None = None,
    every_path: bool = False,
    attempt: int | None = None,
    method: str = "POST",
    body: bytes | None = None,
) -> Draft:
    stages = Deployment().serving(spec(a=100), pool=["model-a", "model-b"])
    check = CheckAccess(LiveWriter(TABLE).live, every_path=every_path)
    named = {":method": method, ":path": path, "content-type": "application/json", **headers}
    head = RequestHead({name: value.encode() for name, value in named.items()}, attempt=attempt)
    if body is None:
        body = orjson.dumps({"messages": []} if model is None else {"model": model})
    request = parse(head, body)
    draft = Draft(0.0, body, model=request.model)
    for stage in (stages[0], check):
        run(stage, request, draft)
    return draft


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_who_may_query_goes_on_without_the_token() -> None:
    draft = ask(headers=bearer(ANN))
    assert (draft.subject, draft.groups) == ("ann", ("team",))
    assert draft.remove_headers == ("authorization",)


@pytest.mark.parametrize("headers", [{"authorization": f"bearer  {ANN}"}, {"x-api-key": ANN}])
def test_a_token_may_come_as_clients_send_it(headers: dict[str, str]) -> None:
    assert ask(headers=headers).subject == "ann"


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "a token is needed"),
        ({"authorization": "Basic YTpi"}, "expected a bearer token"),
        ({"authorization": "Bearer "}, "a token is needed"),
        ({"authorization": "Bearer nobody-has-this-token"}, "not known here"),
        ({"authorization": f"Bearer {ANN[:-1]}"}, "not known here"),
    ],
)
def test_who_is_not_known_is_401_without_a_quote(headers: dict[str, str], why: str) -> None:
    with pytest.raises(Unauthenticated, match=why) as error:
        ask(headers=headers)
    error.value.answers(PATH.encode())
    reply = reply_of(error.value)
    assert reply.status == 401
    assert ("www-authenticate", "Bearer") in reply.headers
    assert ANN[:-1].encode() not in reply.body
    assert b"nobody-has" not in reply.body


@pytest.mark.parametrize("token", [BOB, EVE])
def test_who_may_not_query_it_is_403(token: str) -> None:
    with pytest.raises(PermissionDenied, match="has no right to query endpoint `chat`"):
        ask(headers=bearer(token))


def test_elsewhere_no_token_is_needed_unless_it_is_asked_for() -> None:
    assert ask("/v1/chat/completions", model="chat").subject == ""
    with pytest.raises(Unauthenticated):
        ask("/v1/chat/completions", model="chat", every_path=True)
    with pytest.raises(PermissionDenied, match="no right to query model `model-b`"):
        ask("/v1/chat/completions", model="model-b", every_path=True, headers=bearer(BOB))
    assert ask("/v1/chat/completions", model="model-b", every_path=True, headers=bearer(ANN)).subject == "ann"


@pytest.mark.parametrize("path", ["/llm" + PATH, "/" + PATH])
def test_what_stands_before_the_path_is_no_way_around(path: str) -> None:
    with pytest.raises(Unauthenticated):
        ask(path)


def test_a_token_that_is_not_checked_passes() -> None:
    assert ask("/v1/chat/completions", bearer("sk-somebody"), model="chat").remove_headers == ()


def test_a_browser_s_preflight_needs_none() -> None:
    assert ask(method="OPTIONS", headers=PREFLIGHT, body=b"").subject == ""


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (PREFLIGHT, b'{"messages":[]}'),
        (PREFLIGHT | {"upgrade": "websocket", "connection": "Upgrade"}, b""),
        (PREFLIGHT | {"content-length": "15"}, b""),
        (PREFLIGHT | {"transfer-encoding": "chunked"}, b""),
        ({}, b""),
        ({"origin": "https://a.example"}, b""),
        ({"access-control-request-method": "POST"}, b""),
    ],
)
def test_what_only_looks_like_a_preflight_is_no_way_around(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(Unauthenticated):
        ask(method="OPTIONS", headers=headers, body=body)


def test_where_it_is_handed_over_the_token_is_checked_and_stays() -> None:
    draft = ask(attempt=0, headers=bearer(ANN))
    assert (draft.subject, draft.remove_headers) == ("ann", ())
    with pytest.raises(Unauthenticated):
        ask(attempt=0)


def test_it_explains_itself_without_the_token() -> None:
    check = CheckAccess(LiveWriter(TABLE).live)
    head = RequestHead({":method": b"POST", ":path": PATH.encode(), "authorization": f"Bearer {ANN}".encode()})
    assert explained(check, parse(head, b"{}")) == {"subject": "ann"}
