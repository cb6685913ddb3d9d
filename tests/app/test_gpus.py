"""A picker that goes by how busy GPUs are: the exporters' pages beside the model servers'."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from aiohttp import web

from extproc.app import Service, build
from extproc.app.checking.picker import check_picker
from extproc.settings.commands import EppSettings
from tests.app.running import chat, exchange, headers_of, pages_served, running, until
from tests.app.test_service import get

BODY = b'{"model": "m"}'


class Server:
    """A page, and how often it was read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.read = 0
        self.port = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.read += 1
        return web.Response(text=self.text)


def engine() -> Server:
    return Server("vllm:num_requests_waiting 0.0\nvllm:num_requests_running 0.0\nvllm:kv_cache_usage_perc 0.1\n")


def exporter(a: int, b: int) -> Server:
    return Server(f'DCGM_FI_DEV_GPU_UTIL{{gpu="0",pod="a"}} {a}\nDCGM_FI_DEV_GPU_UTIL{{gpu="1",pod="b"}} {b}\n')


def picker(directory: Path, engines: list[Server], gpus: Server, scorer: str) -> Service:
    """Both endpoints have the exporter at their address, as pods of one node have."""
    ports = {f"{name}-rank-0": str(each.port) for name, each in zip("ab", engines, strict=True)}
    listed = [{"name": name, "address": "127.0.0.1", "port": port} for name, port in ports.items()]
    (directory / "pool.yaml").write_bytes(orjson.dumps({"endpoints": listed}))
    config: dict[str, Any] = {
        "plugins": [
            {"type": "file-discovery", "parameters": {"path": str(directory / "pool.yaml")}},
            {"type": "dcgm-data-source", "name": "gpus", "parameters": {"port": gpus.port}},
            {"type": "dcgm-extractor"},
            {"type": scorer, "parameters": {"attributeKey": "GPUUtilization", "algorithm": {"type": "linear_lower_is_better"}}}
            if scorer == "endpoint-attribute-scorer"
            else {"type": scorer},
        ],
        "dataLayer": {
            "discovery": {"pluginRef": "file-discovery"},
            "sources": [{"pluginRef": "gpus", "interval": "50ms", "extractors": [{"pluginRef": "dcgm-extractor"}]}],
        },
    }
    here: dict[str, Any] = {"host": "127.0.0.1", "grpc_port": 0, "grpc_health_port": 0, "metrics_port": 0}
    return build(EppSettings(**here, secure_serving=False, config_text=orjson.dumps(config).decode()))


async def shown(port: int) -> list[Any]:
    """What the admin page says of each endpoint's GPUs."""
    _, text = await get(port, "/debug/endpoints")
    return [each["signals"]["attributes"]["value"] for pool in orjson.loads(text)["pools"] for each in pool["endpoints"]]


async def test_the_less_busy_gpu_is_picked_and_a_lost_exporter_costs_nothing(tmp_path: Path) -> None:
    engines, gpus = [engine(), engine()], exporter(90, 20)
    async with pages_served(*engines, gpus), running(picker(tmp_path, engines, gpus, "endpoint-attribute-scorer")) as ports:
        await until(lambda: _all(ports.metrics, {"GPUUtilization": 0.9}, {"GPUUtilization": 0.2}))
        for _ in range(5):
            answers = await exchange(ports.grpc, chat(BODY))
            assert headers_of(answers[0])["x-gateway-destination-endpoint"] == f"127.0.0.1:{engines[1].port}"
        gpus.text = exporter(10, 20).text
        await until(lambda: _all(ports.metrics, {"GPUUtilization": 0.1}, {"GPUUtilization": 0.2}))
        answers = await exchange(ports.grpc, chat(BODY))
        assert headers_of(answers[0])["x-gateway-destination-endpoint"] == f"127.0.0.1:{engines[0].port}"
        gpus.text = "nothing of GPUs 1\n"
        before = gpus.read
        await until(lambda: asyncio.sleep(0, gpus.read > before))
        assert (await exchange(ports.grpc, chat(BODY)))[0].HasField("request_headers")
        _, page = await get(ports.metrics, "/metrics")
        assert "extproc_gpu_scrapes_total{name=" in page
        await until(lambda: _counts(ports.metrics, "extproc_gpu_scrape_errors_total"))
        await until(lambda: _counts(ports.metrics, 'source_type="dcgm-data-source"'))


async def test_what_nobody_reads_is_not_scraped(tmp_path: Path) -> None:
    engines, gpus = [engine(), engine()], exporter(90, 20)
    async with pages_served(*engines, gpus), running(picker(tmp_path, engines, gpus, "queue-scorer")) as ports:
        assert (await exchange(ports.grpc, chat(BODY)))[0].HasField("request_headers")
        seen = engines[0].read + 5
        await until(lambda: asyncio.sleep(0, engines[0].read >= seen))
        assert gpus.read == 0


async def _all(port: int, *wanted: dict[str, float]) -> bool:
    return await shown(port) == list(wanted)


async def _counts(port: int, what: str) -> bool:
    _, page = await get(port, "/metrics")
    return any(line.split()[-1] not in ("0.0", "0") for line in page.splitlines() if what in line and not line.startswith("#"))


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        ("[{type: dcgm-data-source}, {type: dcgm-extractor}]", "nothing reads the attribute 'GPUUtilization'"),
        (
            "[{type: endpoint-attribute-scorer, parameters: {attributeKey: GPUUtilization, algorithm: {type: "
            "linear_lower_is_better}}}]",
            "no dcgm-data-source gives the attribute 'GPUUtilization'",
        ),
    ],
)
def test_half_of_it_is_told(plugins: str, said: str) -> None:
    assert any(said in warning for warning in check_picker({"plugins": yaml.safe_load(plugins)}).warnings)
