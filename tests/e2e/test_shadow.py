"""Shadows behind a real Envoy: copies go to another entity, answers are compared, and clients see nothing of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from extproc.app.shadow import Shadows
from tests.app.running import part
from tests.e2e.attempts import Do
from tests.e2e.parts import Answer, call
from tests.e2e.test_served_entities import CHAT, INVOCATIONS, MESSAGES, Running, gateway, spec
from tests.e2e.upstream import Exchange

pytestmark = pytest.mark.e2e


def shadowed(**fields: Any) -> dict[str, Any]:
    """The endpoint `chat`: `a` serves all, and `b` is its shadow."""
    return {**spec(fallback=False, a=100, b=0), "shadows": [{"entity": "b", "percentage": 100, **fields}]}


def says(text: str, reason: str = "stop") -> Do:
    """A completion."""

    async def do(exchange: Exchange) -> None:
        choice = {"index": 0, "message": {"content": text}, "finish_reason": reason}
        usage = {"prompt_tokens": 1, "completion_tokens": len(text.split())}
        await exchange.begin("application/json")
        answer = {"model": json.loads(exchange.body)["model"], "choices": [choice], "usage": usage}
        await exchange.chunk(json.dumps(answer).encode())
        await exchange.end()

    return do


def streams(*words: str) -> Do:
    async def do(exchange: Exchange) -> None:
        await exchange.begin("text/event-stream")
        for word in words:
            await exchange.chunk(b"data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}).encode())
        await exchange.chunk(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        await exchange.end()

    return do


def predicts(*numbers: float) -> Do:
    async def do(exchange: Exchange) -> None:
        await exchange.begin("application/json")
        await exchange.chunk(json.dumps({"predictions": numbers}).encode())
        await exchange.end()

    return do


class Watched:
    """A gateway whose shadow is looked at."""

    def __init__(self, at: Running) -> None:
        self.at = at

    def told(self) -> dict[str, Any]:
        ((told),) = part(self.at.service, Shadows).shapes("chat")
        return told

    async def pair(
        self, path: str = INVOCATIONS, body: dict[str, Any] | None = None, **more: Any
    ) -> tuple[Answer, dict[str, Any]]:
        """Ask until a request was copied (its pool's page may be old for a moment), and what came of comparing."""
        async with asyncio.timeout(20):
            while True:
                before = self.told()
                asking = self.at.ask(path, **more) if body is None else asyncio.to_thread(call, self.at.url, path, body)
                got = await asking
                while (now := self.told())["held_bytes"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                if now["summary"]["pairs"] > before["summary"]["pairs"]:
                    return got, now["last_pairs"][0]


@pytest.mark.parametrize("path", [INVOCATIONS, CHAT])
async def test_two_answers_are_compared(envoy_binary: Path, tmp_path: Path, path: str) -> None:
    does = {"a": says("the cat sat on the mat"), "b": says("the dog sat on the mat", "length")}
    async with gateway(envoy_binary, tmp_path, shadowed(min_similarity=0.9), does) as at:
        got, pair = await Watched(at).pair(path)
        assert (got.status, got.headers["served-model-name"], got.json["model"]) == (200, "a", "chat")
        assert got.json["choices"][0]["message"]["content"] == "the cat sat on the mat"
        assert not any("shadow" in name for name in got.headers)
        assert (pair["verdict"], pair["differs_in"]) == ("differs", ["finish reason", "text"])
        assert pair["similarity"] == pytest.approx(5 / 6)
        for side, entity in (("live", "a"), ("shadow", "b")):
            assert (pair[side]["entity"], pair[side]["status"], pair[side]["completion_tokens"]) == (entity, 200, 6)
            assert 0 < pair[side]["ttft_s"] <= pair[side]["latency_s"]
        copies = [each for each in at.servers.asked if "x-extproc-shadow" in each.headers]
        assert copies[-1].headers["x-extproc-shadow"] == "chat/b"
        assert copies[-1].headers["x-request-id"] == f"{pair['request_id']}-shadow"
        assert json.loads(copies[-1].body) == {**MESSAGES, "model": "model-b"}
        assert copies[-1].path == CHAT


async def test_streams_to_their_end(envoy_binary: Path, tmp_path: Path) -> None:
    does = {"a": streams("one ", "two"), "b": streams("one ", "two")}
    async with gateway(envoy_binary, tmp_path, shadowed(min_similarity=1.0), does) as at:
        got, pair = await Watched(at).pair(stream=True)
        assert got.body.endswith(b"data: [DONE]\n\n")
        assert (pair["verdict"], pair["shadow"]["text_length"], pair["live"]["text_length"]) == ("same", 7, 7)
        assert pair["live"]["body_bytes"] == pair["shadow"]["body_bytes"]


async def test_predictions_by_their_numbers(envoy_binary: Path, tmp_path: Path) -> None:
    async def by_entity(exchange: Exchange) -> None:
        await predicts(0.1, 0.8 if "x-extproc-shadow" in exchange.headers else 0.9)(exchange)

    async with gateway(envoy_binary, tmp_path, shadowed(max_difference=0.05)) as at:
        at.servers.begin({"chat": by_entity})
        got, pair = await Watched(at).pair(body={"inputs": [1, 2], "model": "chat"})
        assert got.json == {"predictions": [0.1, 0.9]}
        assert (pair["verdict"], pair["differs_in"]) == ("differs", ["numbers"])
        assert pair["numeric_difference"]["largest"] == pytest.approx(0.1)
        assert at.servers.asked[-1].path == "/invocations"


async def hangs(exchange: Exchange) -> None:
    await exchange.gone()


async def fails(exchange: Exchange) -> None:
    await exchange.begin("application/json", status=500)
    await exchange.end()


async def cuts(exchange: Exchange) -> None:
    await exchange.begin("application/json")
    exchange.cut()


async def never_ends(exchange: Exchange) -> None:
    await exchange.begin("text/event-stream")
    while True:
        await exchange.chunk(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n' * 50)


async def is_huge(exchange: Exchange) -> None:
    await exchange.begin("application/json")
    for _ in range(64):
        await exchange.chunk(b"x" * 65536)
    await exchange.end()


HOSTILE = {"timeout": hangs, "answered": fails, "cut": cuts, "too large": never_ends, "too large ": is_huge}


@pytest.mark.parametrize("outcome", HOSTILE)
async def test_whatever_a_shadow_does_clients_see_nothing(envoy_binary: Path, tmp_path: Path, outcome: str) -> None:
    does = {"a": says("hello"), "b": HOSTILE[outcome]}
    bounds = {"timeout_seconds": 0.5 if outcome == "timeout" else 20, "max_answer_bytes": 2**16, "max_in_flight": 4}
    async with gateway(envoy_binary, tmp_path, shadowed(**bounds), does) as at:
        watched = Watched(at)
        _, pair = await watched.pair()
        assert (pair["verdict"], pair["shadow"]["outcome"]) == ("differs", outcome.strip())
        got = await asyncio.gather(*[at.ask() for _ in range(40)])
        assert {(each.status, each.json["choices"][0]["message"]["content"]) for each in got} == {(200, "hello")}
        async with asyncio.timeout(10):
            while watched.told()["in_flight"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert set(watched.told()["copies"]) == {outcome.strip()}
