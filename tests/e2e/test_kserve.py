"""KServe's model servers as served entities, through a real Envoy: v1 and v2 by path, and digests where a body changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from extproc.demo.stack import LLAMA
from extproc.domain import Endpoint
from extproc.traffic import EndpointSpec, EntitySpec
from tests.e2e import raw
from tests.e2e.front import envoy_before
from tests.e2e.parts import Answer, call
from tests.e2e.test_many_streams import with_trailers
from tests.e2e.upstream import Exchange, Upstream
from tests.fakes.deployment import Deployment

pytestmark = pytest.mark.e2e

ENTITY = "iris-2024-11"
DIGESTS = ("content-digest", "repr-digest", "digest", "content-md5", "etag")
V2 = "/v2/models/iris/infer"
TENSORS = {"id": "7", "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]}]}


class Served:
    """Envoy, an endpoint `iris` of ours, and KServe's model server of its entity."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.came: list[Exchange] = []

    async def ask(self, path: str, body: Any, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await asyncio.to_thread(call, self.url, path, json.dumps(body).encode(), given)

    async def answer(self, exchange: Exchange) -> None:
        """As KServe's Open Inference Protocol has it, with every digest in headers, and behind the body."""
        self.came.append(exchange)
        lines = [*(f'{name}: "head"' for name in DIGESTS), "x-kept: head"]
        if exchange.path.startswith("/v1/models/"):
            body = b'{"predictions": [2]}'
        elif exchange.path.startswith("/v2/"):
            tensor = {"name": "y", "shape": [1], "datatype": "INT64", "data": [2]}
            body = json.dumps({"model_name": ENTITY, "model_version": "3", "id": "7", "outputs": [tensor]}).encode()
        else:
            body = json.dumps({"model": json.loads(exchange.body).get("model"), "choices": []}).encode()
        await exchange.begin("application/json", *lines, f"trailer: {', '.join([*DIGESTS, 'x-kept'])}")
        for at in range(0, len(body), 9):
            await exchange.chunk(body[at : at + 9])
        await exchange.end(*(f'{name}: "trailer"' for name in DIGESTS), "x-kept: trailer")


@contextlib.asynccontextmanager
async def served(binary: Path, directory: Path, mode: str = "FULL_DUPLEX_STREAMED") -> AsyncIterator[Served]:
    deployment = Deployment()
    made: Served | None = None

    async def answer(exchange: Exchange) -> None:
        assert made is not None
        await made.answer(exchange)

    upstream = Upstream(answer)
    deployment.add_pool("p", [Endpoint("127.0.0.1", upstream.ports[LLAMA.ports[0]])])
    spec = EndpointSpec("iris", (EntitySpec("current", ENTITY),), (100,))
    stages = (*deployment.serving(spec, p=(ENTITY,)), deployment.rewriter(None), deployment.picker(None))
    director = deployment.director(*stages)
    async with (
        upstream.listening(),
        envoy_before(director, binary, directory, mode, ports=upstream.ports, change=with_trailers) as front,
    ):
        made = Served(front.url)
        yield made


async def test_an_endpoint_is_the_model_of_both_protocols(envoy_binary: Path, tmp_path: Path) -> None:
    async with served(envoy_binary, tmp_path) as there:
        answer = await there.ask(V2, TENSORS)
        assert there.came[-1].path == f"/v2/models/{ENTITY}/infer"
        assert json.loads(there.came[-1].body) == TENSORS
        assert (answer.status, answer.json["model_name"], answer.json["outputs"][0]["data"]) == (200, "iris", [2])
        assert answer.headers["served-model-name"] == "current"
        await there.ask("/v2/models/iris/versions/3/infer", TENSORS)
        assert there.came[-1].path == f"/v2/models/{ENTITY}/versions/3/infer"
        answer = await there.ask("/v1/models/iris:predict", {"instances": [[1.5]]})
        assert there.came[-1].path == f"/v1/models/{ENTITY}:predict"
        assert answer.json == {"predictions": [2]}


async def test_digests_of_a_request_whose_body_stays_stay(envoy_binary: Path, tmp_path: Path) -> None:
    async with served(envoy_binary, tmp_path) as there:
        digests = {name.replace("-", "_"): "x" for name in DIGESTS}
        await there.ask(V2, TENSORS, **digests)
        assert {name: there.came[-1].headers.get(name) for name in DIGESTS} == dict.fromkeys(DIGESTS, "x")


async def head_and_trailers(url: str, path: str, body: bytes, trailers: tuple[str, ...]) -> tuple[str, bytes, list[str]]:
    """Asked in chunks, with trailers: the head of the answer in lower case, its body, its trailers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    named = [each.partition(":")[0] for each in trailers]
    digests = [f"{name}: head" for name in named]
    writer.write(raw.head(path, "transfer-encoding: chunked", f"trailer: {', '.join(named)}", *digests))
    writer.write(raw.chunked(body[:11], body[11:], trailers=trailers))
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        answer = b""
        while size := int(await reader.readline(), 16):
            answer += await reader.readexactly(size)
            await reader.readexactly(2)
        found = []
        while line := (await reader.readline()).strip():
            found.append(line.decode())
    writer.close()
    await writer.wait_closed()
    return head, answer, found


TRAILERS = (*(f"{name}: trailer" for name in DIGESTS), "x-kept: trailer")


async def test_digests_of_a_changed_answer_go_from_its_head_and_its_trailers(envoy_binary: Path, tmp_path: Path) -> None:
    async with served(envoy_binary, tmp_path) as there:
        head, answer, trailers = await head_and_trailers(there.url, V2, json.dumps(TENSORS).encode(), TRAILERS)
        assert json.loads(answer)["model_name"] == "iris"
        assert trailers == ["x-kept: trailer"]
        assert not [name for name in DIGESTS if f"\r\n{name}: " in head]
        assert "\r\nx-kept: head\r\n" in head
        # the body of the request did not change, its path did: what is said of it holds
        assert there.came[-1].trailers == dict.fromkeys((*DIGESTS, "x-kept"), "trailer")


async def test_digests_of_a_changed_request_go_from_its_head_and_its_trailers(envoy_binary: Path, tmp_path: Path) -> None:
    async with served(envoy_binary, tmp_path) as there:
        body = json.dumps({"model": "iris", "messages": []}).encode()
        _, answer, trailers = await head_and_trailers(there.url, "/v1/chat/completions", body, TRAILERS)
        assert json.loads(answer) == {"model": "iris", "choices": []}
        assert trailers == ["x-kept: trailer"]
        came = there.came[-1]
        assert json.loads(came.body) == {"model": ENTITY, "messages": []}
        assert came.trailers.keys() & set(DIGESTS[:-1]) == set()
        assert came.trailers["x-kept"] == "trailer"
        assert not [name for name in DIGESTS[:-1] if name in came.headers]
        assert came.headers["x-kept"] == "head"


async def test_an_answer_that_nobody_changes_keeps_all_of_it(envoy_binary: Path, tmp_path: Path) -> None:
    """Envoy does not send it to us: then the name stays the entity's, and so do its digests."""
    async with served(envoy_binary, tmp_path, "NONE") as there:
        head, answer, trailers = await head_and_trailers(there.url, V2, json.dumps(TENSORS).encode(), TRAILERS)
        assert json.loads(answer)["model_name"] == ENTITY
        assert sorted(trailers) == sorted([*(f'{name}: "trailer"' for name in DIGESTS), "x-kept: trailer"])
        assert all(f'\r\n{name}: "head"\r\n' in head for name in DIGESTS)
