"""Flow control behind a real Envoy: clients are held until the model server has room, and are told when they can't be."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from extproc.app import Service, build
from extproc.app.flow import FlowControl
from extproc.settings.commands import EppSettings
from tests.app.running import running, until
from tests.e2e.front import envoy_before
from tests.e2e.parts import call
from tests.fakes.serving import TransportName

pytestmark = [pytest.mark.e2e, pytest.mark.every_transport]

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m"}'
ROOM = 2


class ModelServer:
    """Serves at a pace, and knows how many it had at once."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.served = 0
        self.port = 0
        self.stuck: asyncio.Event | None = None
        """Until it is set nobody gets an answer."""

    async def chat(self, request: web.Request) -> web.Response:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await request.read()
            if self.stuck is None:
                await asyncio.sleep(0.01)
            else:
                await self.stuck.wait()
        finally:
            self.now -= 1
        self.served += 1
        return web.json_response({"usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    async def page(self, _: web.Request) -> web.Response:
        return web.Response(
            text=f'vllm:num_requests_waiting{{engine="0"}} 0.0\nvllm:num_requests_running{{engine="0"}} {self.now}.0\n'
        )


@contextlib.asynccontextmanager
async def front(
    binary: Path, directory: Path, transport: TransportName, ttl: str = "60s"
) -> AsyncIterator[tuple[str, ModelServer, Service]]:
    """Where Envoy listens, before a model server for `ROOM` requests at a time."""
    model = ModelServer()
    app = web.Application()
    app.add_routes([web.get("/metrics", model.page), web.post(CHAT, model.chat)])
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    model.port = runner.addresses[0][1]
    config = (
        "featureGates: [flowControl]\n"
        f"plugins: [{{type: queue-scorer}}, {{type: concurrency-detector, parameters: {{maxConcurrency: {ROOM}}}}}]\n"
        f"flowControl: {{defaultRequestTTL: {ttl}}}\n"
    )
    made: list[Service] = []

    def serve_at(port: int) -> contextlib.AbstractAsyncContextManager[object]:
        where = {"host": "127.0.0.1", "grpc_port": port, "grpc_health_port": 0, "metrics_port": 0}
        here = {"secure_serving": False, "transport": transport, "drain_timeout": "1s", "config_text": config}
        made.append(build(EppSettings(**where, **here, endpoints=(f"127.0.0.1:{model.port}",))))  # type: ignore[arg-type]
        return running(made[0])

    async with envoy_before(serve_at, binary, directory, ports={8101: model.port}) as at:
        await until(lambda: asyncio.sleep(0, made[0].unready() is None))
        yield at.url, model, made[0]
    await runner.cleanup()


def waiting(service: Service) -> int:
    flow = service.find(FlowControl)
    assert flow is not None
    return sum(len(gate.queues) for gate in flow.gates.values())


async def test_a_burst_reaches_the_model_server_at_its_pace(
    envoy_binary: Path, tmp_path: Path, transport: TransportName
) -> None:
    async with front(envoy_binary, tmp_path, transport) as (url, model, _):
        answers = await asyncio.gather(*[asyncio.to_thread(call, url, CHAT, BODY) for _ in range(30)])
        assert {each.status for each in answers} == {200}
        assert model.served == 30
        assert model.most <= ROOM


async def test_who_can_not_be_held_any_longer_is_told_and_who_left_is_not_served(
    envoy_binary: Path, tmp_path: Path, transport: TransportName
) -> None:
    async with front(envoy_binary, tmp_path, transport, "1s") as (url, model, service):
        model.stuck = asyncio.Event()
        served = [asyncio.create_task(asyncio.to_thread(call, url, CHAT, BODY)) for _ in range(ROOM)]
        await until(lambda: asyncio.sleep(0, model.now == ROOM))
        leaves = http.client.HTTPConnection(url.removeprefix("http://"))
        await asyncio.to_thread(leaves.request, "POST", CHAT, BODY, {"content-type": "application/json"})
        await until(lambda: asyncio.sleep(0, waiting(service) == 1))
        leaves.close()
        await until(lambda: asyncio.sleep(0, waiting(service) == 0))
        late = await asyncio.to_thread(call, url, CHAT, BODY)
        assert (late.status, late.json["error"]["code"]) == (429, "queue_timeout")
        assert late.headers["x-llm-d-request-dropped-reason"] == "rejected-ttl-expired"
        assert int(late.headers["retry-after"]) >= 1
        model.stuck.set()
        assert {each.status for each in await asyncio.gather(*served)} == {200}
        assert model.served == ROOM
