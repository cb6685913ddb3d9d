"""What one page of metrics costs our process: fetched over HTTP/1.1 on a kept-alive connection, and read.

    python -m tests.bench.scrape [--endpoints 40] [--rounds 50] [--interval-ms 50]

A second process serves a page of vLLM 0.32 (52 KB) from memory. Printed is the CPU of this process only, user and
system, per scrape: of the whole loop, of reading the page alone, and the rest, which is fetching.
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
from extproc.scraping.engines import Engines, Missing
from extproc.scraping.fetch import HttpFetcher
from extproc.scraping.scraper import Scraper
from extproc.settings.engines import CoreMetricsSettings, MetricsSourceSettings
from tests.bench.table import Row

PAGE = Path(__file__).parent.parent / "scraping" / "data" / "vllm-0.32-metrics.txt"
BUDGET_US = 300.0


class Server(asyncio.Protocol):
    """Answers every request with the page."""

    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            self.buffer = self.buffer.partition(b"\r\n\r\n")[2]
            self.transport.write(self.answer)


async def serve(ports: int) -> None:
    page = PAGE.read_bytes()
    Server.answer = (
        b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: uvicorn\r\n"
        b"content-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: %d\r\n\r\n" % len(page)
    ) + page
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Server, "127.0.0.1", 0) for _ in range(ports)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


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


async def measure(ports: Sequence[int], rounds: int, interval_s: float) -> tuple[float, float, int]:
    """Seconds of CPU per scrape, mean seconds from request to load, and the number of scrapes measured."""
    counted = Counted()
    scraper = Scraper(
        HttpFetcher(MetricsSourceSettings()), Engines(CoreMetricsSettings()), counted, counted, interval_s=interval_s
    )
    scraper.update(Endpoint("127.0.0.1", port) for port in ports)
    task = asyncio.create_task(scraper.run())
    await asyncio.sleep(5 * interval_s)  # connections are made, caches are warm
    pages, cpu_s, duration_s = counted.pages, time.process_time(), counted.duration_s
    await asyncio.sleep(rounds * interval_s)
    pages, cpu_s, duration_s = counted.pages - pages, time.process_time() - cpu_s, counted.duration_s - duration_s
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return cpu_s / pages, duration_s / pages, pages


def measure_read(times: int = 2000) -> float:
    """Seconds of CPU to read the page."""
    page, extractor = PAGE.read_bytes(), Engines(CoreMetricsSettings()).of({})
    extractor.read(page)
    start = time.process_time()
    for _ in range(times):
        extractor.read(page)
    return (time.process_time() - start) / times


@contextmanager
def serving(endpoints: int) -> Iterator[list[int]]:
    """The page on as many ports, from another process."""
    command = [sys.executable, "-m", "tests.bench.scrape", "--serve", str(endpoints)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield [int(port) for port in server.stdout.readline().split()]
        server.stdin.close()


def scrape_rows() -> list[Row]:
    """The page at the load of forty endpoints, and of ten."""
    rows = []
    for endpoints in (40, 10):
        with serving(endpoints) as ports:
            whole_s, _, _ = uvloop.run(measure(ports, 50, 0.05))
        rows.append(Row(f"page fetched and read, {endpoints} endpoints", whole_s * 1e6, "µs", BUDGET_US))
    rows.append(Row("of it reading", measure_read() * 1e6, "µs"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--interval-ms", type=float, default=50.0)
    parser.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(serve(args.serve))
        return
    with serving(args.endpoints) as ports:
        scrape_s, duration_s, pages = uvloop.run(measure(ports, args.rounds, args.interval_ms / 1e3))
    read_s = measure_read()
    per_second = pages / (args.rounds * args.interval_ms / 1e3)
    print(f"{len(ports)} endpoints every {args.interval_ms:g} ms: {pages} pages, {per_second:.0f} per second")
    print(f"CPU per scrape  {scrape_s * 1e6:6.1f} us   (budget {BUDGET_US:.0f} us)")
    print(f"  of it fetch   {(scrape_s - read_s) * 1e6:6.1f} us")
    print(f"  of it read    {read_s * 1e6:6.1f} us")
    print(f"request to load {duration_s * 1e6:6.1f} us")


if __name__ == "__main__":
    main()
