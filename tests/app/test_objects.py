"""What a pool's objects say, in whole services."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from extproc.app import build
from extproc.settings.commands import EppSettings, GatewaySettings
from extproc.traffic import ModelRewrite, ObjectiveTable, RewriteRule, RewriteTable, RewriteTarget
from tests.app.running import chat, exchange, pool_of, running, until

SATURATION = "inference_extension_flow_control_pool_saturation"
BATCH = {"x-llm-d-inference-objective": "batch"}


class Server:
    """A model server's metrics page."""

    def __init__(self) -> None:
        self.waiting = 0
        self.address = ""

    async def page(self, _: web.Request) -> web.Response:
        return web.Response(text=f'vllm:num_requests_waiting{{engine="0"}} {self.waiting}.0\n')


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found, app = Server(), web.Application()
    app.add_routes([web.get("/metrics", found.page)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.address = f"127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


class Pages:
    """A service's pages."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    async def get(self, path: str) -> str:
        async with self._session.get(self._url + path) as answer:
            return await answer.text()

    async def ready(self) -> bool:
        return await self.get("/readyz") == "ok\n"

    async def full(self) -> bool:
        page = await self.get(f"/metrics?name[]={SATURATION}")
        return any(line.startswith(SATURATION) and float(line.split()[1]) == 10 for line in page.splitlines())

    async def explain(self, model: str) -> Any:
        asked = {"body": {"model": model}, "headers": BATCH}
        async with self._session.post(self._url + "/debug/explain", json=asked) as told:
            return await told.json()


@pytest.mark.parametrize("command", ["epp", "gateway"])
async def test_rewrites_and_objectives(server: Server, transport: str, tmp_path: Path, command: str) -> None:
    common: dict[str, Any] = dict.fromkeys(("grpc_port", "grpc_health_port", "metrics_port"), 0)
    common |= {"host": "127.0.0.1", "drain_timeout": "1s", "secure_serving": False, "transport": transport}
    if command == "gateway":
        config = tmp_path / "gateway.yaml"
        config.write_text(
            "apiVersion: extproc.dev/v1alpha1\nkind: Gateway\nroutes: [{models: [alias], pool: p}]\n"
            f"pools: [{{name: p, endpoints: {{static: ['{server.address}']}}}}]\n"
        )
        service = build(GatewaySettings(config_file=str(config), **common))
    else:
        service = build(EppSettings(endpoints=(server.address,), **common))
    traffic = pool_of(service).tables
    traffic.objectives.replace(ObjectiveTable({"batch": -1}))
    traffic.rewrites.replace(RewriteTable([ModelRewrite("ns/r", 0.0, (RewriteRule(("alias",), (RewriteTarget("served"),)),))]))
    asking = chat(b'{"model": "alias"}', **BATCH)
    async with running(service) as ports, aiohttp.ClientSession() as session:
        pages = Pages(session, ports.metrics)
        await until(pages.ready)
        _, body = await exchange(ports.grpc, asking)
        assert body.request_body.response.body_mutation.streamed_response.body == b'{"model": "served"}'
        (decision,) = json.loads(await pages.get("/debug/decisions"))["decisions"]
        assert (decision["model"], decision["target_model"], decision["priority"]) == ("alias", "served", -1)
        server.waiting = 50
        await until(pages.full)
        await asyncio.sleep(0.02)  # what was asked before the page came is believed for 10 ms
        (answer,) = await exchange(ports.grpc, asking)
        assert answer.immediate_response.status.code == 429
        told = await pages.explain("alias")
        assert told["RewriteModel"] == {"target_model": "served", "rewrite": "ns/r", "targets": {"served": 1.0}}
        assert told["error"]["code"] == "pool_saturated"
