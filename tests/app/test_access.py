"""Tokens of requests that Kubernetes knows: asked of a fake API server, alone and through a whole gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from extproc.app.access import ReviewedTokens
from extproc.app.cluster import Cluster
from extproc.control.changes import Create
from extproc.demo.ports import free_ports
from extproc.errors import AccessNotChecked, AccessUnknown, Unauthenticated
from extproc.names import EXT_PROC_METHOD
from extproc.observability.instruments import Instruments
from extproc.pb import external_processor_pb2 as pb
from extproc.settings.base import SettingsError
from extproc.stages import Bearer
from tests.app.endpoints.test_desk import desk_of, gateway
from tests.app.running import chat, headers_of, running
from tests.control.desks import document
from tests.fakes.kube import FakeKube
from tests.fakes.page import counted, read_page

TOKENREVIEWS = "tokenreviews.authentication.k8s.io"
ANN = "system:serviceaccount:ml:ann"
COUNTED = "extproc_data_plane_auth_total"
PATH = "/serving-endpoints/chat/invocations"


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    """Knows Ann and Bob; Ann may query `chat`."""
    fake = FakeKube()
    users = {"tok-ann": ANN, "tok-bob": "bob"}

    def token(body: dict[str, Any]) -> dict[str, Any]:
        name = users.get(body["spec"]["token"])
        return {"authenticated": name is not None, "user": {"username": name, "groups": ["ml"]}}

    def access(body: dict[str, Any]) -> dict[str, Any]:
        spec = body["spec"]
        return {"allowed": spec["user"] == ANN and spec["nonResourceAttributes"] == {"verb": "post", "path": PATH}}

    fake.token_review, fake.access_review = token, access
    await fake.start()
    yield fake
    await fake.kill()


def config_of(kube: FakeKube, directory: Path) -> str:
    path = directory / "kubeconfig"
    path.write_text(kube.kubeconfig())
    return str(path)


def asked(kube: FakeKube) -> tuple[int, int]:
    """TokenReviews and SubjectAccessReviews so far."""
    paths = [path for _, path, _ in kube.requests]
    return sum("tokenreviews" in path for path in paths), sum("subjectaccessreviews" in path for path in paths)


class Asked:
    """The component, and what it was asked."""

    def __init__(self, tokens: ReviewedTokens) -> None:
        self.tokens = tokens

    def begin(self, token: str, name: str = "chat") -> tuple[asyncio.Future[object], Callable[[], None]]:
        outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        return outcome, self.tokens.ask(token, name, outcome.set_result)

    async def outcome(self, token: str, name: str = "chat") -> object:
        async with asyncio.timeout(5):
            return await self.begin(token, name)[0]


@pytest.fixture
def instruments() -> Instruments:
    return Instruments()


@pytest.fixture
async def at(kube: FakeKube, tmp_path: Path, instruments: Instruments) -> AsyncIterator[Asked]:
    cluster = Cluster(config_of(kube, tmp_path), instruments)
    tokens = ReviewedTokens(cluster, instruments)
    await tokens.start()
    yield Asked(tokens)
    await tokens.close()
    await cluster.close()


async def test_who_may_query_is_asked_once_and_remembered(at: Asked, kube: FakeKube, instruments: Instruments) -> None:
    ann = Bearer(ANN, ("ml",), True)
    assert at.tokens.known("tok-ann", "chat") is None
    assert await at.outcome("tok-ann") == ann
    assert at.tokens.known("tok-ann", "chat") == ann
    assert asked(kube) == (1, 1)
    assert counted(instruments, COUNTED) == {f'{COUNTED}{{result="allowed"}}': 1}


async def test_who_may_not(at: Asked, instruments: Instruments) -> None:
    assert await at.outcome("tok-bob") == Bearer("bob", ("ml",), False)
    assert at.tokens.known("tok-bob", "chat") == Bearer("bob", ("ml",), False)
    assert await at.outcome("tok-ann", "other") == Bearer(ANN, ("ml",), False)
    assert counted(instruments, COUNTED) == {f'{COUNTED}{{result="denied"}}': 2}


async def test_who_is_not_known(at: Asked, kube: FakeKube) -> None:
    assert isinstance(await at.outcome("tok-eve"), Unauthenticated)
    known = at.tokens.known("tok-eve", "chat")
    assert isinstance(known, Unauthenticated)
    assert known is not at.tokens.known("tok-eve", "chat"), "an error is one request's"
    assert asked(kube) == (1, 0)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("chat/../x", "/serving-endpoints/chat%2F..%2Fx/invocations"),
        ("meta/llama 3*", "/serving-endpoints/meta%2Fllama%203%2A/invocations"),
        ("", "/serving-endpoints"),
    ],
)
async def test_a_models_name_is_one_part_of_the_path(at: Asked, kube: FakeKube, name: str, path: str) -> None:
    """So a rule for one name, or for the beginning of names, is none for others."""
    paths: list[str] = []

    def access(body: dict[str, Any]) -> dict[str, Any]:
        paths.append(body["spec"]["nonResourceAttributes"]["path"])
        return {"allowed": True}

    kube.access_review = access
    assert await at.outcome("tok-ann", name) == Bearer(ANN, ("ml",), True)
    assert paths == [path]


async def test_requests_at_once_with_one_token_are_one_question(at: Asked, kube: FakeKube) -> None:
    found = await asyncio.gather(*[at.outcome("tok-ann") for _ in range(50)])
    assert {each.subject for each in found if isinstance(each, Bearer)} == {ANN}
    assert asked(kube) == (1, 1)


async def test_who_left_hears_nothing(at: Asked) -> None:
    outcome, cancel = at.begin("tok-ann")
    cancel()
    assert isinstance(await at.outcome("tok-ann"), Bearer)
    assert not outcome.done()


async def test_a_server_that_is_away_is_503(at: Asked, kube: FakeKube, instruments: Instruments) -> None:
    await kube.kill()
    outcome = await at.outcome("tok-ann")
    assert isinstance(outcome, AccessUnknown)
    assert outcome.message == "the API server can't be asked about this token"
    assert counted(instruments, COUNTED) == {f'{COUNTED}{{result="error"}}': 1}


@pytest.mark.parametrize("resource", [TOKENREVIEWS, "subjectaccessreviews.authorization.k8s.io"])
async def test_a_server_that_does_not_let_us_ask_is_500_and_says_what_is_missing(
    at: Asked, kube: FakeKube, resource: str
) -> None:
    kube.forbidden.add(("create", resource))
    outcome = await at.outcome("tok-ann")
    assert isinstance(outcome, AccessNotChecked)
    assert "no right to create tokenreviews.authentication.k8s.io" in outcome.message
    assert "--data-plane-auth=off" in outcome.message


async def test_a_fault_of_ours_ends_the_wait(at: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(token: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(at.tokens._reviews, "user", broken)
    assert isinstance(await at.outcome("tok-ann"), ZeroDivisionError)


async def test_it_ends_with_questions_under_way(at: Asked) -> None:
    outcome, _ = at.begin("tok-ann")
    await asyncio.sleep(0)
    await at.tokens.close()
    assert not outcome.done()


async def test_without_access_it_does_not_start(tmp_path: Path) -> None:
    tokens = ReviewedTokens(Cluster(str(tmp_path / "none"), Instruments()), Instruments())
    with pytest.raises(SettingsError, match="--api-auth=kubernetes: "):
        await tokens.start()


async def ask(port: int, path: str = PATH, token: str = "", model: str = "") -> pb.ProcessingResponse:
    """The first answer to one request."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    body = json.dumps({"messages": []} | ({"model": model} if model else {})).encode()
    async with asyncio.timeout(5), aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.stream_stream(
            EXT_PROC_METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )()
        for message in chat(body, path, **headers):
            await call.write(message)
        answer: pb.ProcessingResponse = await call.read()
        await call.done_writing()
        return answer


def status(answer: pb.ProcessingResponse) -> tuple[int, str]:
    """Of a refusal, with its code."""
    said = json.loads(answer.immediate_response.body)
    return answer.immediate_response.status.code, said.get("error_code") or said["error"]["code"]


@pytest.mark.parametrize("api", [True, False], ids=["with the API", "without"])
async def test_through_a_gateway(kube: FakeKube, tmp_path: Path, api: bool) -> None:
    settings = {"api_auth": "kubernetes", "kubeconfig": config_of(kube, tmp_path)}
    service = gateway(tmp_path, api_port=free_ports(1)[0] if api else 0, **settings)
    async with running(service) as ports:
        await desk_of(service).apply(Create(document(a=100, b=0)), "test")
        for _ in range(2):
            answer = await ask(ports.grpc, token="tok-ann")
            assert headers_of(answer)["x-gateway-destination-endpoint"] == "127.0.0.1:1"
            assert "authorization" in answer.request_headers.response.header_mutation.remove_headers
        assert asked(kube) == (1, 1)
        assert status(await ask(ports.grpc)) == (401, "UNAUTHENTICATED")
        assert status(await ask(ports.grpc, token="tok-eve")) == (401, "UNAUTHENTICATED")
        assert status(await ask(ports.grpc, token="tok-bob")) == (403, "PERMISSION_DENIED")
        kube.failures[TOKENREVIEWS] = 503
        away = await ask(ports.grpc, token="tok-dan")
        assert status(away) == (503, "TEMPORARILY_UNAVAILABLE")
        assert "retry-after" in {each.header.key for each in away.immediate_response.headers.set_headers}
        assert headers_of(await ask(ports.grpc, token="tok-ann")), "who is remembered does not need it"
        other = await ask(ports.grpc, "/v1/chat/completions", token="sk-somebody", model="model-A")
        assert not other.request_headers.response.header_mutation.remove_headers
    waits = read_page(service.telemetry.instruments, "extproc_decision_waits_total")
    assert sum(waits.values()) == 4


async def test_for_all_requests_and_for_none(kube: FakeKube, tmp_path: Path) -> None:
    settings = {"api_auth": "kubernetes", "kubeconfig": config_of(kube, tmp_path)}
    async with running(gateway(tmp_path, data_plane_auth="all", **settings)) as ports:
        assert status(await ask(ports.grpc, "/v1/chat/completions", model="model-A")) == (401, "invalid_api_key")
        refused = await ask(ports.grpc, "/v1/chat/completions", token="tok-ann", model="model-A")
        assert status(refused) == (403, "permission_denied")
        assert b"model `model-A`" in refused.immediate_response.body
    service = gateway(tmp_path, data_plane_auth="off", **settings)
    async with running(service) as ports:
        await desk_of(service).apply(Create(document(a=100, b=0)), "test")
        assert headers_of(await ask(ports.grpc))["x-gateway-destination-endpoint"] == "127.0.0.1:1"
