"""Virtual time, pages without a network, and an ear for what the scraper says."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence

from extproc.domain import Endpoint, Load
from extproc.scraping.connection import Listener
from extproc.scraping.engines import Missing
from extproc.scraping.fetch import FetchError, Reason

STEPS = 12
"""Turns of the event loop in which everything that needs no time is done."""


async def settle() -> None:
    for _ in range(STEPS):
        await asyncio.sleep(0)


class _Call:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class VirtualTime:
    """A clock (call it), and calls that are made when the test has let enough time pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._calls: list[tuple[float, int, _Call]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        return self.now_s

    def later(self, seconds: float, call: Callable[[], None]) -> _Call:
        made = _Call(call)
        heapq.heappush(self._calls, (self.now_s + seconds, next(self._order), made))
        return made

    async def advance(self, seconds: float) -> None:
        """Let time pass; each call is made in order, at its own time."""
        end = self.now_s + seconds
        await settle()
        while self._calls and self._calls[0][0] <= end + 1e-9:
            self.now_s, _, made = heapq.heappop(self._calls)
            if made.call is not None:
                made.call()
                await settle()
        self.now_s = end

    @property
    def waiting(self) -> int:
        return sum(made.call is not None for _, _, made in self._calls)


class FakeLine:
    """Answers in virtual time."""

    def __init__(self, fetcher: FakeFetcher, key: str, listener: Listener, spent: Callable[[float], None]) -> None:
        self.connected = False
        self.key = key
        self._fetcher = fetcher
        self._listener = listener
        self._spent = spent
        self._asking = False
        self._timer: _Call | None = None

    def ask(self) -> None:
        assert not self._asking
        self._asking = True
        self._fetcher.begin(self.key)
        self._spent(self._fetcher.cost_s)
        page = self._fetcher.pages.get(self.key, self._fetcher.page)
        if isinstance(page, FetchError):
            self._end()
            self.connected = False
            self._listener.no_page(page)
        elif isinstance(page, float):
            if self.key in self._fetcher.accepting:
                self._reach()
            self._timer = self._fetcher.time.later(page, lambda: self._answer(self._fetcher.page))
        else:
            self._answer(page)

    def expire(self) -> None:
        reason = Reason.TIMEOUT if self.connected else Reason.CONNECT_TIMEOUT
        self.close()
        self._listener.no_page(FetchError(reason, "no"))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.connected = False
        self._end()

    def _answer(self, page: bytes) -> None:
        self._reach()
        self._end()
        self._listener.page(page)

    def _reach(self) -> None:
        if not self.connected:
            self.connected = True
            self._listener.reached()

    def _end(self) -> None:
        if self._asking:
            self._asking = False
            self._fetcher.under_way[self.key] -= 1
            self._fetcher.now -= 1


class FakeFetcher:
    """Pages by the endpoint's key: bytes, an error to raise, or seconds to take before the usual page."""

    def __init__(self, time: VirtualTime, page: bytes) -> None:
        self.pages: dict[str, bytes | FetchError | float] = {}
        self.accepting: set[str] = set()
        """Keys that are connected to at once, however long their page takes."""
        self.asked: list[tuple[float, str]] = []
        self.under_way: dict[str, int] = {}
        self.now = 0
        """Pages that are under way."""
        self.most_under_way = 0
        self.most_at_once = 0
        self.cost_s = 0.0
        """CPU of a page."""
        self.time = time
        self.page = page

    def fail(self, endpoint: Endpoint, reason: Reason, detail: str = "no") -> None:
        self.pages[endpoint.key] = FetchError(reason, detail)

    def times(self, endpoint: Endpoint) -> list[float]:
        return [when for when, key in self.asked if key == endpoint.key]

    def line(self, endpoint: Endpoint, listener: Listener, spent: Callable[[float], None]) -> FakeLine:
        return FakeLine(self, f"{endpoint.address}:{endpoint.metrics_port or endpoint.port}", listener, spent)

    def begin(self, key: str) -> None:
        self.asked.append((self.time(), key))
        self.under_way[key] = self.under_way.get(key, 0) + 1
        self.most_under_way = max(self.most_under_way, self.under_way[key])
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)


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

    def page_failed(self, key: str, reason: str, *, down: bool, alive: bool) -> None:
        self.heard.append((key, f"failed {reason}{' down' if down else ' alive' if alive else ''}"))


class FakeObserver:
    """What is counted, and what would be logged."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.read: list[tuple[str, float, int, tuple[Missing, ...]]] = []
        self.failed: list[tuple[str, str, float]] = []
        self.states: list[tuple[str, str, str]] = []
        self.more: list[dict[str, int]] = []
        self._clock = clock

    def page_read(self, endpoint: Endpoint, *, duration_s: float, page_bytes: int, missing: Sequence[Missing]) -> None:
        self.read.append((endpoint.key, duration_s, page_bytes, tuple(missing)))

    def page_failed(self, endpoint: Endpoint, reason: str, *, duration_s: float) -> None:
        self.failed.append((endpoint.key, reason, duration_s))

    def state_changed(self, endpoint: Endpoint, state: str, detail: str) -> None:
        self.states.append((endpoint.key, state, detail))

    def states_changed(self, counts: Mapping[str, int]) -> None:
        self.more.append(dict(counts))
