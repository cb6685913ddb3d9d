"""What idle scraping costs our process: pages of vLLM 0.32 (52 KB), asked for each 50 ms over kept-alive connections.

    python -m tests.bench.scrape [--endpoints 10] [--seconds 4] [--busy]

A second process serves the page from memory; with `--busy` its numbers are others each time. Printed is the CPU of this
process only, user and system, of one second; and what a bare `asyncio.Protocol` needs that asks as often and reads as many
bytes, and does nothing with them.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import uvloop

from extproc.domain import Endpoint, Load
from extproc.scraping.engines import Engines, Missing, PageReader
from extproc.scraping.fetch import HttpFetcher
from extproc.scraping.scraper import Scraper
from extproc.settings.engines import CoreMetricsSettings, MetricsSourceSettings
from tests.bench.table import Row

PAGE = Path(__file__).parent.parent / "scraping" / "data" / "vllm-0.32-metrics.txt"
INTERVAL_S = 0.05
RATIO = 3.0
"""To the bare protocol, at most."""
BUDGETS_MS = {10: 25.0, 100: 250.0}
"""CPU of one second, by the number of endpoints."""
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Server(asyncio.Protocol):
    """Answers every request with the page."""

    answers: list[bytes] = []
    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            self.buffer = self.buffer.partition(b"\r\n\r\n")[2]
            Server.count += 1
            self.transport.write(self.answers[Server.count % len(self.answers)])


async def serve(ports: int, busy: bool, small: bool) -> None:
    page = PAGE.read_bytes()
    if small:
        page = (
            b"\n".join([line for line in page.split(b"\n") if b"vllm:num_requests" in line or b"vllm:kv_cache_usage" in line])
            + b"\n"
        )
    pages = [page.replace(b"} 0.0\n", b"} 0.%d\n" % number) for number in range(7)] if busy else [page]
    Server.answers = [
        b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: uvicorn\r\n"
        b"content-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: %d\r\n\r\n%s" % (len(each), each)
        for each in pages
    ]
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Server, "127.0.0.1", 0) for _ in range(ports)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


class Bare(asyncio.Protocol):
    """Asks, and counts the bytes that come."""

    received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._ask()

    def data_received(self, data: bytes) -> None:
        Bare.received += len(data)

    def _ask(self) -> None:
        self._transport.write(REQUEST)
        self._timer = self._loop.call_later(INTERVAL_S, self._ask)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()


async def measure_bare(ports: Sequence[int], seconds: float) -> float:
    """Milliseconds of CPU a second."""
    loop = asyncio.get_running_loop()
    transports = []
    for port in ports:
        transports.append((await loop.create_connection(Bare, "127.0.0.1", port))[0])
        await asyncio.sleep(INTERVAL_S / len(ports))
    cpu_s, begin_s = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    used = (time.process_time() - cpu_s) / (time.monotonic() - begin_s) * 1e3
    for transport in transports:
        transport.abort()
    await asyncio.sleep(0)
    return used


class Counted:
    """Sink and observer: counts pages, fails on the first that is not read in full."""

    def __init__(self) -> None:
        self.pages = 0
        self.duration_s = 0.0

    def page_started(self, key: str) -> None: ...

    def page_read(
        self,
        key: str | Endpoint,
        load: Load | None = None,
        *,
        duration_s: float = 0.0,
        page_bytes: int = 0,
        missing: Sequence[Missing] = (),
    ) -> None:
        if load is not None:
            self.pages += 1
        self.duration_s += duration_s
        assert not missing

    def page_failed(
        self, key: str | Endpoint, reason: str, *, down: bool = False, alive: bool = False, duration_s: float = 0.0
    ) -> None:
        raise AssertionError(reason)

    def state_changed(self, endpoint: Endpoint, state: str, detail: str) -> None:
        raise AssertionError((state, detail))

    def states_changed(self, counts: Mapping[str, int]) -> None: ...


async def measure(ports: Sequence[int], seconds: float) -> tuple[float, float, float]:
    """Milliseconds of CPU a second, pages of an endpoint a second, and mean milliseconds from request to load."""
    counted = Counted()
    scraper = Scraper(
        HttpFetcher(MetricsSourceSettings()), Engines(CoreMetricsSettings()), counted, counted, interval_s=INTERVAL_S
    )
    scraper.update(Endpoint("127.0.0.1", port) for port in ports)
    task = asyncio.create_task(scraper.run())
    await asyncio.sleep(10 * INTERVAL_S)  # connections are made, caches are warm
    pages, cpu_s, duration_s, begin_s = counted.pages, time.process_time(), counted.duration_s, time.monotonic()
    await asyncio.sleep(seconds)
    passed_s = time.monotonic() - begin_s
    pages, cpu_s, duration_s = counted.pages - pages, time.process_time() - cpu_s, counted.duration_s - duration_s
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return cpu_s / passed_s * 1e3, pages / passed_s / len(ports), duration_s / pages * 1e3


def measure_read(times: int = 2000) -> float:
    """Microseconds of CPU to read a page that differs from the last one."""
    page, reader = PAGE.read_bytes(), PageReader(Engines(CoreMetricsSettings()).of({}))
    pages = [page.replace(b"} 0.0\n", b"} 0.%d\n" % number) for number in range(7)]
    start = time.process_time()
    for number in range(times):
        reader.read(pages[number % 7])
    return (time.process_time() - start) / times * 1e6


@contextmanager
def serving(endpoints: int, *flags: str) -> Iterator[list[int]]:
    """The page on as many ports, from another process."""
    command = [sys.executable, "-m", "tests.bench.scrape", "--serve", str(endpoints), *flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield [int(port) for port in server.stdout.readline().split()]
        server.stdin.close()


def scrape_rows(seconds: float = 4.0) -> list[Row]:
    """Ten and a hundred endpoints, the bare protocol beside each."""
    rows = []
    for endpoints, budget_ms in BUDGETS_MS.items():
        with serving(endpoints) as ports:
            floor_ms = uvloop.run(measure_bare(ports, seconds))
            ours_ms, rate, _ = uvloop.run(measure(ports, seconds))
        rows.append(Row(f"{endpoints} endpoints, a bare protocol", floor_ms, "ms/s"))
        rows.append(Row(f"{endpoints} endpoints", ours_ms, "ms/s", budget_ms, ours_ms / floor_ms))
        rows.append(Row(f"{endpoints} endpoints, to the bare protocol", ours_ms / floor_ms, "x", RATIO))
        rows.append(Row(f"{endpoints} endpoints, pages of each a second", rate, "", least=0.95 / INTERVAL_S))
    with serving(10, "--busy") as ports:
        busy_ms, _, _ = uvloop.run(measure(ports, seconds))
    rows.append(Row("10 endpoints, other numbers on each page", busy_ms, "ms/s"))
    rows.append(Row("a page with other numbers, read", measure_read(), "µs"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--busy", action="store_true", help="other numbers on each page")
    parser.add_argument("--small", action="store_true", help="pages of a few lines")
    parser.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(serve(args.serve, args.busy, args.small))
        return
    with serving(args.endpoints, *["--busy"] * args.busy, *["--small"] * args.small) as ports:
        floor_ms = uvloop.run(measure_bare(ports, args.seconds))
        ours_ms, rate, duration_ms = uvloop.run(measure(ports, args.seconds))
    print(f"{args.endpoints} endpoints, {rate:.1f} pages of each a second")
    print(f"CPU of a second  {ours_ms:6.1f} ms, a bare protocol {floor_ms:.1f} ms: {ours_ms / floor_ms:.2f} x")
    print(f"request to load  {duration_ms:6.2f} ms;  a busy page read {measure_read():.1f} µs")


if __name__ == "__main__":
    main()
