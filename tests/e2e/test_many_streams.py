"""A thousand streams at once on one connection, and large bodies both ways, with a real Envoy and our gateway."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import raw
from tests.e2e.parts import Stack, chat, until
from tests.e2e.restarts import metric
from tests.e2e.upstream import Exchange, Handler, Upstream

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CHAT = "/v1/chat/completions"
STREAMS = 1000
EVENT = b'data: {"model":"m","choices":[{"delta":{"content":"word"}}],"n":%d}\n\n'
MODES = ["NONE", "FULL_DUPLEX_STREAMED"]


@contextlib.asynccontextmanager
async def running(binary: Path, directory: Path, answers: str, handler: Handler, **more: Any) -> AsyncIterator[Stack]:
    async with Upstream(handler).listening() as upstream:
        stack = Stack("one-hop", binary, upstream, directory, answers=answers, **more)
        try:
            await asyncio.to_thread(stack.start)
            yield stack
            await asyncio.to_thread(until, stack.idle, what="nothing is under way after the test")
        finally:
            await asyncio.to_thread(stack.stop)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Envoy needs two for each stream, and takes our limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 5 * STREAMS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"at most {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("answers", MODES)
async def test_a_thousand_streams_at_once(envoy_binary: Path, tmp_path: Path, answers: str) -> None:
    go_on = asyncio.Event()

    async def slowly(exchange: Exchange) -> None:
        await exchange.begin("text/event-stream")
        await exchange.chunk(EVENT % 0)
        await go_on.wait()
        for number in range(1, 5):
            await exchange.chunk(EVENT % number)
        await exchange.end()

    async with running(envoy_binary, tmp_path, answers, slowly) as stack:
        port = int(stack.url.rpartition(":")[2])
        body = json.dumps(chat(stream=True)).encode()
        begun = asyncio.Semaphore(0)

        async def client() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw.head(CHAT, f"content-length: {len(body)}") + body)
            seen = await reader.readuntil(EVENT % 0)
            begun.release()
            seen += await reader.readuntil(b"\r\n0\r\n\r\n")
            writer.close()
            await writer.wait_closed()
            return seen

        before = stack.counted("inference_objective_request_total")
        clients = [asyncio.create_task(client()) for _ in range(STREAMS)]
        async with asyncio.timeout(30):
            for _ in clients:
                await begun.acquire()
        page = stack.pages["gateway"]
        assert await asyncio.to_thread(metric, page, "extproc_connections") == 1
        assert await asyncio.to_thread(stack.streams) == STREAMS
        assert await asyncio.to_thread(stack.in_flight) == STREAMS
        go_on.set()
        async with asyncio.timeout(30):
            seen = await asyncio.gather(*clients)
        for each in seen:
            assert each.startswith(b"HTTP/1.1 200")
            assert each.count(b"data: ") == 5
        await asyncio.to_thread(until, stack.idle)
        assert await asyncio.to_thread(metric, page, "extproc_connections") == 1
        assert stack.counted("inference_objective_request_total") == [before[0] + STREAMS]


def with_trailers(document: Any) -> None:
    """Envoy drops HTTP/1's trailers unless told."""
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_protocol_options"] = {"enable_trailers": True}
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    for cluster in document["static_resources"]["clusters"]:
        if cluster["name"] == "endpoints":
            cluster["typed_extension_protocol_options"] = {
                kind: {
                    "@type": f"type.googleapis.com/{kind}",
                    "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
                }
            }


@pytest.mark.parametrize("flags", [(), ("--early",), ("--response-metrics",)], ids=["strict", "early", "measured"])
@pytest.mark.parametrize("answers", MODES)
async def test_5_mb_both_ways_with_trailers(envoy_binary: Path, tmp_path: Path, answers: str, flags: tuple[str, ...]) -> None:
    document = json.dumps({"id": 1, "data": os.urandom(5 << 19).hex(), "usage": {"prompt_tokens": 1}}).encode()
    got: list[tuple[str, dict[str, str]]] = []

    async def mirror(exchange: Exchange) -> None:
        got.append((hashlib.sha256(exchange.body).hexdigest(), exchange.trailers))
        await exchange.begin("application/json", "trailer: x-answered")
        for at in range(0, len(document), 100_000):
            await exchange.chunk(document[at : at + 100_000])
        await exchange.end("x-answered: yes")

    async with running(envoy_binary, tmp_path, answers, mirror, flags=flags, change=with_trailers) as stack:
        sent = json.dumps(chat(text=os.urandom(5 << 19).hex())).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(stack.url.rpartition(":")[2]))
        writer.write(raw.head(CHAT, "transfer-encoding: chunked", "trailer: x-checksum"))
        pieces = (sent[at : at + 65_000] for at in range(0, len(sent), 65_000))
        writer.write(raw.chunked(*pieces, trailers=("x-checksum: 4711",)))
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            answer = b""
            while size := int(await reader.readline(), 16):
                answer += await reader.readexactly(size)
                await reader.readexactly(2)
            assert await reader.readline() == b"x-answered: yes\r\n"
        writer.close()
        await writer.wait_closed()
        assert got == [(hashlib.sha256(sent).hexdigest(), {"x-checksum": "4711"})]
        assert answer == document
