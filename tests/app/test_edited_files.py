"""Files that are edited under a server that serves: what is good is taken, and nothing else does anything to it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs
from structlog.types import EventDict

from extproc.app import Ports, Service, build
from extproc.files import watch
from extproc.settings.commands import BbrSettings, GatewaySettings
from tests.app.running import chat, exchange, headers_of, running, until

HERE: dict[str, Any] = {
    "host": "127.0.0.1",
    "grpc_port": 0,
    "grpc_health_port": 0,
    "metrics_port": 0,
    "drain_timeout": "1s",
    "secure_serving": False,
}

GATEWAY = """\
apiVersion: extproc.dev/v1alpha1
kind: Gateway
pools:
- name: llama
  endpoints: {static: ["127.0.0.1:1"]}
routes:
- models: [llama]
  pool: llama
adaptersFile: adapters.yaml
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than by default."""
    defaults = dict(watch.FileWatcher.__init__.__kwdefaults__ or {})
    monkeypatch.setattr(watch.FileWatcher.__init__, "__kwdefaults__", {**defaults, "interval_s": 0.01, "settle_s": 0.02})


class Router:
    """A running server and the adapters file that it watches."""

    def __init__(self, service: Service, ports: Ports, adapters: Path, logs: list[EventDict]) -> None:
        self.service = service
        self.adapters = adapters
        self.logs = logs
        self._port = ports.grpc
        self._metrics = ports.metrics

    async def headers(self, model: str) -> dict[str, str]:
        answers = await exchange(self._port, chat(json.dumps({"model": model}).encode()))
        return headers_of(answers[0])

    async def base_of(self, model: str) -> str:
        return (await self.headers(model))["x-gateway-base-model-name"]

    async def says(self, model: str, base: str) -> None:
        async def holds() -> bool:
            return await self.base_of(model) == base

        await until(holds)

    async def broken(self, path: Path) -> bool:
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{self._metrics}/metrics") as answer:
            return f'extproc_file_errors{{file="{path}"}} 1.0' in await answer.text()

    async def says_broken(self, path: Path) -> None:
        async def holds() -> bool:
            return await self.broken(path)

        await until(holds)


@contextlib.asynccontextmanager
async def router(folder: Path) -> AsyncIterator[Router]:
    adapters = folder / "adapters.yaml"
    adapters.write_text("llama: [a]\n")
    service = build(BbrSettings(**HERE, adapters_file=str(adapters)))
    with capture_logs() as logs:
        async with running(service) as ports:
            yield Router(service, ports, adapters, logs)


async def test_an_adapters_file_that_is_written_in_place(tmp_path: Path) -> None:
    """Emptied, half written, whole: the router knows the old adapters until it knows the new ones."""
    async with router(tmp_path) as it:
        for part in ("", "llama: [a]\nphi", "llama: [a]\nphi: [b", "llama: [a]\nphi: [b]\n"):
            it.adapters.write_text(part)  # the same file, cut to nothing and written again
            assert await it.base_of("a") == "llama"
        await it.says("b", "phi")

        assert await it.base_of("a") == "llama"


async def test_an_empty_file_is_a_problem_and_an_empty_map_is_none(tmp_path: Path) -> None:
    async with router(tmp_path) as it:
        it.adapters.write_text("")
        await it.says_broken(it.adapters)
        assert await it.base_of("a") == "llama"
        it.adapters.write_text("{}\n")
        await it.says("a", "")

        assert not await it.broken(it.adapters)
        (broken,) = [entry for entry in it.logs if entry["event"].startswith("watched file is broken")]
        assert broken["problems"] == [f"{it.adapters}: there is nothing in it; to have no adapters, write {{}}"]


def bomb() -> str:
    lines = ["a: &a [" + ", ".join(["lol"] * 9) + "]"]
    lines += [f"{chr(98 + i)}: &{chr(98 + i)} [" + ", ".join([f"*{chr(97 + i)}"] * 9) + "]" for i in range(8)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "what", ["bomb", "huge", "many problems", "long values", "pipe", "device", "directory", "loop", "gone"]
)
async def test_what_a_file_may_become(tmp_path: Path, what: str) -> None:
    """A line in the log, of a length that a log can take; the adapters stay, picks go on, and it heals."""
    async with router(tmp_path) as it:
        texts = {
            "bomb": bomb(),
            "huge": "llama: [a]\n" + "# " * 2**20,
            "many problems": "llama: [" + "[x], " * 20_000 + "]\n",
            "long values": "llama: {" + "x" * 900_000 + ": y}\n",
        }
        fresh = tmp_path / "fresh"
        if what in texts:
            it.adapters.write_text(texts[what])
        elif what == "pipe":
            os.mkfifo(fresh)
            fresh.rename(it.adapters)
        else:
            it.adapters.unlink()
            if what == "device":
                it.adapters.symlink_to("/dev/zero")
            elif what == "directory":
                it.adapters.mkdir()
            elif what == "loop":
                it.adapters.symlink_to(it.adapters)
        await it.says_broken(it.adapters)

        assert await it.base_of("a") == "llama"
        (broken,) = [entry for entry in it.logs if entry["event"].startswith("watched file is broken")]
        assert len(json.dumps(broken)) < 4_000
        if what == "directory":
            it.adapters.rmdir()
        fresh.write_text("llama: [b]\n")
        fresh.rename(it.adapters)
        await it.says("b", "llama")
        assert not await it.broken(it.adapters)


async def test_a_mounted_config_map_is_swapped(tmp_path: Path) -> None:
    """As the kubelet does it: file → ..data/file, ..data → ..<time>."""
    for version, text in (("1", "llama: [a]\n"), ("2", "llama: [b]\n")):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "adapters.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    mounted = tmp_path / "mounted.yaml"
    mounted.symlink_to("..data/adapters.yaml")
    service = build(BbrSettings(**HERE, adapters_file=str(mounted)))
    with capture_logs() as logs:
        async with running(service) as ports:
            it = Router(service, ports, mounted, logs)
            await it.says("a", "llama")
            (tmp_path / "..tmp").symlink_to("..2")
            (tmp_path / "..tmp").rename(tmp_path / "..data")
            await it.says("b", "llama")

            assert await it.base_of("a") == ""


async def test_a_gateways_config_is_edited_in_place(tmp_path: Path) -> None:
    """It is read at start only: nothing changes, and the log says that a restart is needed, or that one would fail."""
    config = tmp_path / "gateway.yaml"
    config.write_text(GATEWAY)
    (tmp_path / "adapters.yaml").write_text("llama: [a]\n")
    service = build(GatewaySettings(**HERE, config_file=str(config)))
    with capture_logs() as logs:
        async with running(service) as ports:
            it = Router(service, ports, tmp_path / "adapters.yaml", logs)

            async def said(event: str) -> None:
                async def holds() -> bool:
                    return any(entry["event"].startswith(event) for entry in logs)

                await until(holds)
                logs.clear()
                assert (await it.headers("llama"))["x-gateway-model-name"] == "llama"

            await said("ready")
            config.write_text(GATEWAY.replace("models: [llama]", "models: [other]"))
            await said("config file has changed")
            config.write_text(GATEWAY + "routes: []\n")
            await said("watched file is broken")
            assert await it.broken(config)
            config.write_text(GATEWAY)
            await said("config file is again the one in force")
            config.unlink()
            await said("watched file is broken")
            config.write_text(GATEWAY)
            await said("watched file is good again")
            assert not await it.broken(config)
