"""The loop over the pool: each endpoint's page is fetched and read once per interval, what it says goes to the store.

    update(endpoints) ─▶ one task per endpoint ─▶ fetch ─▶ Extractor.read ─▶ LoadSink
                                                                        └──▶ ScrapeObserver

Loops are spread over the interval, keep their place in it, and never have two requests under way to one endpoint: a
slow page costs its endpoint the rounds it misses. An endpoint that is refused is asked again at the interval, which is
cheap and notices its start at once; one that times out or floods is asked at most once in `slow_s`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol

from yarl import URL

from extproc.domain import Endpoint, Load
from extproc.scraping.engines import NOTHING, Engines, Extractor, Missing
from extproc.scraping.fetch import Fetcher, FetchError, Reason

DEFAULT_INTERVAL_S: Final = 0.05
DEFAULT_SLOW_S: Final = 1.0

OK: Final = "ok"
PARTIAL: Final = "partial"

_GOLDEN: Final = (math.sqrt(5) - 1) / 2
"""Multiples of this, modulo 1, are spread evenly however many there are."""


class LoadSink(Protocol):
    """Who keeps what the pages say. `key` is the endpoint's."""

    def page_started(self, key: str) -> None:
        """Called just before the request is sent; followed by one of the others, or by none if the endpoint leaves."""
        ...

    def page_read(self, key: str, load: Load) -> None: ...

    def page_failed(self, key: str, reason: str, *, down: bool) -> None:
        """`down`: nobody answers there (refused, reset, closed, unreachable, no connection in time)."""
        ...


class ScrapeObserver(Protocol):
    """Who counts and logs. Called from the event loop; must not block or raise."""

    def page_read(self, endpoint: Endpoint, *, duration_s: float, page_bytes: int, missing: Sequence[Missing]) -> None:
        """For counters: a page was read, `missing` are the signals it lacks."""
        ...

    def page_failed(self, endpoint: Endpoint, reason: str, *, duration_s: float) -> None:
        """For counters: there was no page; `reason` is a `Reason`."""
        ...

    def state_changed(self, endpoint: Endpoint, state: str, detail: str) -> None:
        """For a log line: `state` is 'ok', 'partial' or a `Reason`. Not called for a first page that is fine."""
        ...


class _Member:
    """An endpoint of the pool and its loop. One writer: the scraper."""

    __slots__ = ("detail", "endpoint", "extractor", "key", "phase_s", "state", "task", "url")

    def __init__(self, endpoint: Endpoint, extractor: Extractor, url: URL, phase_s: float) -> None:
        self.endpoint = endpoint
        self.key = endpoint.key
        self.extractor = extractor
        self.url = url
        self.phase_s = phase_s
        self.state = OK
        self.detail = ""
        self.task: asyncio.Task[None] | None = None


class Scraper:
    """Fetches and reads the pages of the endpoints it was last given.

    `update` may be called at any time, before `run` too; after it, the sink hears no more of endpoints that left.
    `run` never returns by itself: cancel it to stop; then all requests are ended and all connections closed.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        engines: Engines,
        sink: LoadSink,
        observer: ScrapeObserver,
        *,
        interval_s: float = DEFAULT_INTERVAL_S,
        slow_s: float = DEFAULT_SLOW_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._fetcher = fetcher
        self._engines = engines
        self._sink = sink
        self._observer = observer
        self._interval_s = interval_s
        self._slow_s = max(slow_s, interval_s)
        self._clock = clock
        self._sleep = sleep
        self._members: dict[str, _Member] = {}
        self._leaving: dict[str, set[asyncio.Task[None]]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._joined = 0

    def __repr__(self) -> str:
        failing = sum(member.state not in (OK, PARTIAL) for member in self._members.values())
        running = "running" if self._group else "stopped"
        return f"<Scraper {running}, {len(self._members)} endpoints, {failing} failing, {len(self._leaving)} leaving>"

    def update(self, endpoints: Iterable[Endpoint]) -> None:
        """Scrape these from now on. An endpoint that stays keeps its loop, even if its labels changed."""
        wanted = {endpoint.key: endpoint for endpoint in endpoints}
        for key in [key for key in self._members if key not in wanted]:
            self._stop(self._members.pop(key))
        for key, endpoint in wanted.items():
            member = self._members.get(key)
            if member is not None and member.endpoint is endpoint:
                continue
            extractor = self._engines.of(endpoint.labels)
            if member is not None:
                member.endpoint = endpoint
                member.extractor = extractor
                member.url = self._fetcher.url(endpoint)
                continue
            self._joined += 1
            phase_s = (self._joined * _GOLDEN) % 1.0 * self._interval_s
            member = self._members[key] = _Member(endpoint, extractor, self._fetcher.url(endpoint), phase_s)
            self._start(member)

    async def run(self) -> None:
        """Scrape until cancelled."""
        async with self._fetcher, asyncio.TaskGroup() as group:
            self._group = group
            try:
                for member in self._members.values():
                    self._start(member)
                await asyncio.get_running_loop().create_future()  # a group alone would end with an empty pool
            finally:
                self._group = None  # a group that ends takes no more tasks

    def _start(self, member: _Member) -> None:
        if self._group is not None:
            before = frozenset(self._leaving.get(member.key, ()))
            member.task = self._group.create_task(self._loop(member, before), name=f"scrape {member.key}")

    def _stop(self, member: _Member) -> None:
        task = member.task
        if task is None or task.done():
            return
        task.cancel()
        self._leaving.setdefault(member.key, set()).add(task)
        task.add_done_callback(partial(self._left, member.key))

    def _left(self, key: str, task: asyncio.Task[None]) -> None:
        tasks = self._leaving[key]
        tasks.discard(task)
        if not tasks:
            del self._leaving[key]

    async def _loop(self, member: _Member, before: frozenset[asyncio.Task[None]]) -> None:
        if before:  # the endpoint left and came back: its last request must be over first
            await asyncio.wait(before)
        due = self._clock() + member.phase_s
        while True:
            await self._sleep(max(0.0, due - self._clock()))
            due += await self._scrape(member)
            late = self._clock() - due
            if late > 0:
                due += math.ceil(late / self._interval_s) * self._interval_s

    async def _scrape(self, member: _Member) -> float:
        """One page. Return the seconds from its start to the next one's."""
        self._sink.page_started(member.key)
        started = self._clock()
        try:
            page = await self._fetcher.fetch(member.url)
            load, missing = member.extractor.read(page)
            if load == NOTHING:
                detail = f"no metric of engine {member.extractor.engine} on a page of {len(page)} bytes"
                raise FetchError(Reason.GARBAGE, detail)
        except FetchError as error:
            reason = error.reason
            self._sink.page_failed(member.key, reason, down=reason.down)
            self._observer.page_failed(member.endpoint, reason, duration_s=self._clock() - started)
            self._note(member, reason, error.detail)
            return self._slow_s if reason.costly else self._interval_s
        self._sink.page_read(member.key, load)
        self._observer.page_read(member.endpoint, duration_s=self._clock() - started, page_bytes=len(page), missing=missing)
        if missing or member.state != OK:
            detail = ", ".join(f"{signal} {why}" for signal, why in missing)
            self._note(member, PARTIAL if missing else OK, detail)
        return self._interval_s

    def _note(self, member: _Member, state: str, detail: str) -> None:
        """Tell of a change, and only of a change; for pages that are read, what they lack is part of the state."""
        if state == member.state and (state != PARTIAL or detail == member.detail):
            return
        member.state = state
        member.detail = detail
        self._observer.state_changed(member.endpoint, state, detail)
