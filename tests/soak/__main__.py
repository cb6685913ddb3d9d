"""A soak, `python -m tests.soak [--minutes N]`: a real Envoy, our gateway, a mix of everything at half of what they can carry.

Envoy sends the answers through the gateway, which reads them (--response-metrics), and makes a new connection every 500
requests. Every answer is looked at. It passes when no request failed, the memory does not grow, nothing is open at the end, and
the gateway's log has no error. At the end Envoy and the model servers are killed and started again, under the same load: then
what may fail is what comes until they are back. The exit code is 0 when all that holds, else 1. Whether memory grows can't be
told of a short run; it says so.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from extproc.demo.envoy import find_envoy
from extproc.demo.errors import DemoError
from extproc.demo.ports import free_ports
from extproc.demo.processes import Child
from extproc.demo.stack import POOLS
from tests.e2e.parts import Stack, until
from tests.soak.kills import kills
from tests.soak.traffic import Load
from tests.soak.watch import Page, Sample, growth, page, sample

_CLIENTS = 32
_CALIBRATION_S = 8.0


class Servers:
    """Six places that one cheap upstream listens at."""

    def __init__(self, directory: Path) -> None:
        usual = [port for pool in POOLS for port in pool.ports]
        self.ports = dict(zip(usual, free_ports(len(usual)), strict=True))
        ports = [str(port) for port in self.ports.values()]
        self.child = Child("upstream", [sys.executable, "-m", "tests.soak.upstream", *ports], directory)


def renew(document: Any) -> None:
    """A connection to the gateway lasts 500 requests."""
    for cluster in document["static_resources"]["clusters"]:
        if cluster["name"] == "gateway":
            (options,) = cluster["typed_extension_protocol_options"].values()
            options["common_http_protocol_options"] = {"max_requests_per_connection": 500}


def show(seconds: float, load: Load, requests: int, samples: list[Sample], before: Sample, seen: Page) -> None:
    """One line."""
    now = samples[-1]
    span_s = now.at_s - before.at_s
    print(
        f"{seconds / 60:5.1f} min  rss {now.rss_mb:6.1f} MB  streams {seen.streams:3d}  connections {seen.connections:2d} "
        f"({seen.accepted} in all)  {requests / span_s:5.0f} req/s  p50 {load.seen.percentile_ms(0.5):5.2f} ms  "
        f"p99 {load.seen.percentile_ms(0.99):6.2f} ms  cpu {(now.cpu_s - before.cpu_s) / span_s:4.0%}  fds {now.files:3d}  "
        f"gc {'/'.join(map(str, seen.collections))}  failed {len(load.seen.failed)}",
        flush=True,
    )


async def soak(stack: Stack, upstream: Child, minutes: float, rate: float | None, number: int) -> list[str]:
    """Run it, and then as many kills of each; what is wrong."""
    load = Load(int(stack.url.rpartition(":")[2]), _CLIENTS)
    gateway = stack.servers["gateway"]
    assert gateway.pid is not None
    if rate is None:
        most = await load.flat_out(_CALIBRATION_S)
        rate = most / 2
        print(f"{most:.0f} requests per second with {_CLIENTS} clients at work; half of that from now on", flush=True)
    stop = asyncio.Event()
    begun_s = time.monotonic()
    running = asyncio.create_task(load.at_rate(rate, stop))
    samples = [sample(gateway.pid, 0.0)]
    before, requests = samples[0], load.seen.counts.total()
    load.seen.forget()
    while (now_s := time.monotonic() - begun_s) < minutes * 60:
        await asyncio.sleep(1.0)
        samples.append(sample(gateway.pid, now_s))
        if now_s - before.at_s >= 30:
            total = load.seen.counts.total()
            show(now_s, load, total - requests, samples, before, await asyncio.to_thread(page, stack.pages["gateway"]))
            before, requests = samples[-1], total
            load.seen.forget()
    stop.set()
    await running
    problems = await asyncio.to_thread(verdict, stack, load, samples)
    if number:
        load.seen.failed.clear()
        problems += await kills(stack, upstream, load, rate, number)
        problems += await asyncio.to_thread(still_there, stack)
    await load.close()
    return problems


def still_there(stack: Stack) -> list[str]:
    """What is wrong with the gateway after the kills: it is as it was, and nothing is under way."""
    gateway = stack.servers["gateway"]
    try:
        gateway.check()
        until(stack.idle, what="nothing is under way after the kills")
    except (AssertionError, DemoError) as error:
        return [f"after the kills: {error}"]
    return [f"error in the log: {line[:300]}" for line in errors_of(gateway)[:3]]


def errors_of(server: Child) -> list[str]:
    return [line for line in server.log.read_text().splitlines() if '"level":"error"' in line.replace(" ", "")]


def verdict(stack: Stack, load: Load, samples: list[Sample]) -> list[str]:
    """Print what was seen; return what is wrong."""
    problems = [f"{len(load.seen.failed)} requests failed, such as {load.seen.failed[:3]}"] if load.seen.failed else []
    try:
        until(stack.idle, what="nothing is under way")
    except AssertionError as error:
        problems.append(f"not idle at the end: {error}")
    gateway = stack.servers["gateway"]
    assert gateway.pid is not None
    end = sample(gateway.pid, samples[-1].at_s)
    memory = growth(samples)
    print(", ".join(f"{name} {count}" for name, count in sorted(load.seen.counts.items())))
    print(f"{load.seen.counts.total()} requests, {len(load.seen.failed)} failed, {load.seen.late} not sent: no client was free")
    print(
        f"rss {samples[0].rss_mb:.1f} MB at first, {end.rss_mb:.1f} MB at the end; fds {samples[0].files} and {end.files}; "
        f"memory: {memory.verdict}, {memory}"
    )
    if memory.verdict == "grows":
        problems.append(f"memory grows by {memory}")
    if end.files > samples[0].files + 5:
        problems.append(f"{end.files} files are open, {samples[0].files} were")
    if errors := errors_of(gateway):
        problems.append(f"{len(errors)} errors in the log, such as {errors[0][:300]}")
    return problems


def main() -> int:
    """Run, print, and tell whether it passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, help="requests per second; without it half of what is found to be possible")
    parser.add_argument(
        "--kills", type=int, default=3, help="kill -9 of Envoy and of the model servers behind it, each so often"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        servers = Servers(directory)
        flags = ["--response-metrics"]
        stack = Stack("one-hop", find_envoy(), servers, directory, answers="FULL_DUPLEX_STREAMED", flags=flags, change=renew)
        try:
            servers.child.start()
            stack.start()
            problems = uvloop.run(soak(stack, servers.child, arguments.minutes, arguments.rate, arguments.kills))
        finally:
            stack.stop()
            servers.child.stop()
    for problem in problems:
        print(f"FAIL: {problem}")
    if not problems:
        print("PASS")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
