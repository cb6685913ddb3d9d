"""A real server whose standard error is a full pipe that nobody reads: everything else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from extproc.demo.ports import free_ports
from tests.app.running import chat, exchange, headers_of, until
from tests.app.test_service import get

ENDPOINT = "127.0.0.1:9"


class Server(NamedTuple):
    process: subprocess.Popen[bytes]
    grpc: int
    metrics: int
    log: int
    """The reading end of its standard error."""


def started(command: list[str], log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)


@contextlib.asynccontextmanager
async def serving(*, full: bool) -> AsyncIterator[Server]:
    """A picker; with `full` its log can't take a byte from the beginning."""
    reading, writing = os.pipe()
    if full:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"." * 4096)
        os.set_blocking(writing, True)
    grpc, health, metrics = free_ports(3)
    ports = [f"--grpc-port={grpc}", f"--grpc-health-port={health}", f"--metrics-port={metrics}", "--host=127.0.0.1"]
    command = [sys.executable, "-m", "extproc", "epp", f"--endpoints={ENDPOINT}", "--secure-serving=false", *ports]
    process = started(command, writing)
    os.close(writing)
    try:
        await until(lambda: answers(metrics), 20)
        yield Server(process, grpc, metrics, reading)
    finally:
        process.kill()
        process.wait()
        os.close(reading)


async def answers(port: int) -> bool:
    try:
        return (await get(port, "/readyz"))[0] == 200
    except OSError:
        return False


async def pick(server: Server) -> None:
    answered = await exchange(server.grpc, chat(b'{"model": "m"}'))
    assert headers_of(answered[0])["x-gateway-destination-endpoint"] == ENDPOINT


async def break_the_protocol(server: Server) -> None:
    """Be a peer that gets a connection ended, which is worth a line."""
    with contextlib.suppress(ConnectionError):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.grpc)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()


async def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", (await get(server.metrics, "/metrics"))[1], re.M)
    assert found
    return float(found[1])


async def ended(process: subprocess.Popen[bytes]) -> int:
    await until(lambda: asyncio.sleep(0, process.poll() is not None), 10)
    return process.returncode


async def test_nobody_reads() -> None:
    """Picks and pages go on, a drain too, and lines are counted that were lost."""
    async with serving(full=True) as server:
        await pick(server)
        assert (await get(server.metrics, "/healthz"))[0] == 200
        for _ in range(20):
            await break_the_protocol(server)
        await pick(server)
        assert await metric(server, "extproc_log_lines_suppressed_total") >= 10
        server.process.send_signal(signal.SIGTERM)
        assert await ended(server.process) == 0


async def test_what_is_written_at_the_end_is_read() -> None:
    async with serving(full=False) as server:
        for _ in range(20):
            await break_the_protocol(server)
        server.process.send_signal(signal.SIGTERM)
        assert await ended(server.process) == 0
        lines = [json.loads(line) for line in os.read(server.log, 2**16).splitlines()]
    said = [line["msg"] for line in lines]
    assert said[-1] == "stopped"
    assert 1 <= said.count("connection ended") <= 7


@pytest.mark.parametrize("kind", ["h2", "aiohttp"])
async def test_strangers_get_no_line_each(kind: str) -> None:
    """Whatever they send: the log stays short."""
    async with serving(full=False) as server:
        port = server.grpc if kind == "h2" else server.metrics
        for number in range(60):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
                sock.sendall(b"\x16\x03\x01\xff" if number % 2 else b"GET / HTTP/9.9\r\nContent-Length: x\r\n\r\n")
                sock.shutdown(socket.SHUT_WR)
                sock.recv(2**16)
        server.process.send_signal(signal.SIGTERM)
        assert await ended(server.process) == 0
        assert len(os.read(server.log, 2**16).splitlines()) < 25
