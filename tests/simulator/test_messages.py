"""Anthropic's API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from extproc.response.sse import EventStream
from extproc.response.usage import DocumentUsage, StreamUsage, Usage
from extproc.simulator.server import Simulator
from tests.simulator.helpers import fast

ASKED: dict[str, Any] = {"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(fast(model=("m",), lora=("sql",), block_size=4)) as started:
        yield started


async def post(client: aiohttp.ClientSession, simulator: Simulator, path: str = "", **changes: Any) -> tuple[int, bytes]:
    async with client.post(f"{simulator.url}/v1/messages{path}", json={**ASKED, **changes}) as reply:
        return reply.status, await reply.read()


async def test_an_answer(simulator: Simulator, client: aiohttp.ClientSession) -> None:
    status, body = await post(client, simulator, system="be brief")
    said = json.loads(body)
    assert status == 200
    (part,) = said.pop("content")
    assert (part["type"], len(part["text"])) == ("text", 12)
    assert said.pop("id").startswith("msg")
    assert said == {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    }


async def test_how_it_ends(simulator: Simulator, client: aiohttp.ClientSession) -> None:
    whole = json.loads((await post(client, simulator, max_tokens=2000))[1])
    assert (whole["stop_reason"], whole["stop_sequence"]) == ("end_turn", None)
    stop = whole["content"][0]["text"][8:11]
    cut = json.loads((await post(client, simulator, max_tokens=2000, stop_sequences=[stop]))[1])
    assert (cut["stop_reason"], cut["stop_sequence"]) == ("stop_sequence", stop)


async def test_parts_and_a_system_prompt_of_parts(simulator: Simulator, client: aiohttp.ClientSession) -> None:
    plain = json.loads((await post(client, simulator, system="be brief", model="sql"))[1])
    parts = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    same = json.loads(
        (await post(client, simulator, system=[{"type": "text", "text": "be brief"}], messages=parts, model="sql"))[1]
    )
    assert same["content"] == plain["content"]
    assert same["model"] == "sql"


async def test_events(simulator: Simulator, client: aiohttp.ClientSession) -> None:
    whole = json.loads((await post(client, simulator))[1])
    events = EventStream().feed((await post(client, simulator, stream=True))[1])
    assert [event.kind.decode() for event in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    told = [json.loads(event.data) for event in events]
    assert [each["type"] for each in told] == [event.kind.decode() for event in events]
    assert (
        "".join(each["delta"]["text"] for each in told if each["type"] == "content_block_delta") == whole["content"][0]["text"]
    )
    assert told[0]["message"]["usage"]["output_tokens"] == 0
    assert told[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert told[-2]["usage"]["output_tokens"] == 3


async def test_tokens_are_counted(simulator: Simulator, client: aiohttp.ClientSession) -> None:
    assert json.loads((await post(client, simulator, "/count_tokens"))[1]) == {"input_tokens": 6}


@pytest.mark.parametrize(
    ("changes", "status", "kind"),
    [
        ({"model": "x"}, 404, "not_found_error"),
        ({"max_tokens": None}, 400, "invalid_request_error"),
        ({"max_tokens": 10**6}, 400, "invalid_request_error"),
        ({"messages": "hello"}, 400, "invalid_request_error"),
    ],
)
async def test_refused_in_its_own_words(
    simulator: Simulator, client: aiohttp.ClientSession, changes: dict[str, Any], status: int, kind: str
) -> None:
    got, body = await post(client, simulator, **changes)
    said = json.loads(body)
    assert (got, said["type"], said["error"]["type"]) == (status, "error", kind)
    assert said["error"]["message"]


async def test_usage_is_read_of_it(simulator: Simulator, client: aiohttp.ClientSession) -> None:
    document, events = DocumentUsage(), StreamUsage()
    await post(client, simulator)
    document.feed((await post(client, simulator))[1])
    document.end()
    events.feed((await post(client, simulator, stream=True))[1])
    assert document.usage == events.usage == Usage(2, 3, 4), "one block of 4 tokens was cached"
