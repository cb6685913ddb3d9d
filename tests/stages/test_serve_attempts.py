"""Serving endpoints where the proxy makes attempts: who is asked in which of them, and what is left behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from extproc import names
from extproc.domain import Decision
from extproc.errors import EntityNotServed
from extproc.protocol import Decide
from extproc.request import parse
from extproc.stages import ENOUGH, Draft, Stage, Step
from extproc.traffic import EndpointSpec, EntitySpec
from tests.fakes.chance import Draws
from tests.fakes.deployment import Deployment
from tests.fakes.events import head
from tests.fakes.page import counted
from tests.stages.running import counts, run

INVOCATIONS = "/serving-endpoints/chat/invocations"
CHAT = "/v1/chat/completions"
MODELS = ("model-a", "model-b", "model-c")


def spec(*, fallback: bool = True, **shares: int) -> EndpointSpec:
    entities = tuple(EntitySpec(each, f"model-{each}") for each in shares)
    return EndpointSpec("chat", entities, tuple(shares.values()), fallback=fallback)


@pytest.fixture
def deployment() -> Deployment:
    made = Deployment()
    made.add_pool("pool")
    return made


def asked(attempt: int | None, path: str = INVOCATIONS, model: str = "", **headers: str) -> Decide:
    body = b'{"messages":[],"model":"%s"}' % model.encode() if model else b'{"messages":[]}'
    return Decide(head(path, None, content_type="application/json", **headers)._replace(attempt=attempt), body)


def decide(served: Sequence[Stage], question: Decide) -> tuple[Draft, Step]:
    assert question.body is not None
    draft, step = Draft(0.0, question.body), None
    for stage in served:
        assert step is None
        step = run(stage, parse(question.head, question.body), draft)[1]
    return draft, step


def tried(served: Sequence[Stage], attempts: int = 4, path: str = INVOCATIONS, **headers: str) -> list[tuple[str, str, bool]]:
    """Entity, reason, and whether another is left, of each attempt at one request."""
    out = []
    for attempt in range(1, attempts + 1):
        draft, _ = decide(served, asked(attempt, path, **headers))
        assert draft.entity is not None
        out.append((draft.entity.name, draft.entity_reason, draft.falls_back))
    return out


class TestHandingOver:
    @pytest.mark.parametrize(("path", "model"), [(INVOCATIONS, ""), (CHAT, "chat"), (CHAT, "model-a")])
    @pytest.mark.parametrize("fallback", [True, False])
    def test_a_request_for_an_endpoint(self, deployment: Deployment, fallback: bool, path: str, model: str) -> None:
        served = deployment.serving(spec(fallback=fallback, a=90, b=10), pool=MODELS)
        draft, step = decide(served, asked(0, path, model))
        assert step is ENOUGH
        assert draft.set_headers == ((names.ROUTE_HEADER, names.ROUTE_ATTEMPTS),)
        assert (draft.entity, draft.pool, draft.splices, draft.falls_back) == (None, None, (), False)

    def test_no_other(self, deployment: Deployment) -> None:
        draft, step = decide(deployment.serving(spec(a=100), pool=MODELS), asked(0, CHAT, "model-c"))
        assert (step, draft.set_headers) == (None, ())

    def test_where_no_attempts_are_made_it_is_served_at_once(self, deployment: Deployment) -> None:
        draft, step = decide(deployment.serving(spec(a=100, b=0), pool=MODELS), asked(None))
        assert (step, draft.falls_back) == (None, False)
        assert draft.entity is not None

    def test_it_is_explained(self, deployment: Deployment) -> None:
        question = asked(0)
        director = deployment.director(*deployment.serving(spec(a=100), pool=MODELS))
        told = director.explain(question.head, question.body)
        assert (told["FindEndpoint"], told["ServeEndpoint"]) == ({"endpoint": "chat"}, {"reason": "handed over"})

    def test_a_request_counts_once(self, deployment: Deployment) -> None:
        """In the router's metrics; the served entity's show each attempt."""
        served = deployment.serving(spec(a=100, b=0), pool=MODELS)
        stages = (deployment.headers(), *served, deployment.routes(pool=MODELS), deployment.rewriter(None))
        director = deployment.director(*stages, deployment.picker(None))
        for attempt in (0, 1, 2):
            assert isinstance(director.decide(asked(attempt)), Decision)
        assert counted(deployment.instruments, "bbr_success_total") == {"bbr_success_total": 1}
        chosen = counts(deployment, "extproc_serving_requests_total")
        assert {(key.split('"')[1], key.split('"')[3]): value for key, value in chosen.items()} == {
            ("only entity", "a"): 1,
            ("fallback", "b"): 1,
        }


class TestInTurn:
    def test_the_others_come_in_the_lists_order_each_once(self, deployment: Deployment) -> None:
        served = deployment.serving(spec(a=0, b=100, c=0), pool=MODELS)
        assert tried(served, 3) == [("b", "only entity", True), ("a", "fallback", True), ("c", "fallback", False)]

    def test_an_attempt_too_many_is_the_last(self, deployment: Deployment) -> None:
        served = deployment.serving(spec(a=100, b=0), pool=MODELS)
        assert tried(served, 4)[1:] == [("b", "fallback", False)] * 3

    @pytest.mark.parametrize(
        ("path", "headers"),
        [
            ("/serving-endpoints/chat/served-models/b/invocations", {}),
            (CHAT, {"model": "model-b"}),
        ],
    )
    def test_who_asks_for_one_entity_gets_no_other(self, deployment: Deployment, path: str, headers: dict[str, str]) -> None:
        served = deployment.serving(spec(a=100, b=0), pool=MODELS)
        for attempt in (1, 2):
            draft, _ = decide(served, asked(attempt, path, **headers))
            assert draft.entity is not None
            assert (draft.entity.name, draft.falls_back) == ("b", False)

    def test_without_fallback_there_is_one(self, deployment: Deployment) -> None:
        served = deployment.serving(spec(fallback=False, a=100, b=0), pool=MODELS)
        assert tried(served, 2) == [("a", "only entity", False)] * 2

    def test_one_whose_model_is_gone_is_passed_over(self, deployment: Deployment) -> None:
        """It says that another is left, and the proxy asks again."""
        director = deployment.director(*deployment.serving(spec(a=100, b=0), pool=["model-b"]))
        with pytest.raises(EntityNotServed) as gone:
            director.decide(asked(1))
        assert gone.value.falls_back
        assert isinstance(director.decide(asked(2)), Decision)


class TestDraws:
    def test_attempts_agree_on_what_was_drawn(self, deployment: Deployment) -> None:
        served = deployment.serving(spec(a=50, b=50), draw=Draws(), pool=MODELS)
        firsts: Counter[str] = Counter()
        for number in range(1000):
            first, second = tried(served, 2, x_extproc_draw=f"request-{number}")
            assert {first[0], second[0]} == {"a", "b"}
            firsts[first[0]] += 1
        assert 430 < firsts["a"] < 570

    @pytest.mark.parametrize("attempt", [None, 1])
    def test_only_attempts_are_believed(self, deployment: Deployment, attempt: int | None) -> None:
        """And where Envoy says nothing of it, each attempt draws."""
        served = deployment.serving(spec(a=50, b=50), draw=Draws(0.9), pool=MODELS)
        headers = {} if attempt else {"x_extproc_draw": "0"}
        draft, _ = decide(served, asked(attempt, **headers))
        assert draft.entity is not None
        assert draft.entity.name == "b"
