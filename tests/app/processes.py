"""Real servers, each a process, in places that a test chooses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

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

    async def pick(self) -> None:
        """Ask for an endpoint, and get it."""
        answered = await exchange(self.grpc, chat(b'{"model": "m"}'))
        assert headers_of(answered[0])["x-gateway-destination-endpoint"] == ENDPOINT

    async def get(self, path: str) -> tuple[int, str]:
        return await get(self.metrics, path)

    async def metric(self, name: str) -> float:
        found = re.search(rf"^{name} (\S+)$", (await self.get("/metrics"))[1], re.M)
        assert found
        return float(found[1])

    async def ended(self) -> int:
        """The exit code, once it has ended."""
        await until(lambda: asyncio.sleep(0, self.process.poll() is not None), 10)
        return self.process.returncode


@contextlib.asynccontextmanager
async def serving(*, full: bool = False, flags: Sequence[str] = (), inside: Sequence[str] = ()) -> AsyncIterator[Server]:
    """A picker. With `full` its log can't take a byte from the beginning; `inside` is a command that runs it."""
    reading, writing = os.pipe()
    if full:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"." * 4096)
        os.set_blocking(writing, True)
    grpc, health, metrics = free_ports(3)
    ports = [f"--grpc-port={grpc}", f"--grpc-health-port={health}", f"--metrics-port={metrics}", "--host=127.0.0.1"]
    usual = [sys.executable, "-m", "extproc", "epp", f"--endpoints={ENDPOINT}", "--secure-serving=false"]
    process = _started([*inside, *usual, *ports, *flags], writing)
    os.close(writing)
    server = Server(process, grpc, metrics, reading)
    try:
        await until(lambda: _ready(server), 20)
        yield server
    finally:
        process.kill()
        process.wait()
        os.close(reading)


def limited(limit: str) -> tuple[str, ...]:
    """A command that runs another under `ulimit`: a function between fork and exec would meet gRPC's threads there."""
    return ("sh", "-c", f'ulimit {limit}; exec "$@"', "sh")


def _started(command: Sequence[str], log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)


async def _ready(server: Server) -> bool:
    assert server.process.poll() is None, os.read(server.log, 2**16)
    try:
        return (await server.get("/readyz"))[0] == 200
    except OSError:
        return False
