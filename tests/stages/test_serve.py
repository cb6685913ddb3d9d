"""Serving endpoints: which served entity a request gets."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, TypeAlias

import orjson
import pytest

from extproc.domain import RequestHead, spliced
from extproc.errors import AmbiguousModel, EntityNotServed, NoEndpoints, UnknownEndpoint, UnknownServedEntity
from extproc.live import Live
from extproc.request import parse
from extproc.stages import Draft, FindEndpoint, LimitRate, ServeEndpoint
from extproc.traffic import EndpointSpec, EntitySpec, ExternalSpec, TrafficTable
from tests.fakes.chance import Draws
from tests.fakes.deployment import Deployment
from tests.stages.running import counts, end, explained, run

Stages: TypeAlias = tuple[FindEndpoint, LimitRate, ServeEndpoint]
REQUESTS, RESPONSES = "extproc_serving_requests_total", "extproc_serving_responses_total"


def spec(name: str = "chat", sticky: bool = True, **shares: int) -> EndpointSpec:
    entities = tuple(EntitySpec(each, f"model-{each}") for each in shares)
    return EndpointSpec(name, entities, tuple(shares.values()), sticky=sticky)


def asked(path: str, body: dict[str, Any] | None = None, **headers: str) -> tuple[RequestHead, bytes]:
    given = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    content = orjson.dumps(body if body is not None else {"messages": []})
    return RequestHead({":method": b"POST", ":path": path.encode(), "content-type": b"application/json", **given}), content


@pytest.fixture
def deployment() -> Deployment:
    made = Deployment()
    made.add_pool("pool")
    return made


def stage(deployment: Deployment, *endpoints: EndpointSpec, draw: Draws | None = None) -> Stages:
    return deployment.serving(*endpoints, draw=draw or Draws(), pool=("model-a", "model-b", "model-c"))


def decide(stages: Stages, request: tuple[RequestHead, bytes]) -> Draft:
    head, body = request
    draft = Draft(0.0, body)
    for each in stages:
        assert run(each, parse(head, body), draft)[1] is None
    return draft


def chosen(draft: Draft) -> str | None:
    return None if draft.entity is None else draft.entity.name


ENDPOINTS_PATHS = (
    "/serving-endpoints/chat/invocations",
    "/gateway/chat/invocations",
    "/v2/models/chat/infer",
    "/v1/models/chat:predict",
)


class TestReaching:
    @pytest.mark.parametrize("path", ENDPOINTS_PATHS)
    def test_by_path(self, deployment: Deployment, path: str) -> None:
        draft = decide(stage(deployment, spec(a=100)), asked(path))
        assert chosen(draft) == "a"
        assert draft.pool == "pool"
        assert draft.set_response_headers == (("served-model-name", "a"),)

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/serving-endpoints/chat/completions"])
    def test_by_model(self, deployment: Deployment, path: str) -> None:
        assert chosen(decide(stage(deployment, spec(a=100)), asked(path, {"model": "chat"}))) == "a"

    def test_an_endpoint_wins_over_a_pools_model(self, deployment: Deployment) -> None:
        served = stage(deployment, spec("model-c", a=100))
        assert chosen(decide(served, asked("/v1/chat/completions", {"model": "model-c"}))) == "a"

    def test_an_entitys_model_leads_to_it(self, deployment: Deployment) -> None:
        draft = decide(stage(deployment, spec(a=90, b=10)), asked("/v1/chat/completions", {"model": "model-b"}))
        assert (chosen(draft), draft.entity_reason) == ("b", "asked by model")

    def test_a_model_of_no_endpoint_is_the_routes(self, deployment: Deployment) -> None:
        draft = decide(stage(deployment, spec(a=100)), asked("/v1/chat/completions", {"model": "model-c"}))
        assert (draft.entity, draft.pool) == (None, None)

    def test_a_providers_model_of_two_endpoints_is_ambiguous(self, deployment: Deployment) -> None:
        entity = EntitySpec("gpt", external=ExternalSpec("gpt-4o", "openai", "llm/v1/chat"))
        served = stage(deployment, EndpointSpec("one", (entity,), (100,)), EndpointSpec("two", (entity,), (100,)))
        with pytest.raises(AmbiguousModel):
            decide(served, asked("/v1/chat/completions", {"model": "gpt-4o"}))

    def test_without_a_model_nothing_is_chosen(self, deployment: Deployment) -> None:
        assert chosen(decide(stage(deployment, spec(a=100)), asked("/health"))) is None

    def test_an_unknown_endpoint_is_told_what_there_is(self, deployment: Deployment) -> None:
        with pytest.raises(UnknownEndpoint, match=r"Endpoint with name 'x' does not exist\. There are: chat"):
            decide(stage(deployment, spec(a=100)), asked("/serving-endpoints/x/invocations"))
        with pytest.raises(UnknownEndpoint, match="There are: none"):
            decide(stage(deployment), asked("/serving-endpoints/x/invocations"))

    def test_where_requests_need_a_token_names_are_not_told(self) -> None:
        find = FindEndpoint(Live(TrafficTable([])), names=False)
        draft = Draft(0.0, model="x")
        find.decide(parse(*asked("/serving-endpoints/x/invocations")), draft)
        assert draft.unknown, "and who has no token is told that first"

    def test_a_pools_model_by_the_path_of_endpoints_is_the_routes(self, deployment: Deployment) -> None:
        assert chosen(decide(stage(deployment), asked("/serving-endpoints/model-a/invocations"))) is None


class TestOneEntity:
    @pytest.mark.parametrize("kind", ["served-models", "served-entities"])
    def test_the_split_is_ignored(self, deployment: Deployment, kind: str) -> None:
        draft = decide(stage(deployment, spec(a=100, b=0)), asked(f"/serving-endpoints/chat/{kind}/b/invocations"))
        assert (chosen(draft), draft.entity_reason) == ("b", "asked directly")

    def test_a_prefix_in_front_changes_nothing(self, deployment: Deployment) -> None:
        draft = decide(stage(deployment, spec(a=100, b=0)), asked("/llm/serving-endpoints/chat/served-models/b/invocations"))
        assert (chosen(draft), draft.entity_reason) == ("b", "asked directly")

    def test_an_unknown_one_is_told_what_there_is(self, deployment: Deployment) -> None:
        with pytest.raises(UnknownServedEntity, match="There are: a, b"):
            decide(stage(deployment, spec(a=50, b=50)), asked("/serving-endpoints/chat/served-models/x/invocations"))


class TestKeys:
    KEYS: ClassVar[tuple[tuple[dict[str, Any], dict[str, str], str], ...]] = (
        ({}, {"x_user_id": "u7"}, "sticky: header x-user-id"),
        ({"user": "u7"}, {}, "sticky: body user"),
        ({"metadata": {"user_id": "u7"}}, {}, "sticky: body metadata.user_id"),
        ({"session_id": "u7"}, {}, "sticky: body session_id"),
    )

    @pytest.mark.parametrize(("fields", "headers", "reason"), KEYS)
    def test_decide_the_same_wherever_they_stand(
        self, deployment: Deployment, fields: dict[str, Any], headers: dict[str, str], reason: str
    ) -> None:
        served = stage(deployment, spec(a=50, b=50))
        expected = chosen(decide(served, asked(ENDPOINTS_PATHS[0], x_user_id="u7")))
        draft = decide(served, asked(ENDPOINTS_PATHS[0], {"messages": [], **fields}, **headers))
        assert (chosen(draft), draft.entity_reason) == (expected, reason)

    def test_come_in_the_order_of_headers_first(self, deployment: Deployment) -> None:
        served = stage(deployment, spec(a=50, b=50))
        draft = decide(served, asked(ENDPOINTS_PATHS[0], {"user": "other"}, x_user_id="u7"))
        assert draft.entity_reason == "sticky: header x-user-id"

    def test_may_be_other_headers(self, deployment: Deployment) -> None:
        served = deployment.serving(
            spec(a=50, b=50), draw=Draws(), key_headers=("X-Team", "authorization"), pool=["model-a", "model-b"]
        )
        assert (
            decide(served, asked(ENDPOINTS_PATHS[0], authorization="Bearer k")).entity_reason == "sticky: header authorization"
        )

    def test_are_no_api_key_unless_it_is_asked_for(self, deployment: Deployment) -> None:
        draws = Draws(*[number / 1000 for number in range(1000)])
        served = stage(deployment, spec(a=90, b=10), draw=draws)
        counted = Counter(chosen(decide(served, asked(ENDPOINTS_PATHS[0], authorization="Bearer k"))) for _ in range(1000))
        assert counted == {"a": 900, "b": 100}

    @pytest.mark.parametrize("user", [5, None, "", {"a": 1}, ["u"]])
    def test_are_texts(self, deployment: Deployment, user: object) -> None:
        served = stage(deployment, spec(a=90, b=10), draw=Draws(0.95))
        draft = decide(served, asked(ENDPOINTS_PATHS[0], {"user": user, "metadata": user}))
        assert (chosen(draft), draft.entity_reason) == ("b", "draw")

    def test_do_not_count_where_the_endpoint_is_not_sticky(self, deployment: Deployment) -> None:
        served = stage(deployment, spec(sticky=False, a=50, b=50), draw=Draws(0.9))
        assert chosen(decide(served, asked(ENDPOINTS_PATHS[0], x_user_id="u7"))) == "b"


class TestServing:
    def test_an_entity_whose_model_is_gone_is_503_that_says_so(self, deployment: Deployment) -> None:
        served = stage(deployment, EndpointSpec("chat", (EntitySpec("gone", "model-x"),), (100,)))
        with pytest.raises(EntityNotServed, match="`gone` of endpoint `chat`: no pool serves 'model-x'"):
            decide(served, asked(ENDPOINTS_PATHS[0]))

    def test_a_whole_decision(self, deployment: Deployment) -> None:
        """From the endpoint's name to the entity's model at an endpoint of its pool."""
        head, body = asked(ENDPOINTS_PATHS[0], {"messages": [], "temperature": 1}, x_user_id="u")
        request = parse(head, body)
        draft = Draft(0.0, body, model=request.model)
        served = stage(deployment, spec(a=0, b=100))
        for each in (*served, deployment.routes(pool=["model-a"]), deployment.rewriter(None), deployment.picker(None)):
            assert each.decide(request, draft) is None
        assert spliced(body, draft.splices) == b'{"model":"model-b","messages":[],"temperature":1}'
        assert dict(draft.set_headers)[":path"] == "/v1/chat/completions"
        assert draft.destination
        assert draft.restore_model == ("model-b", "chat")

    def test_a_client_that_names_the_model_gets_its_own_name_back(self, deployment: Deployment) -> None:
        head, body = asked("/serving-endpoints/chat/completions", {"model": "model-b", "messages": []})
        request = parse(head, body)
        draft = Draft(0.0, body, model=request.model)
        for each in (*stage(deployment, spec(a=50, b=50)), deployment.rewriter(None)):
            assert each.decide(request, draft) is None
        assert draft.restore_model is None
        assert draft.set_headers == ((":path", "/v1/chat/completions"),)

    def test_an_empty_pool_is_503(self, deployment: Deployment) -> None:
        deployment.add_pool("pool", 0)
        head, body = asked(ENDPOINTS_PATHS[0])
        request = parse(head, body)
        draft = Draft(0.0, body, model=request.model)
        for each in stage(deployment, spec(a=100)):
            assert each.decide(request, draft) is None
        with pytest.raises(NoEndpoints, match="pool 'pool' has no endpoints"):
            deployment.picker(None).decide(request, draft)

    def test_what_was_decided_and_how_it_ended_is_counted(self, deployment: Deployment) -> None:
        served = stage(deployment, spec(a=100, b=0))
        draft = decide(served, asked(ENDPOINTS_PATHS[0]))
        end(served[-1], draft, 200)
        direct = decide(served, asked("/serving-endpoints/chat/served-models/b/invocations"))
        end(served[-1], direct, 0)
        chat = 'served_entity="{}",serving_endpoint="chat"}}'
        assert counts(deployment, REQUESTS) == {
            f'{REQUESTS}{{reason="only entity",{chat.format("a")}': 1,
            f'{REQUESTS}{{reason="asked directly",{chat.format("b")}': 1,
        }
        assert counts(deployment, RESPONSES) == {
            f'{RESPONSES}{{code="2xx",{chat.format("a")}': 1,
            f'{RESPONSES}{{code="none",{chat.format("b")}': 1,
        }

    def test_it_explains_itself_without_the_key(self, deployment: Deployment) -> None:
        head, body = asked(ENDPOINTS_PATHS[0], x_user_id="secret-user")
        find, limit, serve = stage(deployment, spec(a=50, b=50))
        draft = Draft(0.0, body)
        assert explained(find, parse(head, body), draft) == {"endpoint": "chat"}
        assert explained(limit, parse(head, body), draft) == {}
        told = explained(serve, parse(head, body), draft)
        assert (told["reason"], told["split"]) == ("sticky: header x-user-id", {"a": 50, "b": 50})
        assert 0 <= told["bucket"] < 10_000
        assert told["entity"] == ("a" if told["bucket"] < 5000 else "b")
        assert "secret-user" not in repr(told)
