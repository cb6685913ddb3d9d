"""Virtual time, pages without a network, and an ear for what the scraper says."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from yarl import URL

from extproc.domain import Endpoint, Load
from extproc.scraping.engines import Missing
from extproc.scraping.fetch import FetchError, Reason

STEPS = 12
"""Turns of the event loop in which everything that needs no time is done."""


async def settle() -> None:
    for _ in range(STEPS):
        await asyncio.sleep(0)


class VirtualTime:
    """A clock (call it), and a sleep that ends when the test has let enough time pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let time pass; who sleeps wakes up in order, each at its own time."""
        end = self.now_s + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end + 1e-9:
            self.now_s, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
            await settle()
        self.now_s = end

    @property
    def sleeping(self) -> int:
        return sum(not future.done() for _, _, future in self._sleepers)


class FakeFetcher:
    """Pages by the endpoint's key: bytes, an error to raise, or seconds to take before the usual page."""

    def __init__(self, time: VirtualTime, page: bytes) -> None:
        self.pages: dict[str, bytes | FetchError | float] = {}
        self.asked: list[tuple[float, str]] = []
        self.under_way: dict[str, int] = {}
        self.most_under_way = 0
        self.entered = 0
        self.left = 0
        self._time = time
        self._page = page

    def fail(self, endpoint: Endpoint, reason: Reason, detail: str = "no") -> None:
        self.pages[endpoint.key] = FetchError(reason, detail)

    def times(self, endpoint: Endpoint) -> list[float]:
        return [when for when, key in self.asked if key == endpoint.key]

    def url(self, endpoint: Endpoint) -> URL:
        return URL(f"http://{endpoint.address}:{endpoint.metrics_port or endpoint.port}/metrics")

    async def fetch(self, url: URL) -> bytes:
        key = f"{url.host}:{url.port}"
        assert self.entered > self.left, "fetch outside of the client's life"
        self.asked.append((self._time(), key))
        self.under_way[key] = self.under_way.get(key, 0) + 1
        self.most_under_way = max(self.most_under_way, self.under_way[key])
        try:
            page = self.pages.get(key, self._page)
            if isinstance(page, FetchError):
                raise page
            if isinstance(page, float):
                try:
                    await self._time.sleep(page)
                except asyncio.CancelledError:
                    await asyncio.sleep(0)  # as a real client, which closes its connection first
                    raise
                return self._page
            await asyncio.sleep(0)
            return page
        finally:
            self.under_way[key] -= 1

    async def __aenter__(self) -> Self:
        self.entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert not any(self.under_way.values())
        self.left += 1


class FakeSink:
    """What the store hears, as lines by key."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.loads: dict[str, Load] = {}

    def of(self, endpoint: Endpoint) -> list[str]:
        return [line for key, line in self.heard if key == endpoint.key]

    def page_started(self, key: str) -> None:
        self.heard.append((key, "started"))

    def page_read(self, key: str, load: Load) -> None:
        self.heard.append((key, "read"))
        self.loads[key] = load

    def page_failed(self, key: str, reason: str, *, down: bool) -> None:
        self.heard.append((key, f"failed {reason}{' down' if down else ''}"))


class FakeObserver:
    """What is counted, and what would be logged."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.read: list[tuple[str, float, int, tuple[Missing, ...]]] = []
        self.failed: list[tuple[str, str, float]] = []
        self.states: list[tuple[str, str, str]] = []
        self._clock = clock

    def page_read(self, endpoint: Endpoint, *, duration_s: float, page_bytes: int, missing: Sequence[Missing]) -> None:
        self.read.append((endpoint.key, duration_s, page_bytes, tuple(missing)))

    def page_failed(self, endpoint: Endpoint, reason: str, *, duration_s: float) -> None:
        self.failed.append((endpoint.key, reason, duration_s))

    def state_changed(self, endpoint: Endpoint, state: str, detail: str) -> None:
        self.states.append((endpoint.key, state, detail))
