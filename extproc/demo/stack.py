"""The parts of the demo: model servers, gateway, Envoy; started in that order and stopped in the other."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import yaml

from extproc.demo.envoy import envoy_child
from extproc.demo.errors import DemoError
from extproc.demo.ports import is_free, usual_or_free
from extproc.demo.processes import Child
from extproc.settings.base import SettingsError
from extproc.settings.sim import SimSettings
from extproc.simulator.server import Simulator

ENVOY, ENVOY_ADMIN, GRPC, HEALTH, METRICS, API = 10000, 9901, 9002, 9003, 9090, 9080
ENVOY_CONFIG: Final = "serving-endpoints.yaml"
_START_S: Final = 20.0
_POLL_S: Final = 0.02


@dataclass(frozen=True)
class PoolPlan:
    """A pool of the demo, on its usual ports."""

    name: str
    model: str
    ports: tuple[int, ...]


LLAMA: Final = PoolPlan("llama", "meta-llama/Llama-3.1-8B-Instruct", (8101, 8102, 8103))
PHI4: Final = PoolPlan("phi4", "microsoft/Phi-4-mini-instruct", (8201, 8202, 8203))
POOLS: Final = (LLAMA, PHI4)

_USUAL: Final = (ENVOY, ENVOY_ADMIN, GRPC, HEALTH, METRICS, API, *LLAMA.ports, *PHI4.ports)


def gateway_config(ports: Mapping[int, int]) -> dict[str, Any]:
    """The gateway's config. Two endpoints are named for each request, so that Envoy has one to fall back to."""
    return {
        "apiVersion": "extproc.dev/v1alpha1",
        "kind": "Gateway",
        "pools": [
            {"name": pool.name, "endpoints": {"static": [f"127.0.0.1:{ports[port]}" for port in pool.ports]}} for pool in POOLS
        ],
        "routes": [{"models": [pool.model], "pool": pool.name} for pool in POOLS],
        "scheduling": {
            "plugins": [
                {"type": "queue-scorer"},
                {"type": "kv-cache-utilization-scorer"},
                {"type": "active-request-scorer"},
                {"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": 2}},
            ],
            "schedulingProfiles": [
                {
                    "name": "default",
                    "plugins": [
                        {"pluginRef": "queue-scorer", "weight": 2},
                        {"pluginRef": "kv-cache-utilization-scorer", "weight": 2},
                        {"pluginRef": "active-request-scorer", "weight": 1},
                        {"pluginRef": "max-score-picker"},
                    ],
                }
            ],
        },
    }


class Stack:
    """Everything that runs. `async with` starts and stops it; nothing stays behind, whatever happens."""

    def __init__(self, envoy: Path, directory: Path, *, port: int | None = None) -> None:
        self.ports = _ports(port)
        self.sims: dict[str, Simulator] = {}
        self.directory = directory
        config = directory / "gateway.yaml"
        config.write_text(yaml.safe_dump(gateway_config(self.ports), sort_keys=False), encoding="utf-8")
        arguments = ["--config-file", str(config), "--host", "127.0.0.1"]
        for flag, usual in (("grpc-port", GRPC), ("grpc-health-port", HEALTH), ("metrics-port", METRICS), ("api-port", API)):
            arguments += [f"--{flag}", str(self.ports[usual])]
        arguments += ["--measures-window", "2m"]  # kept second by second, so that a rollout's measures are its own
        arguments += ["--audit-dir", str(directory / "audit")]  # so that the page has changes and older decisions to show
        self.gateway = Child("gateway", [sys.executable, "-m", "extproc", "gateway", *arguments], directory)
        self.gateway_command = shlex.join(["extproc", "gateway", *arguments])
        self.envoy = envoy_child(envoy, ENVOY_CONFIG, self.ports, directory)

    @property
    def url(self) -> str:
        """Where clients go."""
        return f"http://127.0.0.1:{self.ports[ENVOY]}"

    @property
    def pages(self) -> str:
        """The gateway's own pages."""
        return f"http://127.0.0.1:{self.ports[METRICS]}"

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def stop_endpoint(self, name: str) -> None:
        """Stop a model server in the middle of what it does."""
        await self.sims[name].stop()

    async def replace_endpoint(self, name: str, *, first_token_s: float = 0.0) -> None:
        """Start a model server where a stopped one was, as a restarted pod: nothing of its past is left. `first_token_s`: least
        time to the first token."""
        settings = self.sims[name].settings.model_copy(update={"time_to_first_token": first_token_s})
        await self._start_sim(name, settings)

    def names(self, pool: PoolPlan) -> list[str]:
        """Of a pool's model servers."""
        return [name for name, sim in self.sims.items() if sim.settings.model[0] == pool.model]

    async def _start(self) -> None:
        self.gateway.start()  # first, because Python takes longest to load; it waits for its endpoints
        for pool in POOLS:
            for number, port in enumerate(pool.ports, start=1):
                name = f"{pool.name}-{number}"
                settings = SimSettings(name=name, model=(pool.model,), port=self.ports[port], output_tokens=24)
                await self._start_sim(name, settings)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            await self._wait(http, f"{self.pages}/readyz", self.gateway)
            self.envoy.start()
            await self._wait(http, f"http://127.0.0.1:{self.ports[ENVOY_ADMIN]}/ready", self.envoy)

    async def _start_sim(self, name: str, settings: SimSettings) -> None:
        sim = Simulator(settings)
        try:
            await sim.start()
        except OSError as error:
            raise DemoError(f"{name} can't listen on port {settings.port}: {error.strerror or error}") from None
        self.sims[name] = sim

    async def _wait(self, http: aiohttp.ClientSession, url: str, child: Child) -> None:
        deadline_s = time.monotonic() + _START_S
        while True:
            child.check()
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(url) as response:
                    if response.status == 200:
                        return
            if time.monotonic() > deadline_s:
                raise DemoError(f"{child.name} was not ready after {_START_S:.0f} s\n{child.tail()}")
            await asyncio.sleep(_POLL_S)

    async def _stop(self) -> None:
        self.envoy.stop()  # first: its streams end, and the gateway has nothing to drain
        self.gateway.stop()
        for sim in self.sims.values():
            await sim.stop()


def _ports(port: int | None) -> dict[int, int]:
    ports = usual_or_free(_USUAL)
    if port:
        if not is_free(port):
            raise SettingsError([f"--port: {port} is in use"])
        ports[ENVOY] = port
        others = [usual for usual in _USUAL if usual != ENVOY]
        clashing = [usual for usual in others if ports[usual] == port]
        if clashing:
            raise SettingsError([f"--port: {port} is taken by another part of the demo"])
    return ports
