"""External models: what becomes of a request that a provider serves."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from extproc.credentials import Secret
from extproc.domain import BodyPath, RequestHead, spliced
from extproc.errors import InvalidBody, InvalidMethod, ProviderUnreachable, ProxyNotFit, SecretMissing, UnreadableBody
from extproc.external import ExternalModel, read_external_model
from extproc.observability.decisions import DecisionLog
from extproc.request import parse
from extproc.stages import ENOUGH, AskProvider, Draft, Reasons
from extproc.traffic import EndpointSpec, EntitySpec, ExternalSpec
from extproc.transport.session import reply_of
from tests.fakes.chance import Draws
from tests.fakes.deployment import Deployment
from tests.stages.running import end, run

KEY = "sk-the-provider-s-key"
PATH = "/serving-endpoints/chat/invocations"


class Known:
    """Providers as a test has them."""

    def __init__(self, base: str = "https://api.example.com/v1", *, secret: bool = True, reachable: bool = True) -> None:
        self.base = base
        self.has_secret = secret
        self.reachable = reachable

    def model(self, spec: ExternalSpec) -> ExternalModel:
        provider = "anthropic" if spec.provider == "anthropic" else "openai"
        config = {f"{provider}_api_base": self.base, f"{provider}_api_key": "{{secrets/scope/key}}"}
        values = {"name": spec.name, "provider": spec.provider, "task": spec.task, f"{provider}_config": config}
        return read_external_model(values, allowed=["plain.example"])

    def secret(self, model: ExternalModel) -> Secret:
        if not self.has_secret:
            raise SecretMissing("secret {{secrets/scope/key}}: not found")
        return Secret(KEY)

    def address(self, model: ExternalModel) -> str:
        if not self.reachable:
            raise ProviderUnreachable("its name is not resolved")
        return f"203.0.113.7:{model.base.port}"


def external(provider: str = "openai") -> EndpointSpec:
    entity = EntitySpec("gpt", external=ExternalSpec("gpt-4o", provider, "llm/v1/chat"))
    return EndpointSpec("chat", (entity,), (100,))


def ask(
    body: bytes | None = b'{"messages":[{"role":"user","content":"hi"}]}',
    *,
    known: Known | None = None,
    spec: EndpointSpec | None = None,
    path: str = PATH,
    attempt: int | None = 1,
    complete: bool = True,
    method: str = "POST",
    **headers: str,
) -> Draft:
    find, limit, serve = Deployment().serving(spec or external(), draw=Draws(), pool=["model-a"])
    given = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    head = RequestHead(
        {":method": method.encode(), ":path": path.encode(), "content-type": b"application/json", **given}, attempt=attempt
    )
    request = parse(head, body, complete=complete)
    draft = Draft(0.0, body, complete, model=request.model)
    for stage in (find, limit, serve):
        assert stage.decide(request, draft) is None
    assert AskProvider(known or Known(), wall_clock=lambda: 1_700_000_000.0).decide(request, draft) is ENOUGH
    return draft


def sent(draft: Draft, body: bytes = b'{"messages":[{"role":"user","content":"hi"}]}') -> Any:
    return orjson.loads(spliced(body, draft.splices))


def test_it_goes_to_the_provider_as_its_request() -> None:
    draft = ask(authorization="Bearer ours", x_user_id="u", cookie="a=b")
    headers = dict(draft.set_headers)
    assert headers[":authority"] == "api.example.com"
    assert headers[":path"] == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-extproc-route"] == "external"
    assert ("x-extproc-external-address", "203.0.113.7:443") in draft.metadata
    assert {"x-user-id", "cookie"} <= set(draft.remove_headers)
    assert sent(draft) == {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    assert draft.set_response_headers == (("served-model-name", "gpt"),)


def test_another_dialect_is_translated_both_ways() -> None:
    draft = ask(spec=external("anthropic"), known=Known("https://api.example.com"))
    assert dict(draft.set_headers)["x-api-key"] == KEY
    assert dict(draft.set_headers)[":path"] == "/v1/messages"
    assert sent(draft)["max_tokens"] > 0
    assert draft.make_reader is not None
    reader = draft.make_reader(None)
    reader.headers(200, {"content-type": b"application/json"}, BodyPath.FREE)
    answer = {
        "id": "m", "type": "message", "role": "assistant", "model": "gpt-4o", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "hello"}], "usage": {"input_tokens": 3, "output_tokens": 2},
    }  # fmt: skip
    told = orjson.loads(reader.body(orjson.dumps(answer), True))
    assert told["model"] == "chat"
    assert told["choices"][0]["message"]["content"] == "hello"


def test_plain_http_takes_another_route() -> None:
    draft = ask(known=Known("http://plain.example:8080/v1"))
    assert dict(draft.set_headers)["x-extproc-route"] == "external-plain"


def test_no_header_of_ours_goes_to_a_provider() -> None:
    find, limit, serve = Deployment().serving(external(), draw=Draws(), pool=["model-a"])
    body = b'{"messages":[]}'
    head = RequestHead({":method": b"POST", ":path": PATH.encode(), "content-type": b"application/json"}, attempt=1)
    request = parse(head, body)
    draft = Draft(0.0, body, model=request.model)
    draft.set_headers = (("X-Gateway-Model-Name", "chat"),)
    for stage in (find, limit, serve, AskProvider(Known())):
        stage.decide(request, draft)
    assert "x-gateway-model-name" not in {name.lower() for name, _ in draft.set_headers}


def test_an_entity_of_a_pool_is_not_its_business() -> None:
    find, _, serve = Deployment().serving(EndpointSpec("chat", (EntitySpec("a", "model-a"),), (100,)), pool=["model-a"])
    body = b'{"messages":[]}'
    request = parse(RequestHead({":method": b"POST", ":path": PATH.encode()}), body)
    draft = Draft(0.0, body, model=request.model)
    for stage in (find, serve, AskProvider(Known())):
        assert stage.decide(request, draft) is None


def test_a_proxy_without_a_route_to_providers_is_told_so() -> None:
    with pytest.raises(ProxyNotFit, match=r"envoy/serving-endpoints\.yaml has"):
        ask(attempt=None)


@pytest.mark.parametrize(
    ("known", "error"), [(Known(secret=False), SecretMissing), (Known(reachable=False), ProviderUnreachable)]
)
def test_what_is_missing_is_said(known: Known, error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(known=known)


def test_a_body_that_is_no_object_or_not_whole_is_refused() -> None:
    with pytest.raises((InvalidBody, UnreadableBody)):
        ask(b"[1]")
    with pytest.raises(UnreadableBody, match="only its beginning"):
        ask(b'{"messages":[', complete=False)


def test_it_explains_itself_without_the_key() -> None:
    deployment = Deployment()
    find, _, serve = deployment.serving(external(), draw=Draws(), pool=["model-a"])
    body = b'{"messages":[]}'
    request = parse(RequestHead({":method": b"POST", ":path": PATH.encode()}, attempt=1), body)
    draft = Draft(0.0, body, model=request.model)
    for each in (find, serve):
        each.decide(request, draft)
    stage = AskProvider(Known())
    draft.reasons = Reasons()
    assert stage.decide(request, draft) is ENOUGH
    told = draft.reasons.by_stage["AskProvider"]
    assert told == {"provider": "openai", "model": "gpt-4o", "authority": "api.example.com", "address": "203.0.113.7:443"}
    assert KEY not in repr(draft.reasons.by_stage)


def test_the_decision_is_kept_with_its_end() -> None:
    log = DecisionLog()
    find, _, serve = Deployment().serving(external(), draw=Draws(), pool=["model-a"])
    body = b'{"messages":[]}'
    head = RequestHead({":method": b"POST", ":path": PATH.encode(), "x-request-id": b"r1"}, attempt=1)
    request = parse(head, body)
    draft = Draft(0.0, body, model=request.model)
    stage = AskProvider(Known(), log, wall_clock=lambda: 1_700_000_000.0)
    for each in (find, serve, stage):
        run(each, request, draft)
    end(stage, draft, 200)
    (record,) = log.latest(request_id="r1")
    assert (record.entity, record.target_model, record.endpoint.key) == ("chat/gpt", "gpt-4o", "203.0.113.7:443")
    assert (record.endpoint.name, record.outcome.status) == ("api.example.com", 200)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_a_provider_is_asked_with_post_and_nothing_else(method: str) -> None:
    with pytest.raises(InvalidMethod, match="`gpt` is external, and external models are asked with POST") as error:
        ask(method=method)
    assert ("allow", "POST") in reply_of(error.value).headers


def test_an_upgrade_is_nothing_to_ask_a_provider_with() -> None:
    with pytest.raises(UnreadableBody, match="a connection that is upgraded has none"):
        ask(None, upgrade="websocket", connection="Upgrade")
