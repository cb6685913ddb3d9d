"""What live requests notice of a shadow: through a real Envoy, with every answer sent to us, with a shadow at 10 % and without.

Two gateways alike but for the shadow, behind one Envoy, before the same backend; the copies go to another one. Each gets the
same load in turn, so that what disturbs one disturbs both. A copy costs CPU of the gateway and of the model server, which are
the same two cores here: where those are full, live requests wait for it, as they would for any other request.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from extproc.demo.ports import free_ports
from tests.bench.envoy import Listener, Seen, drive, running_envoy
from tests.bench.processes import Server, server
from tests.bench.table import Row

_Load: TypeAlias = tuple[str, int, int]
_STREAMS, _LOADED, _FULL = ("/paced", 60, 1), ("/paced", 150, 4), ("/answer", 1500, 4)
"""Path, requests, connections: streams of a hundred events a millisecond apart, one after the other, as users have them whose
machines are not busy; four at a time, which is all that two cores can do; and answers at once, as many as can be had."""
_BAR = 1.02
_FLAGS = ("--host", "127.0.0.1", "--grpc-port", "0", "--grpc-health-port", "0", "--secure-serving=false")


def _config(folder: Path, live: int, dark: int, percentage: int) -> str:
    entities = [{"name": name, "entity_name": f"model-{name}"} for name in ("now", "next")]
    split = [{"served_entity_name": "now", "traffic_percentage": 100}, {"served_entity_name": "next", "traffic_percentage": 0}]
    endpoint: dict[str, object] = {"name": "chat", "config": {"served_entities": entities, "traffic_config": {"routes": split}}}
    if percentage:
        endpoint["shadows"] = [{"entity": "next", "percentage": percentage, "max_in_flight": 100, "max_per_second": 1000}]
    document = {
        "apiVersion": "extproc.dev/v1alpha1",
        "kind": "Gateway",
        "pools": [
            {"name": name, "endpoints": {"static": [f"127.0.0.1:{port}"]}} for name, port in (("now", live), ("next", dark))
        ],
        "routes": [{"models": [f"model-{name}"], "pool": name} for name in ("now", "next")],
        "servingEndpoints": [endpoint],
    }
    path = folder / f"gateway-{percentage}.json"
    path.write_text(json.dumps(document))
    return str(path)


def shadow_rows(rounds: int) -> list[Row]:
    """Medians of the pairs of `2 * rounds` turns."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        live, dark = (stack.enter_context(server("tests.bench.backend")).started["port"] for _ in range(2))
        pages = free_ports(2)
        gateways: dict[int, Server] = {}
        for percentage, page in zip((0, 10), pages, strict=True):
            config = _config(folder, live, dark, percentage)
            flags = (*_FLAGS, "--metrics-port", str(page), "--config-file", config)
            gateways[percentage] = stack.enter_context(server("extproc", "gateway", *flags))
        ports = free_ports(2, taken=pages)
        listeners = {
            percentage: Listener(port, each.started["grpc"], "bodies")
            for port, (percentage, each) in zip(ports, gateways.items(), strict=True)
        }
        stack.enter_context(running_envoy(list(listeners.values()), live))
        seen: dict[tuple[_Load, int], list[Seen]] = {}
        for round_ in range(2 * rounds + 1):
            if round_ == 1:
                seen.clear()  # the first round warms up
            for load in (_STREAMS, _LOADED, _FULL):
                path, requests, connections = load
                for percentage in (0, 10) if round_ % 2 else (10, 0):
                    port, of = listeners[percentage].port, gateways[percentage]
                    found = drive(port, path, requests=requests, connections=connections, of=of, model="chat")
                    seen.setdefault((load, percentage), []).append(found)
        copies = _copies(pages[1])
    asked = (2 * rounds + 1) * sum(requests for _, requests, _ in (_STREAMS, _LOADED, _FULL))
    rows = [Row("copies that were answered, of the requests", copies / asked * 100, "%")]
    for load, what in (
        (_STREAMS, "100 chunks, one each millisecond, 1 at a time"),
        (_LOADED, "4 at a time, the machine is full"),
        (_FULL, "answers at once, the machine is full"),
    ):
        pairs = list(zip(seen[load, 10], seen[load, 0], strict=True))
        dark, plain = (_p99_us(each) for each in zip(*pairs, strict=True))
        rows.append(Row(f"{what}: p99 without a shadow", plain, "µs"))
        rows.append(Row(f"{what}: p99 with a shadow at 10 %", dark / plain, "x", bar=_BAR if load is _STREAMS else None))
        rows.append(Row(f"{what}: p50 with a shadow at 10 %", statistics.median(a.p50_us / b.p50_us for a, b in pairs), "x"))
        rows.append(Row(f"{what}: CPU with a shadow at 10 %", statistics.median(a.cpu_us / b.cpu_us for a, b in pairs), "x"))
    return rows


def _p99_us(turns: Sequence[Seen]) -> float:
    """Of all requests of all turns: the 99th of a turn's few would be its worst."""
    return statistics.quantiles([each for turn in turns for each in turn.times_us], n=100)[98]


def _copies(page: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("extproc_shadow_copies_total{"))
