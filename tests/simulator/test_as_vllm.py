"""The same requests as a real vLLM got: errors are its words, documents and streams have its fields in its order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from extproc.simulator.server import Simulator
from tests.simulator.helpers import fast, rows

CASES = rows("vllm-0.32-answers.jsonl")


@pytest.fixture
async def server() -> AsyncIterator[Simulator]:
    async with Simulator(fast(model=["tiny", "tiny-alias"], max_model_len=1024)) as simulator:
        yield simulator


def shape(value: Any) -> Any:
    """A document without its content: the order of keys, the kinds of values, lists by what is in them."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        kinds = [shape(item) for item in value]
        return kinds[:1] if kinds and isinstance(value[0], int | str) else kinds
    return type(value).__name__


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
async def test_as_a_real_one(case: dict[str, Any], server: Simulator, client: aiohttp.ClientSession) -> None:
    method = "GET" if case["body"] is None else "POST"
    headers = {"content-type": "application/json"} if case["body"] is not None else {}
    async with client.request(method, server.url + case["path"], data=case["body"], headers=headers) as response:
        body = await response.text()
    assert response.status == case["status"]
    assert response.headers["content-type"] == case["content_type"]
    if "events" in case:
        events = body.split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        real = [shape(json.loads(event.removeprefix("data: "))) for event in case["events"][:-1]]
        assert [shape(json.loads(event.removeprefix("data: "))) for event in events[:-2]] == real
    elif case["status"] == 200:
        assert shape(json.loads(body)) == shape(json.loads(case["answer"]))
    else:
        assert body == case["answer"]
