"""With the transport: each server as a process of its own under h2load, in turn with the floor, ratios of one run."""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.processes import Server, replay, server
from tests.bench.recorded import MODEL, STREAMS, frames
from tests.bench.table import Row

_BUDGETS = {"router": 1.3, "picker": 1.5, "gateway": 1.6}
_PORTS = (
    *("--host", "127.0.0.1", "--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0"),
    "--secure-serving=false",  # as the floor
)
_STREAMS = {"1 KB": 6000, "100 KB": 3000}


@contextlib.contextmanager
def all_servers() -> Iterator[dict[str, Server]]:
    """The floor and our three, with ten endpoints whose pages are read all the while."""
    with contextlib.ExitStack() as stack:
        pages = stack.enter_context(server("tests.bench.pages", "10"))
        endpoints = [f"127.0.0.1:{port}" for port in pages.started["ports"]]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = {
            "apiVersion": "extproc.dev/v1alpha1",
            "kind": "Gateway",
            "pools": [{"name": "bench", "endpoints": {"static": endpoints}}],
            "routes": [{"models": [MODEL], "pool": "bench"}],
        }
        (folder / "gateway.yaml").write_text(json.dumps(config))
        yield {
            "floor": stack.enter_context(server("tests.bench.floor")),
            "lean floor": stack.enter_context(server("tests.bench.floor", "--lean")),
            "router": stack.enter_context(server("extproc", "bbr", *_PORTS)),
            "picker": stack.enter_context(server("extproc", "epp", *_PORTS, "--endpoints", ",".join(endpoints), until="ready")),
            "gateway": stack.enter_context(
                server("extproc", "gateway", *_PORTS, "--config-file", str(folder / "gateway.yaml"), until="ready")
            ),
        }


def transport_rows(rounds: int) -> tuple[list[Row], dict[str, float]]:
    """CPU per stream and its ratio to the floor, medians of `rounds`; and the floor by size."""
    rows: list[Row] = []
    floor_us: dict[str, float] = {}
    with all_servers() as running:
        for size, messages in STREAMS.items():
            recorded = frames(messages)
            used: dict[str, list[float]] = {name: [] for name in running}
            for target in running.values():
                replay(target, recorded, streams=300)
            for _ in range(rounds):
                for name, target in running.items():
                    used[name].append(replay(target, recorded, streams=_STREAMS[size]).cpu_us)
            floor_us[size] = statistics.median(used["floor"])
            rows.append(Row(f"floor, {size}", floor_us[size], "µs"))
            lean_us = statistics.median(used["lean floor"])
            rows.append(Row(f"floor in its leanest form, {size}", lean_us, "µs", ratio=lean_us / floor_us[size]))
            for name, budget in _BUDGETS.items():
                ratio = statistics.median(a / b for a, b in zip(used[name], used["floor"], strict=True))
                rows.append(Row(f"{name}, {size}", ratio, "x floor", budget))
                rows.append(Row(f"{name}, {size}", statistics.median(used[name]), "µs"))
    return rows, floor_us


def memory_rows() -> list[Row]:
    """Resident memory of a picker with 100 endpoints that are read every 50 ms, after some traffic."""
    with server("tests.bench.pages", "100") as pages:
        endpoints = ",".join(f"127.0.0.1:{port}" for port in pages.started["ports"])
        with server("extproc", "epp", *_PORTS, "--endpoints", endpoints, until="ready") as picker:
            replay(picker, frames(STREAMS["1 KB"]), streams=2000)
            return [Row("picker, 100 endpoints, resident", picker.resident_mb(), "MB", 120)]
