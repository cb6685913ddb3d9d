"""The comparison with real parts: six `extproc sim`, `extproc epp` and Envoy, each a process, new for each run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from extproc.demo.envoy import find_envoy
from extproc.demo.ports import free_ports
from extproc.demo.processes import Child
from tests.evaluation.client import Client, session
from tests.evaluation.envoy import assignment, bootstrap
from tests.evaluation.measured import Measured
from tests.evaluation.policies import LOAD, Policy
from tests.evaluation.scenarios import ENGINE, SERVERS, Scenario
from tests.evaluation.workload import MODEL

_START_S: Final = 60.0
_LOOK_S: Final = 0.02
_WARM_S: Final = 0.5
"""For the picker to have read every page."""


def picker_config(policy: Policy, endpoints: Path) -> str:
    """The policy's config, with the pool from a file that is watched."""
    config: dict[str, Any] = yaml.safe_load(policy.config)
    config["plugins"].append({"type": "file-discovery", "parameters": {"path": str(endpoints), "watchFile": True}})
    config["dataLayer"] = {"discovery": {"pluginRef": "file-discovery"}}
    return yaml.safe_dump(config, sort_keys=False)


class Servers:
    """The simulated model servers."""

    def __init__(self, scenario: Scenario, directory: Path, ports: list[int]) -> None:
        self.ports = ports
        self.children = [_sim(number, port, scenario, directory) for number, port in enumerate(ports, start=1)]
        self.hits = self.queries = 0.0
        """Of processes that were killed, and in the end of all."""

    async def count(self, http: aiohttp.ClientSession, number: int) -> None:
        """Add what this one found in its cache until now."""
        base = f"http://127.0.0.1:{self.ports[number]}"
        async with http.delete(f"{base}/sim/faults"):
            pass
        async with http.get(f"{base}/metrics") as response:
            page = await response.text()
        self.hits += prefix_counter(page, "hits")
        self.queries += prefix_counter(page, "queries")

    async def restart(self, http: aiohttp.ClientSession, number: int) -> None:
        """Kill it in the middle of what it does, and start it anew."""
        await self.count(http, number)
        self.children[number].kill()
        self.children[number].start()

    async def hang_pages(self, http: aiohttp.ClientSession) -> None:
        """From now on."""
        for port in self.ports:
            async with http.post(
                f"http://127.0.0.1:{port}/sim/faults", json={"target": "metrics", "fault": "hang"}
            ) as response:
                assert response.status == 200


def _sim(number: int, port: int, scenario: Scenario, directory: Path) -> Child:
    factor = scenario.slower if number == 1 else 1.0
    flags = {
        "name": f"server-{number}",
        "port": port,
        "model": MODEL,
        "block-size": ENGINE.block_size,
        "num-gpu-blocks": ENGINE.num_blocks,
        "max-model-len": ENGINE.max_model_len,
        "prefill-tokens-per-second": ENGINE.prefill_tokens_per_s / factor,
        "decode-step": f"{ENGINE.step_s * factor * 1e3:g}ms",
        "decode-step-per-sequence": f"{ENGINE.step_per_sequence_s * factor * 1e6:g}us",
    }
    arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    return Child(f"server-{number}", [sys.executable, "-m", "extproc", "sim", *arguments], directory)


def prefix_counter(page: str, what: str) -> float:
    """`hits` or `queries`, in tokens."""
    found = re.search(rf"^vllm:prefix_cache_{what}_total\{{[^}}]*\}} (\S+)$", page, re.MULTILINE)
    assert found is not None
    return float(found[1])


class Stack:
    """All that runs for one policy in one scenario."""

    def __init__(self, policy: Policy, scenario: Scenario, directory: Path) -> None:
        grpc, self.metrics, listener, self.admin, *ports = free_ports(4 + SERVERS)
        self.scenario = scenario
        self.servers = Servers(scenario, directory, ports)
        self.url = f"http://127.0.0.1:{listener}"
        self._pool, self._assignment = directory / "pool.yaml", directory / "eds.json"
        self.members(SERVERS if scenario.joins_at_s is None else SERVERS - 1)
        (directory / "picker.yaml").write_text(picker_config(policy if policy.config else LOAD, self._pool))
        pages = scenario.pages
        self.picker = Child(
            "picker",
            [
                *(sys.executable, "-m", "extproc", "epp", "--config-file", str(directory / "picker.yaml")),
                *("--host", "127.0.0.1", "--grpc-port", str(grpc), "--metrics-port", str(self.metrics)),
                *("--grpc-health-port", "0", "--secure-serving=false"),
                *("--refresh-metrics-interval", f"{pages.interval_s:g}s"),
                *("--metrics-staleness-threshold", f"{pages.stale_after_s:g}s"),
            ],
            directory,
        )
        config = bootstrap(listener, self.admin, self._assignment, grpc if policy.config else None, obeyed=policy.obeyed)
        (directory / "envoy.json").write_text(json.dumps(config))
        self.envoy = Child(
            "envoy",
            [
                *(str(find_envoy()), "--config-path", str(directory / "envoy.json")),
                *("--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"),
            ],
            directory,
        )

    def members(self, number: int) -> None:
        """The pool is the first so many servers: told to the picker and to Envoy."""
        ports = self.servers.ports[:number]
        pool = {"endpoints": [{"name": f"s{port}", "address": "127.0.0.1", "port": port} for port in ports]}
        for path, text in ((self._pool, yaml.safe_dump(pool)), (self._assignment, assignment(ports))):
            new = path.with_suffix(".new")
            new.write_text(text)
            os.replace(new, path)

    def start(self) -> None:
        for child in self._children:
            child.start()

    def stop(self) -> None:
        for child in reversed(self._children):
            child.kill()

    async def ready(self, http: aiohttp.ClientSession) -> None:
        """All of them. Raises DemoError when one has stopped, TimeoutError when it takes too long."""
        looks = [
            (f"http://127.0.0.1:{port}/health", child)
            for port, child in zip(self.servers.ports, self.servers.children, strict=True)
        ]
        looks.append((f"http://127.0.0.1:{self.metrics}/readyz", self.picker))
        looks.append((f"http://127.0.0.1:{self.admin}/ready", self.envoy))
        async with asyncio.timeout(_START_S):
            for url, child in looks:
                await _answers(http, url, child)
        await asyncio.sleep(_WARM_S)

    @property
    def _children(self) -> list[Child]:
        return [*self.servers.children, self.picker, self.envoy]

    async def happen(self, http: aiohttp.ClientSession) -> None:
        """What the scenario does to the servers, from when the load begins."""
        scenario = self.scenario
        if scenario.joins_at_s is not None:
            await asyncio.sleep(scenario.joins_at_s)
            self.members(SERVERS)
        if scenario.restart_at_s is not None:
            await asyncio.sleep(scenario.restart_at_s)
            await asyncio.gather(*(self.servers.restart(http, number) for number in range(SERVERS // 2)))
        if scenario.pages.hang_at_s is not None:
            await asyncio.sleep(scenario.pages.hang_at_s)
            await self.servers.hang_pages(http)


async def _answers(http: aiohttp.ClientSession, url: str, child: Child) -> None:
    while True:
        child.check()
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(url) as response:
                if response.status == 200:
                    return
        await asyncio.sleep(_LOOK_S)


@contextlib.asynccontextmanager
async def _running(policy: Policy, scenario: Scenario, http: aiohttp.ClientSession) -> AsyncIterator[Stack]:
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(policy, scenario, Path(folder))
        try:
            stack.start()
            await stack.ready(http)
            yield stack
        finally:
            stack.stop()


async def evaluate(policy: Policy, scenario: Scenario, seed: int) -> Measured:
    """With real parts."""
    async with session() as http, _running(policy, scenario, http) as stack:
        client = Client(http, stack.url)
        async with asyncio.TaskGroup() as group:
            group.create_task(stack.happen(http))
            group.create_task(client.run(scenario.workload(seed)))
        for number, (port, child) in enumerate(zip(stack.servers.ports, stack.servers.children, strict=True)):
            await _answers(http, f"http://127.0.0.1:{port}/health", child)
            await stack.servers.count(http, number)
        names = [child.name for child in stack.servers.children]
        by_server = [client.by_server[name] for name in names]
        return Measured(client.ttft_s, stack.servers.hits, stack.servers.queries, client.failed, by_server)
