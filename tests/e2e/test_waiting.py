"""A stage of one's own behind a real Envoy: it waits, says something to the client, and hears how requests end."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from extproc import names
from extproc.app import STAGES, build
from extproc.domain import InferenceRequest
from extproc.protocol import StreamLimits
from extproc.settings.commands import BbrSettings
from extproc.stages import Draft, Ending, Hooks, Pending, Step
from tests.app.running import running
from tests.e2e.front import envoy_before
from tests.e2e.parts import Answer, call
from tests.e2e.upstream import Exchange, Upstream
from tests.fakes.deployment import Deployment
from tests.fakes.serving import TransportName

pytestmark = [pytest.mark.e2e, pytest.mark.every_transport]

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m"}'
WAIT_S = 0.05


class Scratch:
    """Waits so long, gives the answer a header, and counts ends."""

    def __init__(self, wait_s: float = WAIT_S, *, timeout_s: float = 5.0) -> None:
        self.hooks = Hooks(ended=self._ended)
        self.port = 0
        self.waiting = 0
        self.statuses: list[int] = []
        self._wait_s = wait_s
        self._timeout_s = timeout_s

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        def waited(outcome: object) -> Step:
            draft.set_response_headers += (("served-model-name", str(request.model)),)
            draft.append_response_headers += (("set-cookie", "ours=1"),)
            draft.destination = f"127.0.0.1:{self.port}"
            draft.set_headers += ((names.DESTINATION_HEADER, draft.destination),)
            draft.metadata += ((names.DESTINATION_HEADER, draft.destination),)
            return None

        return Pending("scratch", self._begin, waited, timeout_s=self._timeout_s)

    def _begin(self, resolve: Callable[[object], None]) -> Callable[[], None]:
        self.waiting += 1
        timer = asyncio.get_running_loop().call_later(self._wait_s, self._over, resolve)

        def cancel() -> None:
            self.waiting -= 1
            timer.cancel()

        return cancel

    def _over(self, resolve: Callable[[object], None]) -> None:
        self.waiting -= 1
        resolve(None)

    def _ended(self, draft: Draft, ending: Ending) -> None:
        self.statuses.append(ending.status)


@contextlib.asynccontextmanager
async def front(
    stage: Scratch,
    binary: Path,
    directory: Path,
    transport: TransportName,
    *,
    mode: str = "NONE",
    limits: StreamLimits = StreamLimits(),
) -> AsyncIterator[str]:
    """Where Envoy listens; the model server answers with what it was sent."""

    async def answer(exchange: Exchange) -> None:
        await exchange.begin("application/json", "set-cookie: theirs=1")
        await exchange.chunk(exchange.body)
        await exchange.end()

    deployment = Deployment()
    director = deployment.director(deployment.headers(), stage)
    upstream = Upstream(answer)
    stage.port = next(iter(upstream.ports.values()))
    async with (
        upstream.listening(),
        envoy_before(director, binary, directory, mode, ports=upstream.ports, transport=transport, limits=limits) as made,
    ):
        yield made.url


async def ask(url: str, body: bytes = BODY) -> Answer:
    return await asyncio.to_thread(call, url, CHAT, body)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("mode", ["NONE", "FULL_DUPLEX_STREAMED", "STREAMED", "BUFFERED"])
async def test_it_waits_and_speaks_to_the_client_and_hears_the_end(
    envoy_binary: Path, tmp_path: Path, transport: TransportName, mode: str
) -> None:
    stage = Scratch()
    async with front(stage, envoy_binary, tmp_path, transport, mode=mode) as at:
        began_s = time.monotonic()
        got = await ask(at)
        assert time.monotonic() - began_s >= WAIT_S
        assert (got.status, got.body) == (200, BODY)
        assert got.headers["served-model-name"] == "m"
        assert got.all("set-cookie") == ["theirs=1", "ours=1"]
        await until(lambda: stage.statuses == [200])


async def test_a_body_larger_than_all_buffers_waits_with_it(
    envoy_binary: Path, tmp_path: Path, transport: TransportName
) -> None:
    stage = Scratch()
    body = b'{"model":"m","x":"' + b"a" * 3_000_000 + b'"}'
    async with front(stage, envoy_binary, tmp_path, transport) as at:
        got = await ask(at, body)
        assert (got.status, got.body) == (200, body)


async def test_no_decision_in_time_is_504(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    stage = Scratch(60, timeout_s=0.1)
    async with front(stage, envoy_binary, tmp_path, transport) as at:
        got = await ask(at)
        assert (got.status, got.json["error"]["code"]) == (504, "decision_timeout")
        assert (stage.waiting, stage.statuses) == (0, [504])


async def test_the_requests_time_is_over(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    """--request-timeout, which is the changelog's 504."""
    stage = Scratch(60, timeout_s=60)
    async with front(stage, envoy_binary, tmp_path, transport, limits=StreamLimits(request_timeout_s=0.4)) as at:
        got = await ask(at)
        assert (got.status, got.json["error"]["code"]) == (504, "decision_timeout")
        await until(lambda: stage.waiting == 0)


async def test_a_client_that_leaves_cancels_the_wait(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    stage = Scratch(60, timeout_s=60)
    async with front(stage, envoy_binary, tmp_path, transport) as at:
        client = http.client.HTTPConnection(at.removeprefix("http://"))
        await asyncio.to_thread(client.request, "POST", CHAT, BODY, {"content-type": "application/json"})
        await until(lambda: stage.waiting == 1)
        client.close()
        await until(lambda: stage.waiting == 0)
        await until(lambda: stage.statuses == [0])


async def test_a_stage_of_ones_own_is_three_lines(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    """In a whole service, with all that is on by default."""
    scratch = Scratch()

    def serve_at(port: int) -> contextlib.AbstractAsyncContextManager[object]:
        settings = BbrSettings(grpc_port=port, grpc_health_port=0, metrics_port=0, secure_serving=False, transport=transport)
        stages = [*STAGES["bbr"], lambda parts: scratch]
        service = build(settings, stages)
        return running(service)

    async def answer(exchange: Exchange) -> None:
        await exchange.begin("application/json")
        await exchange.chunk(exchange.body)
        await exchange.end()

    upstream = Upstream(answer)
    scratch.port = next(iter(upstream.ports.values()))
    async with upstream.listening(), envoy_before(serve_at, envoy_binary, tmp_path, ports=upstream.ports) as at:
        answers = await asyncio.gather(*[ask(at.url) for _ in range(20)])
        assert {(each.status, each.body, each.headers["served-model-name"]) for each in answers} == {(200, BODY, "m")}
        await until(lambda: scratch.statuses == [200] * 20)
