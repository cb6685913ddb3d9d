"""Real vLLM servers behind a real Envoy and both stages, driven by the `openai` client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from extproc.demo.envoy import envoy_child, find_envoy
from extproc.demo.processes import Child

from .conftest import MODEL_A, MODEL_B, Fleet
from .servers import BLOCK_TOKENS, LETTER_IDS, Server, free_port

_USUAL = (10000, 9901, 9002, 9012, 9003, 9013, 9004, 9005, 9090, 9091, 9092, 8101, 8102, 8103, 8201, 8202, 8203)


@dataclass(frozen=True)
class Gateway:
    """A running gateway in one of its two deployments."""

    url: str
    pages: dict[str, str]
    """Admin pages by model."""

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def decision(self, model: str, request_id: str) -> dict[str, Any]:
        """What the picker of the model decided for the request."""
        with urllib.request.urlopen(f"{self.pages[model]}/debug/decisions?request_id={request_id}") as reply:
            (found,) = json.load(reply)["decisions"]
        return dict(found)

    def in_flight(self, model: str) -> int:
        return sum(row["in_flight"] for row in self.endpoints(model))

    def waiting(self, server: Server) -> float:
        """The queue of a server of model A, as its picker knows it."""
        (row,) = [row for row in self.endpoints(MODEL_A) if row["endpoint"] == server.address]
        return float(row["signals"]["waiting"]["value"] or 0)

    def endpoints(self, model: str) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.pages[model]}/debug/endpoints") as reply:
            pools = json.load(reply)["pools"]
        return [row for pool in pools for row in pool["endpoints"]]


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        time.sleep(0.02)


def answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as reply:
        return bool(reply.status == 200)
    return False


def serve(name: str, command: str, ports: tuple[int, int, int], folder: Path, *flags: str) -> Child:
    grpc, health, metrics = map(str, ports)
    listen = ("--host", "127.0.0.1", "--grpc-port", grpc, "--grpc-health-port", health, "--metrics-port", metrics)
    child = Child(name, [sys.executable, "-m", "extproc", command, *listen, *flags], folder)
    child.start()
    return child


@pytest.fixture(scope="module", params=["one-hop", "two-stage"])
def gateway(request: pytest.FixtureRequest, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp(request.param)
    ports = {usual: free_port() for usual in _USUAL}
    for usual, server in {8101: fleet.a, 8102: fleet.a_twin, 8201: fleet.b}.items():
        ports[usual] = int(server.address.rpartition(":")[2])
    pools = {MODEL_A: [fleet.a.address, fleet.a_twin.address], MODEL_B: [fleet.b.address]}
    if request.param == "one-hop":
        config = {
            "apiVersion": "extproc.dev/v1alpha1",
            "kind": "Gateway",
            "pools": [{"name": model, "endpoints": {"static": addresses}} for model, addresses in pools.items()],
            "routes": [{"models": [model], "pool": model} for model in pools],
        }
        (folder / "gateway.yaml").write_text(json.dumps(config))
        where = (ports[9002], ports[9003], ports[9090])
        children = [serve("gateway", "gateway", where, folder, "--config-file", str(folder / "gateway.yaml"))]
        pages = dict.fromkeys(pools, f"http://127.0.0.1:{ports[9090]}")
    else:
        children = [serve("bbr", "bbr", (ports[9004], ports[9005], ports[9092]), folder)]
        pages = {}
        for model, grpc, health, metrics in ((MODEL_A, 9002, 9003, 9090), (MODEL_B, 9012, 9013, 9091)):
            where = (ports[grpc], ports[health], ports[metrics])
            children.append(serve(f"epp-{grpc}", "epp", where, folder, "--endpoints", ",".join(pools[model])))
            pages[model] = f"http://127.0.0.1:{ports[metrics]}"
    envoy = envoy_child(find_envoy(), f"{request.param}.yaml", ports, folder)
    envoy.start()
    try:
        for page in pages.values():
            until(lambda page=page: answers(f"{page}/readyz"))  # type: ignore[misc]
        until(lambda: answers(f"http://127.0.0.1:{ports[9901]}/ready"))
        yield Gateway(f"http://127.0.0.1:{ports[10000]}", pages)
    finally:
        for child in (envoy, *children):
            child.stop()


@pytest.mark.parametrize("model", [MODEL_A, MODEL_B])
def test_chat_goes_to_a_server_of_its_model(gateway: Gateway, fleet: Fleet, model: str) -> None:
    with gateway.client() as client:
        reply = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=8,
            extra_headers={"x-request-id": f"chat-{model}"},
            extra_body={"allowed_token_ids": LETTER_IDS},
        )
    assert reply.model == model
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 8
    decision = gateway.decision(model, f"chat-{model}")
    owners = {MODEL_A: [fleet.a.address, fleet.a_twin.address], MODEL_B: [fleet.b.address]}
    assert decision["endpoint"] in owners[model]
    assert decision["signals"]["kv_usage"] is not None


@pytest.mark.parametrize("model", [MODEL_A, MODEL_B])
def test_streams_keep_their_usage(gateway: Gateway, model: str) -> None:
    with gateway.client() as client:
        chunks = list(
            client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "hello"}],
                max_tokens=40,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"allowed_token_ids": LETTER_IDS},
            )
        )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert len(text) == 40
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 40
    assert {chunk.model for chunk in chunks} == {model}
    until(lambda: gateway.in_flight(model) == 0)


def test_completions_too(gateway: Gateway) -> None:
    with gateway.client() as client:
        reply = client.completions.create(model=MODEL_B, prompt="one two", max_tokens=5)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 5


@pytest.mark.parametrize("subject", ["rivers", "bridges", "lighthouses"])
def test_a_conversation_goes_on_where_its_prefix_is(gateway: Gateway, fleet: Fleet, subject: str) -> None:
    """vLLM itself counts the tokens that its prefix cache had: on the server that the first turn went to, and only there."""
    twins = {server.address: server for server in (fleet.a, fleet.a_twin)}
    kind = gateway.url.rpartition(":")[2]
    instructions = " ".join(f"{kind}: {subject} of the county number {index}." for index in range(20))[:600]
    with gateway.client() as client:

        def turn(number: int) -> str:
            client.chat.completions.create(
                model=MODEL_A,
                messages=[{"role": "system", "content": instructions}, {"role": "user", "content": f"{number}: and then?"}],
                max_tokens=2,
                extra_headers={"x-request-id": f"{subject}-{number}"},
            )
            return str(gateway.decision(MODEL_A, f"{subject}-{number}")["endpoint"])

        home = turn(0)
        before = {address: prefix_hits(server) for address, server in twins.items()}
        assert [turn(number) for number in range(1, 5)] == [home] * 4
    hits = {address: prefix_hits(server) - before[address] for address, server in twins.items()}
    blocks = len(instructions) // BLOCK_TOKENS
    assert hits.pop(home) >= 4 * (blocks - 1) * BLOCK_TOKENS  # a byte is a token
    assert list(hits.values()) == [0]


def prefix_hits(server: Server) -> float:
    """Tokens that the server did not have to compute, as its page says."""
    family = "vllm:prefix_cache_hits_total"
    samples = [line for line in server.metrics(family).splitlines() if line.startswith(family)]
    return sum(float(line.rpartition(" ")[2]) for line in samples)


def test_load_moves_when_one_is_busy(gateway: Gateway, fleet: Fleet) -> None:
    """Long generations go to one twin directly, past the gateway: only its metrics can tell the picker."""

    async def generate(client: openai.AsyncOpenAI, tokens: int, request_id: str) -> None:
        await client.completions.create(
            model=MODEL_A,
            prompt="x" * 300,
            max_tokens=tokens,
            extra_headers={"x-request-id": request_id},
            extra_body={"allowed_token_ids": LETTER_IDS},
        )

    async def run() -> list[dict[str, Any]]:
        found = []
        async with (
            openai.AsyncOpenAI(base_url=fleet.a.base_url, api_key="none", max_retries=0) as direct,
            openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client,
            asyncio.TaskGroup() as busy,
        ):
            for index in range(24):
                busy.create_task(generate(direct, 600, f"direct-{index}"))
            await asyncio.to_thread(until, lambda: gateway.waiting(fleet.a) > 0)
            for index in range(5):
                await generate(client, 2, f"moved-{index}")
                found.append(gateway.decision(MODEL_A, f"moved-{index}"))
        return found

    decisions = asyncio.run(run())
    why = "\n".join(f"{decision['endpoint']}: {decision['reason']} {decision['signals']}" for decision in decisions)
    assert [decision["endpoint"] for decision in decisions] == [fleet.a_twin.address] * 5, why
