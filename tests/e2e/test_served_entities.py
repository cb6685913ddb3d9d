"""A whole gateway behind a real Envoy with envoy/serving-endpoints.yaml: requests for an endpoint, and its fallback."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from extproc.app import Service, build
from extproc.app.endpoints import ServingEndpoints
from extproc.app.pools import Pools
from extproc.control.changes import Create
from extproc.demo.ports import free_ports
from extproc.settings.commands import GatewaySettings
from tests.app.running import part, running
from tests.e2e.attempts import Do, Servers, cuts_after_head, good, says
from tests.e2e.front import envoy_before
from tests.e2e.parts import Answer, call
from tests.e2e.upstream import Exchange, Upstream

pytestmark = pytest.mark.e2e

INVOCATIONS, CHAT = "/serving-endpoints/chat/invocations", "/v1/chat/completions"
BOTH = [INVOCATIONS, CHAT]
MESSAGES = {"messages": [{"role": "user", "content": "hello"}]}
GONE = 8203
"""By its usual number, the port of the pool `gone`, where nobody listens."""


class Running(NamedTuple):
    """The gateway, what clients see of it, and what its model servers are asked."""

    url: str
    service: Service
    servers: Servers

    async def ask(self, path: str = INVOCATIONS, model: str = "chat", **more: Any) -> Answer:
        """The answer to one request; the body names no model where the path does."""
        body = MESSAGES | more | ({} if "invocations" in path else {"model": model})
        return await asyncio.to_thread(call, self.url, path, body)

    def in_flight(self) -> float:
        """Requests that the gateway believes to be under way."""
        stores = [pool.store for pool in part(self.service, Pools).pools]
        return sum(sum(store.candidates().in_flight) for store in stores)


def spec(*, fallback: bool = True, sticky: bool = True, calls: int = 0, **shares: int) -> dict[str, Any]:
    """What creates the endpoint, in Databricks' words; `calls` a minute, 0 for any number."""
    limits = [{"key": "endpoint", "calls": calls, "renewal_period": "minute"}] if calls else []
    return {
        "name": "chat",
        "config": {
            "served_entities": [{"name": name, "entity_name": f"model-{name}"} for name in shares],
            "traffic_config": {
                "routes": [{"served_entity_name": name, "traffic_percentage": share} for name, share in shares.items()]
            },
        },
        "ai_gateway": {"fallback_config": {"enabled": fallback}, "rate_limits": limits},
        **({} if sticky else {"sticky": "none"}),
    }


@contextlib.asynccontextmanager
async def gateway(
    binary: Path,
    directory: Path,
    endpoint: dict[str, Any],
    does: Mapping[str, Do] = {},
    segments: Sequence[dict[str, Any]] = (),
    audit: Path | None = None,
) -> AsyncIterator[Running]:
    """Pools a, b and c with an endpoint each, and `gone` without; the serving endpoint `chat` is over them. `audit`: the folder
    of decisions."""
    servers = Servers({f"model-{name}": do for name, do in does.items()})
    upstream = Upstream(servers)
    (nobody,) = free_ports(1, taken=upstream.ports.values())
    ports = {**upstream.ports, GONE: nobody}
    names = ("a", "b", "c")
    at = dict(zip(names, ports.values(), strict=False)) | {"gone": nobody}
    config = directory / "gateway.yaml"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "extproc.dev/v1alpha1",
                "kind": "Gateway",
                "pools": [{"name": name, "endpoints": {"static": [f"127.0.0.1:{port}"]}} for name, port in at.items()],
                "routes": [{"models": [f"model-{name}"], "pool": name} for name in at],
                "segments": list(segments),
            }
        )
    )
    built: list[Service] = []

    def serve_at(port: int) -> contextlib.AbstractAsyncContextManager[object]:
        settings = GatewaySettings(
            config_file=str(config),
            host="127.0.0.1",
            grpc_port=port,
            grpc_health_port=0,
            metrics_port=0,
            secure_serving=False,
            audit_dir=None if audit is None else str(audit),
        )
        built.append(build(settings))
        return running(built[0])

    async with (
        upstream.listening(),
        envoy_before(serve_at, binary, directory, config="serving-endpoints.yaml", ports=ports) as front,
    ):
        await part(built[0], ServingEndpoints).desk.apply(Create(endpoint), "test")
        made = Running(front.url, built[0], servers)
        yield made
        async with asyncio.timeout(10):
            while made.in_flight():  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # Envoy's last word


async def answers(exchange: Exchange) -> None:
    """A chat completion, as vLLM names itself in it."""
    model = json.loads(exchange.body)["model"]
    await exchange.begin("application/json")
    await exchange.chunk(json.dumps({"object": "chat.completion", "model": model}).encode())
    await exchange.end()


async def streams(exchange: Exchange) -> None:
    """Two events."""
    event = b'data: {"object":"chat.completion.chunk","model":%s}\n\n' % json.dumps(json.loads(exchange.body)["model"]).encode()
    await exchange.begin("text/event-stream")
    await exchange.chunk(event)
    await exchange.chunk(event)
    await exchange.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(envoy_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One gateway and one Envoy for all tests of an endpoint whose entity `a` is asked first, and then `b`."""
    async with gateway(envoy_binary, tmp_path_factory.mktemp("standing"), spec(a=100, b=0)) as at:
        yield at


async def fresh(standing: Running, does: Mapping[str, Do]) -> Running:
    """The model servers do this, and were asked for nothing yet."""
    async with asyncio.timeout(10):
        while standing.in_flight():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # Envoy's last word
    standing.servers.begin({f"model-{name}": do for name, do in does.items()})
    return standing


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", [*BOTH, "/serving-endpoints/chat/completions"])
@pytest.mark.parametrize("fails", [None, says(429), says(503), cuts_after_head], ids=["good", "429", "503", "cut"])
async def test_an_entity_answers_wholly(standing: Running, fails: Do | None, path: str) -> None:
    """Its model in the body, its path; and in the answer the client's name of the endpoint and which entity it was."""
    at = await fresh(standing, {"a": fails or answers, "b": answers})
    got = await at.ask(path)
    by = "b" if fails else "a"
    assert (got.status, got.json) == (200, {"object": "chat.completion", "model": "chat"})
    assert got.headers["served-model-name"] == by
    last = at.servers.asked[-1]
    assert json.loads(last.body) == {**MESSAGES, "model": f"model-{by}"}
    assert last.path == CHAT
    assert list(dict.fromkeys(at.servers.models)) == (["model-a", "model-b"] if fails else ["model-a"])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", BOTH)
async def test_a_stream_of_the_second_entity(standing: Running, path: str) -> None:
    at = await fresh(standing, {"a": cuts_after_head, "b": streams})
    got = await at.ask(path, stream=True)
    assert got.body == b'data: {"object":"chat.completion.chunk","model":"chat"}\n\n' * 2
    assert got.headers["served-model-name"] == "b"


@pytest.mark.parametrize("path", BOTH)
async def test_a_pool_that_is_not_there(envoy_binary: Path, tmp_path: Path, path: str) -> None:
    async with gateway(envoy_binary, tmp_path, spec(gone=100, b=0), {"b": answers}) as at:
        assert (await at.ask(path)).headers["served-model-name"] == "b"


async def test_the_last_failure_is_the_answer(envoy_binary: Path, tmp_path: Path) -> None:
    does = {"a": says(503), "b": says(500), "c": says(429, "retry-after: 3")}
    async with gateway(envoy_binary, tmp_path, spec(a=0, b=100, c=0), does) as at:
        got = await at.ask()
        assert (got.status, got.json, got.headers["retry-after"]) == (429, {"error": "model-c"}, "3")
        assert at.servers.models == ["model-b", "model-a", "model-c"]


@pytest.mark.parametrize(
    ("path", "model"), [("/serving-endpoints/chat/served-models/a/invocations", ""), (CHAT, "model-a")], ids=["path", "model"]
)
async def test_who_asks_for_one_entity_gets_its_failure(envoy_binary: Path, tmp_path: Path, path: str, model: str) -> None:
    async with gateway(envoy_binary, tmp_path, spec(a=0, b=100), {"a": says(503)}) as at:
        assert (await at.ask(path, model)).status == 503
        assert at.servers.models == ["model-a"]


async def test_without_fallback_a_failure_is_the_answer(envoy_binary: Path, tmp_path: Path) -> None:
    async with gateway(envoy_binary, tmp_path, spec(fallback=False, a=100, b=0), {"a": says(503)}) as at:
        assert (await at.ask()).status == 503
        assert at.servers.models == ["model-a"]


async def test_an_endpoint_that_is_not_there_is_404_in_each_shape(envoy_binary: Path, tmp_path: Path) -> None:
    async with gateway(envoy_binary, tmp_path, spec(a=100)) as at:
        below = await at.ask("/serving-endpoints/nope/invocations")
        assert (below.status, below.json["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
        beside = await at.ask(CHAT, "nope")
        assert (beside.status, beside.json["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", BOTH)
async def test_a_call_counts_once_however_many_attempts_it_takes(envoy_binary: Path, tmp_path: Path, path: str) -> None:
    async with gateway(envoy_binary, tmp_path, spec(calls=3, a=100, b=0), {"a": says(503), "b": answers}) as at:
        got = [await at.ask(path) for _ in range(4)]
        assert [each.status for each in got] == [200, 200, 200, 429]
        assert int(got[3].headers["retry-after"]) > 0
        assert at.servers.models == ["model-a", "model-b"] * 3


@pytest.mark.parametrize("path", BOTH)
async def test_shares_hold_while_one_entity_fails_now_and_then(envoy_binary: Path, tmp_path: Path, path: str) -> None:
    """90/10 by draws under 16 requests at a time: who was drawn is asked first, whatever becomes of it, and only then the
    other. A draw that differed between the attempts would ask the same one twice."""
    calls: Counter[str] = Counter()

    async def sometimes(exchange: Exchange) -> None:
        calls["a"] += 1
        await (says(503) if calls["a"] % 3 == 0 else good)(exchange)

    async with gateway(envoy_binary, tmp_path, spec(sticky=False, a=90, b=10), {"a": sometimes, "b": good}) as at:
        several = asyncio.Semaphore(16)

        async def ask() -> Answer:
            async with several:
                return await at.ask(path)

        got = await asyncio.gather(*[ask() for _ in range(400)])
        assert {each.status for each in got} == {200}
        failed = calls["a"] // 3
        first_a = calls["a"] / 400
        assert 0.84 < first_a < 0.96
        by = Counter(each.headers["served-model-name"] for each in got)
        assert by == {"a": calls["a"] - failed, "b": 400 - calls["a"] + failed}
        assert len(at.servers.asked) == 400 + failed
