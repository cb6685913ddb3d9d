"""With the transport: each server as a process of its own under h2load, in turn with the floor, ratios of one run."""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.configs import LOAD_ONLY, LOAD_ONLY_TEXT
from tests.bench.processes import Server, replay, server
from tests.bench.recorded import LARGE, MODEL, STREAMS, frames
from tests.bench.table import Row

_FREE_PORTS = ("--host", "127.0.0.1", "--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0")
PLAIN = (*_FREE_PORTS, "--secure-serving=false")


class Shape(NamedTuple):
    """How streams come: `connections` of `concurrent` at once each."""

    streams: int
    connections: int = 4
    concurrent: int = 8


_SHAPES: Mapping[str, Shape] = {
    "1 KB": Shape(6000),
    "1 KB, one at a time": Shape(3000, 1, 1),
    "4 KB": Shape(4000),
    "100 KB": Shape(2000),
    "400 KB, 4 at a time": Shape(400, 4, 1),
    "1 MB, 4 at a time": Shape(200, 4, 1),
    "1 MB": Shape(200),
}

_LEAST: Final = "reading and writing alone"
_OBSERVED: Final = {("default picker", "400 KB, 4 at a time"), (_LEAST, "400 KB, 4 at a time")}
"""Measured without a bar."""

BUDGETS: Mapping[tuple[str, str], float] = {
    ("router", "1 KB"): 0.14,
    ("router", "1 KB, one at a time"): 0.12,
    ("router", "100 KB"): 0.35,
    ("router", "1 MB, 4 at a time"): 0.5,
    ("picker", "1 KB"): 0.3,
    ("gateway", "1 KB"): 0.35,
    ("picker", "100 KB"): 0.5,
    ("default picker", "4 KB"): 0.2,
    ("gateway", "100 KB"): 0.5,
    **{("router on grpcio", size): 1.3 for size in ("1 KB", "100 KB")},
    **{("picker on grpcio", size): 1.5 for size in ("1 KB", "100 KB")},
    **{("gateway on grpcio", size): 1.6 for size in ("1 KB", "100 KB")},
}


@contextlib.contextmanager
def all_servers() -> Iterator[dict[str, Server]]:
    """The floor and our three on both transports, with ten endpoints whose pages are read all the while."""
    with contextlib.ExitStack() as stack:
        pages = stack.enter_context(server("tests.bench.pages", "10"))
        endpoints = [f"127.0.0.1:{port}" for port in pages.started["ports"]]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = {
            "apiVersion": "extproc.dev/v1alpha1",
            "kind": "Gateway",
            "pools": [{"name": "bench", "endpoints": {"static": endpoints}}],
            "routes": [{"models": [MODEL], "pool": "bench"}],
            "scheduling": LOAD_ONLY,
        }
        (folder / "gateway.yaml").write_text(json.dumps(config))
        running = {
            "floor": stack.enter_context(server("tests.bench.floor")),
            "lean floor": stack.enter_context(server("tests.bench.floor", "--lean")),
            _LEAST: stack.enter_context(server("tests.bench.least")),
        }
        for transport, suffix in (("h2", ""), ("grpcio", " on grpcio")):
            flags = (*PLAIN, "--transport", transport)
            running[f"router{suffix}"] = stack.enter_context(server("extproc", "bbr", *flags))
            picker = ("extproc", "epp", *flags, "--endpoints", ",".join(endpoints))
            plain = (*picker, "--config-text", LOAD_ONLY_TEXT)
            running[f"picker{suffix}"] = stack.enter_context(server(*plain, until="ready"))
            running[f"default picker{suffix}"] = stack.enter_context(server(*picker, until="ready"))
            gateway = ("extproc", "gateway", *flags, "--config-file", str(folder / "gateway.yaml"))
            running[f"gateway{suffix}"] = stack.enter_context(server(*gateway, until="ready"))
        yield running


def transport_rows(rounds: int) -> tuple[list[Row], dict[str, float]]:
    """CPU per stream and its ratio to the floor, medians of `rounds`; and the floor by size."""
    rows: list[Row] = []
    floor_us: dict[str, float] = {}
    with all_servers() as running:
        for size, shape in _SHAPES.items():
            recorded = frames((STREAMS | LARGE)[size.partition(",")[0]])
            targets = {
                name: each
                for name, each in running.items()
                if "floor" in name or name == "router" or (name, size) in BUDGETS or (name, size) in _OBSERVED
            }
            used: dict[str, list[float]] = {name: [] for name in targets}
            for target in targets.values():
                replay(target, recorded, streams=shape.streams // 20, connections=1, concurrent=1)
            for _ in range(rounds):
                for name, target in targets.items():
                    load = replay(
                        target,
                        recorded,
                        streams=shape.streams,
                        connections=shape.connections,
                        concurrent=shape.concurrent,
                    )
                    used[name].append(load.cpu_us)
            floor_us[size] = statistics.median(used["floor"])
            rows.append(Row(f"floor, {size}", floor_us[size], "µs"))
            lean_us = statistics.median(used["lean floor"])
            rows.append(Row(f"floor in its leanest form, {size}", lean_us, "µs", ratio=lean_us / floor_us[size]))
            for name in targets:
                if "floor" not in name:
                    ratio = statistics.median(a / b for a, b in zip(used[name], used["floor"], strict=True))
                    rows.append(Row(f"{name}, {size}", ratio, "x floor", BUDGETS.get((name, size))))
                    rows.append(Row(f"{name}, {size}", statistics.median(used[name]), "µs"))
    return rows, floor_us


def tls_rows(rounds: int) -> list[Row]:
    """The router with TLS against the same in plaintext, on connections that are made already."""
    recorded = frames(STREAMS["1 KB"])
    with server("extproc", "bbr", *_FREE_PORTS) as secure, server("extproc", "bbr", *PLAIN) as plain:
        rows = []
        for name, shape in _SHAPES.items():
            if not name.startswith("1 KB"):
                continue
            ratios = []
            for round_ in range(rounds + 1):
                sizes = {"streams": shape.streams, "connections": shape.connections, "concurrent": shape.concurrent}
                with_tls = replay(secure, recorded, tls=True, **sizes)
                without = replay(plain, recorded, tls=False, **sizes)
                if round_:
                    ratios.append(with_tls.cpu_us / without.cpu_us)
            rows.append(Row(f"router with TLS, {name}", statistics.median(ratios), "x plaintext", 1.4))
    return rows


def memory_rows() -> list[Row]:
    """Resident memory of a picker with 100 endpoints that are read every 50 ms, after some traffic."""
    with server("tests.bench.pages", "100") as pages:
        endpoints = ",".join(f"127.0.0.1:{port}" for port in pages.started["ports"])
        with server("extproc", "epp", *PLAIN, "--endpoints", endpoints, until="ready") as picker:
            replay(picker, frames(STREAMS["1 KB"]), streams=2000)
            return [Row("picker, 100 endpoints, resident", picker.resident_mb(), "MB", 120)]
