"""A picker with endpoints in the thousands: what they cost when nobody answers, and how long picks take beside their pages.

    python -m tests.bench.reach [--dead 10000] [--live 2000] [--seconds 5]

Picks come one at a time over the wire (h2load's own times), so a pick waits for whatever the process is doing then. Of three
runs of them the best counts: what a busy machine adds is not ours, and what we hold up is in every run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.processes import Server, server
from tests.bench.recorded import STREAMS, frames
from tests.bench.scrape import serving
from tests.bench.silence import silent
from tests.bench.table import Row

_FLAGS = ("--host", "127.0.0.1", "--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0", "--secure-serving=false")
_PICKS = 2000
_RUNS = 3


class Seen(NamedTuple):
    """How a picker does."""

    ready_s: float
    cores: float
    """While nobody asks."""
    pick_p50_ms: float
    pick_p99_ms: float
    healthz_ms: float
    """The slowest of twenty."""
    resident_mb: float


@contextlib.contextmanager
def picker(endpoints: Sequence[tuple[str, int]], *more: str) -> Iterator[tuple[Server, float]]:
    """A picker of these endpoints with `more` flags, and the seconds until it was ready."""
    with tempfile.TemporaryDirectory() as folder:
        members = Path(folder) / "endpoints.json"
        listed = [{"name": f"e{i}", "address": address, "port": port} for i, (address, port) in enumerate(endpoints)]
        members.write_text(json.dumps({"endpoints": listed}))
        types = ("queue-scorer", "kv-cache-utilization-scorer", "max-score-picker")
        file = {"type": "file-discovery", "name": "file", "parameters": {"path": str(members)}}
        config = Path(folder) / "picker.json"
        config.write_text(
            json.dumps(
                {
                    "apiVersion": "llm-d.ai/v1alpha1",
                    "kind": "EndpointPickerConfig",
                    "plugins": [file, *({"type": name} for name in types)],
                    "schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": name} for name in types]}],
                    "dataLayer": {"discovery": {"pluginRef": "file"}},
                }
            )
        )
        begin_s = time.monotonic()
        with server("extproc", "epp", *_FLAGS, *more, "--config-file", str(config), until="ready") as running:
            yield running, time.monotonic() - begin_s


def pick_times_ms(target: Server, picks: int = _PICKS) -> list[float]:
    """Of picks one at a time, sorted."""
    with tempfile.NamedTemporaryFile() as data, tempfile.NamedTemporaryFile(mode="r") as log:
        data.write(frames(STREAMS["1 KB"]))
        data.flush()
        url = f"http://127.0.0.1:{target.started['grpc']}/envoy.service.ext_proc.v3.ExternalProcessor/Process"
        command = ["h2load", "-n", str(picks), "-c", "1", "-m", "1", "-d", data.name, "--log-file", log.name]
        subprocess.run(
            [*command, "-H", "content-type: application/grpc", "-H", "te: trailers", url],
            capture_output=True,
            check=True,
            timeout=120,
        )
        return sorted(int(line.split("\t")[2]) / 1e3 for line in log.read().splitlines())


def best(measured: Callable[[], list[float]]) -> list[float]:
    """The run with the least p99 of a few."""
    return min((measured() for _ in range(_RUNS)), key=p99)


def p99(times: list[float]) -> float:
    return times[len(times) * 99 // 100]


def healthz_ms(target: Server) -> float:
    times = []
    for _ in range(20):
        begin_s = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{target.started['metrics']}/healthz", timeout=10) as answer:
            answer.read()
        times.append((time.monotonic() - begin_s) * 1e3)
        time.sleep(0.02)
    return max(times)


def seen(endpoints: Sequence[tuple[str, int]], seconds: float) -> Seen:
    """A picker of these endpoints, once it has settled."""
    with picker(endpoints) as (running, ready_s):
        time.sleep(3.0)
        cpu_s, begin_s = running.cpu_s(), time.monotonic()
        time.sleep(seconds)
        cores = (running.cpu_s() - cpu_s) / (time.monotonic() - begin_s)
        times = best(lambda: pick_times_ms(running))
        return Seen(
            ready_s,
            cores,
            times[len(times) // 2],
            p99(times),
            healthz_ms(running),
            running.resident_mb(),
        )


def refused(number: int) -> list[tuple[str, int]]:
    """Addresses of this machine where nobody listens."""
    return [(f"127.1.{i // 200}.{i % 200 + 1}", 9) for i in range(number)]


def rows_of(name: str, found: Seen, *, cores: float | None, p99_ms: float, bounds: bool) -> list[Row]:
    return [
        Row(f"{name}: ready", found.ready_s, "s", 5.0 if bounds else None),
        Row(f"{name}: idle", found.cores, "cores", cores),
        Row(f"{name}: pick, median", found.pick_p50_ms, "ms"),
        Row(f"{name}: pick, p99", found.pick_p99_ms, "ms", p99_ms),
        Row(f"{name}: /healthz, slowest of 20", found.healthz_ms, "ms", 50.0 if bounds else None),
        Row(f"{name}: memory", found.resident_mb, "MB", 250.0 if bounds else None),
    ]


def reach_rows(dead: int = 10_000, live: int = 2_000, seconds: float = 5.0) -> list[Row]:
    """Endpoints that refuse, that hang in either way, and as many as a large pool has with small pages."""
    rows = []
    if dead:
        rows += rows_of(f"{dead} refused", seen(refused(dead), seconds), cores=0.1, p99_ms=5.0, bounds=True)
        for what, taking in (("can't be connected to", False), ("take connections, never answer", True)):
            with silent(dead, taking=taking) as endpoints:
                # A connection that is made and heard of no more costs more than one that is refused: an observation.
                cores = None if taking else 0.1
                rows += rows_of(f"{dead} {what}", seen(endpoints, seconds), cores=cores, p99_ms=5.0, bounds=True)
    if live:
        with serving(live, "--small") as ports:
            found = seen([("127.0.0.1", port) for port in ports], seconds)
        rows += rows_of(f"{live} live", found, cores=None, p99_ms=10.0, bounds=False)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dead", type=int, default=10_000)
    parser.add_argument("--live", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    for row in reach_rows(args.dead, args.live, args.seconds):
        print(f"{row.name:60s} {row.value:9.3f} {row.unit:6s} {'' if row.met else 'MISSED'}")


if __name__ == "__main__":
    main()
