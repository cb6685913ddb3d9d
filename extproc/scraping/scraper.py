"""The members of a pool and their pages: what each says goes to the store.

    update(endpoints) ─▶ Driver: whose turn it is ─▶ Line.ask ─▶ PageReader.read ─▶ LoadSink
                                                        └─▶ no page ─┴────────────▶ ScrapeObserver

Endpoints are spread over the interval, keep their place in it, and never have two requests under way: a slow page costs its
endpoint the rounds it misses. One that fails is asked again at the interval, and then after pauses that grow (`rounds`), until
a page comes or something hints that one would: `hint`, or discovery, which names it anew.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from extproc.domain import Endpoint, Load
from extproc.scraping.driver import Asked, Driver, Timer
from extproc.scraping.engines import NOTHING, Missing
from extproc.scraping.fetch import Fetcher, FetchError, Line, Reason

DEFAULT_INTERVAL_S: Final = 0.05
DEFAULT_SLOW_S: Final = 1.0

NEWS: Final = 20
"""Changes of state that are told one by one in `NEWS_S`; of more it is told how many."""
NEWS_S: Final = 10.0

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

    def page_failed(self, key: str, reason: str, *, down: bool, alive: bool) -> None:
        """`down`: nobody answers there (refused, reset, closed, unreachable, no connection in time); `alive`: somebody does,
        only not with a page."""
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

    def states_changed(self, counts: Mapping[str, int]) -> None:
        """For a log line: so many more endpoints came into these states within `NEWS_S`, and were not told of."""
        ...


class Reader(Protocol):
    """Reads the pages of one endpoint."""

    @property
    def wants(self) -> str:
        """What it looks for, for a message."""
        ...

    def read(self, page: bytes) -> tuple[Load, tuple[Missing, ...]]:
        """What the page says, and what it lacks; NOTHING for a page of something else. What is as the last time is the very
        same object."""
        ...


class Readers(Protocol):
    """Who reads which endpoint's pages."""

    def reader(self, endpoint: Endpoint, last: Reader | None = None) -> Reader:
        """`last`: the endpoint's reader so far, which is returned while it is the right one."""
        ...


class _Member(Asked):
    """An endpoint of the pool. One writer: the scraper."""

    __slots__ = ("_scraper", "began_s", "detail", "endpoint", "key", "reader", "state")

    def __init__(self, scraper: Scraper, endpoint: Endpoint, reader: Reader) -> None:
        super().__init__(scraper.line(endpoint, self), scraper.interval_s)
        self._scraper = scraper
        self.endpoint = endpoint
        self.key = endpoint.key
        self.reader = reader
        self.state = OK
        self.detail = ""
        self.began_s = 0.0

    def ask(self) -> None:
        self._scraper.asked(self)

    # -- as the listener of its line ---------------------------------------------------------------------------------

    def reached(self) -> None:
        self._scraper.reached(self)

    def page(self, data: bytes) -> None:
        try:
            self._scraper.answered(self, data)
        except Exception as fault:
            self._scraper.broken(fault)

    def no_page(self, error: FetchError) -> None:
        try:
            self._scraper.failed(self, error)
        except Exception as fault:
            self._scraper.broken(fault)


class Scraper:
    """Fetches and reads the pages of the endpoints it was last given.

    `update` may be called at any time, before `run` too; after it, the sink hears no more of endpoints that left.
    `run` never returns by itself: cancel it to stop; then all requests are ended and all connections closed. It raises what
    the sink or the observer raise, which are faults of ours.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        readers: Readers,
        sink: LoadSink,
        observer: ScrapeObserver,
        *,
        interval_s: float = DEFAULT_INTERVAL_S,
        slow_s: float = DEFAULT_SLOW_S,
        driver: Driver | None = None,
    ) -> None:
        """`driver`: the one that all scrapers of the process share."""
        self._fetcher = fetcher
        self._readers = readers
        self._sink = sink
        self._observer = observer
        self.interval_s = interval_s
        self._slow_s = max(slow_s, interval_s)
        self._driver = driver or Driver()
        self._members: dict[str, _Member] = {}
        self._running = False
        self._broken: asyncio.Future[None] | None = None
        self._joined = 0
        self._news: Timer | None = None
        """Ends the time in which `NEWS` changes are told."""
        self._told = 0
        self._untold: Counter[str] = Counter()

    def __repr__(self) -> str:
        failing = sum(member.state not in (OK, PARTIAL) for member in self._members.values())
        running = "running" if self._running else "stopped"
        return f"<Scraper {running}, {len(self._members)} endpoints, {failing} failing>"

    @property
    def stretch(self) -> float:
        """As of Rounds."""
        return self._driver.rounds.stretch

    def update(self, endpoints: Iterable[Endpoint]) -> None:
        """Scrape these from now on. An endpoint that stays keeps its place, even if its labels changed."""
        wanted = {endpoint.key: endpoint for endpoint in endpoints}
        for key in [key for key in self._members if key not in wanted]:
            member = self._members.pop(key)
            if self._running:
                self._driver.leave(member)
        for key, endpoint in wanted.items():
            known = self._members.get(key)
            if known is None:
                self._join(_Member(self, endpoint, self._readers.reader(endpoint)))
            elif known.endpoint is not endpoint:
                self._renew(known, endpoint)

    def hint(self, key: str) -> None:
        """Something says that this endpoint is back: if it failed, ask it now."""
        member = self._members.get(key)
        if member is not None and self._running:
            self._driver.hint(member)

    async def run(self) -> None:
        """Scrape until cancelled."""
        self._broken = asyncio.get_running_loop().create_future()
        self._running = True
        try:
            for member in self._members.values():
                self._start(member)
            await self._broken
        finally:
            self._running = False
            for member in self._members.values():
                self._driver.leave(member)
            if self._news is not None:
                self._news.cancel()
                self._news = None

    def _join(self, member: _Member) -> None:
        self._members[member.key] = member
        if self._running:
            self._start(member)

    def _start(self, member: _Member) -> None:
        self._joined += 1
        self._driver.join(member, (self._joined * _GOLDEN) % 1.0 * self.interval_s)

    def _renew(self, member: _Member, endpoint: Endpoint) -> None:
        before = member.endpoint
        elsewhere = (before.metrics_port, before.node_address) != (endpoint.metrics_port, endpoint.node_address)
        member.endpoint = endpoint
        member.reader = self._readers.reader(endpoint, member.reader)
        if elsewhere:
            self._driver.restart(member, self.line(endpoint, member))
        self.hint(member.key)

    # -- of a member -------------------------------------------------------------------------------------------------

    def line(self, endpoint: Endpoint, member: _Member) -> Line:
        """A new line to the endpoint's page."""
        return self._fetcher.line(endpoint, member, self._driver.rounds.spent)

    def asked(self, member: _Member) -> None:
        """It is the member's turn."""
        self._sink.page_started(member.key)
        member.began_s = self._driver.clock()
        member.line.ask()

    def reached(self, member: _Member) -> None:
        """There is a connection."""
        self._driver.reached(member)

    def answered(self, member: _Member, page: bytes) -> None:
        """A page came."""
        load, missing = member.reader.read(page)
        if load == NOTHING:
            detail = f"no {member.reader.wants} on a page of {len(page)} bytes"
            self.failed(member, FetchError(Reason.GARBAGE, detail))
            return
        self._driver.answered(member)
        self._sink.page_read(member.key, load)
        duration_s = self._driver.clock() - member.began_s
        self._observer.page_read(member.endpoint, duration_s=duration_s, page_bytes=len(page), missing=missing)
        if missing or member.state != OK:
            detail = ", ".join(f"{signal} {why}" for signal, why in missing)
            self._note(member, PARTIAL if missing else OK, detail)

    def failed(self, member: _Member, error: FetchError) -> None:
        """There is no page."""
        reason = error.reason
        self._driver.failed(member, self._slow_s if reason.costly else self.interval_s)
        self._sink.page_failed(member.key, reason, down=reason.down, alive=reason.alive)
        self._observer.page_failed(member.endpoint, reason, duration_s=self._driver.clock() - member.began_s)
        self._note(member, reason, error.detail)

    def broken(self, fault: Exception) -> None:
        """A fault of ours: the end of `run`."""
        if self._broken is not None and not self._broken.done():
            self._broken.set_exception(fault)

    def _note(self, member: _Member, state: str, detail: str) -> None:
        """Tell of a change, and only of a change; for pages that are read, what they lack is part of the state."""
        if state == member.state and (state != PARTIAL or detail == member.detail):
            return
        member.state = state
        member.detail = detail
        if self._news is None:
            self._told = 0
            self._news = self._driver.later(NEWS_S, self._tell_rest)
        self._told += 1
        if self._told <= NEWS:
            self._observer.state_changed(member.endpoint, state, detail)
        else:
            self._untold[state] += 1

    def _tell_rest(self) -> None:
        self._news = None
        untold, self._untold = self._untold, Counter()
        if untold:
            self._observer.states_changed(untold)
