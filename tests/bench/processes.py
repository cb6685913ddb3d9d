"""Servers under test as processes, their CPU and memory by the kernel's own account."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_TIMEOUT_S = 120.0
"""For one replay: more is a server that hangs."""
_SCHEDULER_CLOCK = 2
"""Linux's CPUCLOCK_SCHED."""


class Server(NamedTuple):
    """A running server and what it said when it started."""

    process: subprocess.Popen[str]
    started: dict[str, Any]

    def cpu_s(self) -> float:
        """User and system time so far, all threads, to the nanosecond: the process's CPU clock, clock_getcpuclockid(3)."""
        return time.clock_gettime(~self.process.pid << 3 | _SCHEDULER_CLOCK)

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) / 1024


def environment(where: Path) -> dict[str, str]:
    """Ours, with this checkout's packages before those that are installed."""
    return {**os.environ, "PYTHONPATH": str(where)}


@contextlib.contextmanager
def server(*arguments: str, until: str = "started", where: Path | None = None, program: Path | None = None) -> Iterator[Server]:
    """`python -m ARGUMENTS`, ready when it logs `until`; ended at the end. `where`: another checkout to run it from; `program`:
    what to run instead of Python."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments] if program is None else [str(program), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=where,
        env=None if where is None else environment(where),
    )
    try:
        assert process.stderr is not None
        started: dict[str, Any] = {}
        lines = []
        for line in process.stderr:
            lines.append(line)
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event.get("msg") == "started":
                    started = event
                if event.get("msg") == until:
                    break
        else:
            raise RuntimeError(f"{arguments} did not start:\n{''.join(lines)}")
        yield Server(process, started)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


class Load(NamedTuple):
    """What h2load saw."""

    cpu_us: float
    """Of the server, per stream."""
    rate: float
    """Streams per second."""


def replay(
    target: Server, frames: bytes, *, streams: int, connections: int = 4, concurrent: int = 8, tls: bool = False
) -> Load:
    """Replay the frames as `streams` streams; every one must succeed."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(frames)
        file.flush()
        url = f"{'https' if tls else 'http'}://127.0.0.1:{target.started['grpc']}/envoy.service.ext_proc.v3.ExternalProcessor/Process"
        command = ["h2load", "-n", str(streams), "-c", str(connections), "-m", str(concurrent), "-t", "1", "-d", file.name]
        before = target.cpu_s()
        done = subprocess.run(
            [*command, "-H", "content-type: application/grpc", "-H", "te: trailers", url],
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT_S,
        )
        used = target.cpu_s() - before
    succeeded = re.search(r"(\d+) succeeded", done.stdout)
    rate = re.search(r"([\d.]+) req/s", done.stdout)
    assert succeeded is not None, done.stdout
    assert int(succeeded[1]) == streams, done.stdout
    assert rate is not None
    return Load(used / streams * 1e6, float(rate[1]))
