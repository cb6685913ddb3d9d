"""Signals: by themselves, and to a real process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from extproc.app.signals import Signals
from tests.app.processes import limited
from tests.fakes.certificates import Authority, common_name, trusting


class Calls:
    def __init__(self) -> None:
        self.made: list[str] = []
        self.files: list[str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.signals = Signals(
            stop=lambda: self.made.append("stop"), abort=lambda: self.made.append("abort"), reload=self.reload
        )

    async def reload(self) -> list[str]:
        self.made.append("reload")
        await self.go_on.wait()
        return self.files


async def settled() -> None:
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


async def test_the_second_stop_is_at_once() -> None:
    calls = Calls()
    calls.signals.told_to_stop()
    assert calls.made == ["stop"]
    calls.signals.told_to_stop()
    assert calls.made[:2] == ["stop", "abort"]


async def test_one_reload_at_a_time() -> None:
    calls = Calls()
    calls.go_on.clear()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            calls.signals.told_to_reload()
            await asyncio.sleep(0)
        assert calls.made == ["reload"]
        calls.go_on.set()
        await settled()
        calls.files = ["/tls.crt"]
        calls.signals.told_to_reload()
        await settled()
    assert [line["event"] for line in logs] == ["SIGHUP does nothing here", "SIGHUP: looked at the TLS files"]
    assert logs[1]["files"] == ["/tls.crt"]


async def test_a_reload_that_fails_is_said_and_the_next_one_works() -> None:
    calls = Calls()

    async def fail() -> list[str]:
        raise RuntimeError("the disk is gone")

    signals = Signals(stop=lambda: None, abort=lambda: None, reload=fail)
    with structlog.testing.capture_logs() as logs:
        signals.told_to_reload()
        await settled()
        signals.told_to_reload()
        await settled()
    assert [line["event"] for line in logs] == ["SIGHUP: could not reload"] * 2
    assert calls.made == []


class Process:
    """A server, and its log as it comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self, *beginnings: str) -> dict[str, Any]:
        """The next line whose message begins so."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            while text := await self.process.stderr.readline():
                line: dict[str, Any] = json.loads(text)
                if line["msg"].startswith(beginnings):
                    return line
        raise AssertionError(f"it ended with {await self.process.wait()} before {beginnings}")

    async def healthy(self, port: int) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return b" 200 " in answer.split(b"\r\n")[0]


@pytest.fixture
async def processes() -> AsyncIterator[list[asyncio.subprocess.Process]]:
    started: list[asyncio.subprocess.Process] = []
    yield started
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def start(
    processes: list[asyncio.subprocess.Process], *flags: str, inside: Sequence[str] = ()
) -> tuple[Process, dict[str, Any]]:
    """The process, and what it said when it had started; it is ready then."""
    ports = ("--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0", "--host=127.0.0.1", "--drain-timeout=1s")
    command = (*inside, sys.executable, "-m", "extproc", "bbr", *ports, *flags)
    processes.append(await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE))
    process = Process(processes[-1])
    started = await process.line("started")
    await process.line("ready")
    return process, started


async def test_no_signal_but_a_stop_ends_a_server(processes: list[asyncio.subprocess.Process]) -> None:
    process, started = await start(processes)
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        process.process.send_signal(number)
        assert "does nothing" in (await process.line(number.name))["msg"]
        assert await process.healthy(started["metrics"])
    process.process.send_signal(signal.SIGTERM)
    await process.line("draining")
    await process.line("stopped")
    assert await process.process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stops_that_come_when_all_is_done_change_nothing(
    processes: list[asyncio.subprocess.Process], number: signal.Signals
) -> None:
    """From the last line on, until there is no process: the exit code is of the drain that was whole."""
    process, _ = await start(processes)
    process.process.send_signal(signal.SIGTERM)
    await process.line("stopped")
    ended = asyncio.create_task(process.process.wait())
    while not ended.done():
        # Not by the process's own `send_signal`, which may take its exit code from the one who waits for it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.process.pid, number)
        await asyncio.sleep(0.001)
    assert await ended == 0


async def test_as_many_files_as_the_system_allows(processes: list[asyncio.subprocess.Process]) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = min(hard, 2048)
    _, started = await start(processes, inside=limited(f"-Sn 256; ulimit -Hn {most}"))
    assert started["open_files"] == most


async def test_hup_while_it_drains_does_not_cut_the_drain_short(processes: list[asyncio.subprocess.Process]) -> None:
    process, _ = await start(processes, "--shutdown-delay=300ms")
    process.process.send_signal(signal.SIGTERM)
    await process.line("draining")
    process.process.send_signal(signal.SIGHUP)
    await process.line("SIGHUP")
    await process.line("stopped")
    assert await process.process.wait() == 0


async def test_hup_takes_a_new_certificate_that_nobody_watches(
    processes: list[asyncio.subprocess.Process], tmp_path: Path
) -> None:
    authority = Authority()
    folder = authority.issue("one").write(tmp_path)
    process, started = await start(processes, f"--cert-path={folder}")

    async def name() -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", started["grpc"], ssl=trusting())
        served = common_name(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        writer.transport.abort()
        return served

    assert await name() == "one"
    authority.issue("two").write(folder)
    process.process.send_signal(signal.SIGHUP)
    assert (await process.line("TLS files changed"))["subject"] == "CN=two"
    assert (await process.line("SIGHUP"))["files"] == [f"{folder}/tls.crt", f"{folder}/tls.key"]
    assert await name() == "two"
