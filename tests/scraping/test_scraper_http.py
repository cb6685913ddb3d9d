"""The loop over real servers: pages arrive, failures are told apart, and nothing is left open when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from extproc.domain import Endpoint, Load
from extproc.scraping.connection import open_sockets
from extproc.scraping.driver import Driver
from extproc.scraping.engines import Engines
from extproc.scraping.fetch import HttpFetcher
from extproc.scraping.scraper import Scraper
from extproc.settings.engines import CoreMetricsSettings, MetricsSourceSettings

from .loops import FakeObserver, FakeSink
from .servers import DEADLINE_S, reply, serving

PAGE = (Path(__file__).parent / "data" / "vllm-0.32-metrics.txt").read_bytes()
LOAD = Load(
    waiting=0.0, running=0.0, kv_usage=0.0, kv_usage_mean=0.0, kv_block_size=128, kv_blocks=16384, started_s=1795214171.2
)


class Ear(FakeSink):
    """A sink that can be waited on."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def page_read(self, key: str, load: Load) -> None:
        super().page_read(key, load)
        self._changed.set()

    def page_failed(self, key: str, reason: str, *, down: bool, alive: bool) -> None:
        super().page_failed(key, reason, down=down, alive=alive)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def hears(self, endpoint: Endpoint, line: str, times: int = 1) -> None:
        await self.until(lambda: self.of(endpoint).count(line) >= times)


@contextlib.asynccontextmanager
async def scraping(
    sink: Ear, *endpoints: Endpoint, timeout_s: float = 1.0, max_page_bytes: int = 2**20
) -> AsyncIterator[Scraper]:
    loop = asyncio.get_running_loop()
    fetcher = HttpFetcher(MetricsSourceSettings(), max_page_bytes=max_page_bytes)
    engines = Engines(CoreMetricsSettings())
    driver = Driver(timeout_s=timeout_s)
    scraper = Scraper(fetcher, engines, sink, FakeObserver(loop.time), interval_s=0.005, slow_s=0.02, driver=driver)
    scraper.update(endpoints)
    task = asyncio.create_task(scraper.run())
    try:
        yield scraper
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gc.collect()  # what is left unclosed warns when it is collected, and warnings are errors


async def test_pages_of_several_servers() -> None:
    sink = Ear()
    async with serving(reply(PAGE)) as one, serving(reply(PAGE)) as two, scraping(sink, one.endpoint, two.endpoint):
        await sink.hears(one.endpoint, "read", 5)
        await sink.hears(two.endpoint, "read", 5)

        assert (one.connections, two.connections) == (1, 1)
    assert set(sink.loads.values()) == {LOAD}


async def test_bad_servers_beside_a_good_one() -> None:
    sink = Ear()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _chunk in range(100):
            writer.write(b"x" * 2**20)
            await writer.drain()

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = Endpoint("127.0.0.1", unused.getsockname()[1])
        async with (
            serving(reply(PAGE)) as good,
            serving(hang) as hanging,
            serving(flood) as flooding,
            serving(close) as closing,
            serving(reply(b"loading", status="503 Service Unavailable")) as loading,
            serving(reply(b"<html>It works!</html>")) as web,
        ):
            bad = {
                nobody: "failed refused down",
                hanging.endpoint: "failed timeout",
                flooding.endpoint: "failed too_large alive",
                closing.endpoint: "failed closed down",
                loading.endpoint: "failed http_status alive",
                web.endpoint: "failed garbage alive",
            }
            async with scraping(sink, good.endpoint, *bad, timeout_s=0.3):
                for endpoint, line in bad.items():
                    await sink.hears(endpoint, line, 2)
                await sink.hears(good.endpoint, "read", 10)

            for endpoint, line in bad.items():
                assert set(sink.of(endpoint)) == {"started", line}
            assert set(sink.of(good.endpoint)) == {"started", "read"}


async def test_a_server_that_restarts() -> None:
    sink = Ear()
    async with serving(reply(PAGE)) as server:
        endpoint = server.endpoint
        async with scraping(sink, endpoint):
            await sink.hears(endpoint, "read", 3)
            server.crash()
            await sink.hears(endpoint, "failed refused down", 3)
            await server.start(endpoint.port)
            await sink.until(lambda: sink.of(endpoint)[-1] == "read")


async def test_a_removed_endpoint_is_not_asked_again() -> None:
    sink = Ear()
    async with (
        serving(reply(PAGE)) as stays,
        serving(reply(PAGE)) as leaves,
        scraping(sink, stays.endpoint, leaves.endpoint) as scraper,
    ):
        await sink.hears(leaves.endpoint, "read", 3)
        scraper.update([stays.endpoint])
        heard = len(sink.of(leaves.endpoint))
        await sink.hears(stays.endpoint, "read", 20)

        assert len(sink.of(leaves.endpoint)) == heard


async def test_connections_are_not_kept_beyond_the_files_that_scraping_may_have_open() -> None:
    sink = Ear()
    driver = Driver(most_open=2)
    scraper = Scraper(
        HttpFetcher(MetricsSourceSettings()),
        Engines(CoreMetricsSettings()),
        sink,
        FakeObserver(driver.clock),
        interval_s=0.005,
        driver=driver,
    )
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(reply(PAGE))) for _ in range(6)]
        scraper.update(server.endpoint for server in servers)
        task = asyncio.create_task(scraper.run())
        for server in servers:
            await sink.hears(server.endpoint, "read", 5)
        kept = open_sockets()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert kept <= 3  # and one that is being asked
        assert open_sockets() == 0
        assert sum(server.connections for server in servers) > 6
