"""A pool with all its parts: who is in it, how they are doing, what is known, and how to choose."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.app.gpus import GpuPages
from extproc.app.pool_parts import PoolParts
from extproc.app.watching import FileErrors
from extproc.discovery.file import FileDiscovery
from extproc.discovery.kubernetes.endpoints import KubernetesDiscovery
from extproc.discovery.static import StaticDiscovery
from extproc.domain import Endpoint
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger
from extproc.observability.pools import PoolMetrics, PoolRow, ScrapeMetrics
from extproc.observability.tables import TableMetrics
from extproc.pool import PoolStore
from extproc.scraping.driver import Driver
from extproc.scraping.engines import Missing
from extproc.scraping.scraper import LoadSink, Scraper
from extproc.traffic import PoolTables

_log = logger(__name__)

FIRST_ROUND_S: Final = 2.0
"""From a pool's first endpoints on, how long it may be unready for the sake of those that were not asked yet: some hang."""

_NAMED: Final = 20
"""Endpoints that a log line names; of more it says how many."""


def scrape_driver(instruments: Instruments) -> Driver:
    """What asks all endpoints of the process, and the gauge that says how late it is."""
    driver = Driver()
    gauge = instruments.gauge(
        "extproc_scrape_interval_stretch",
        "How many times longer than asked for the time between two pages of an endpoint is, because scraping has used up its "
        "share of the core; 1 is on time.",
    ).child()

    def refresh() -> None:
        gauge.value = driver.rounds.stretch

    instruments.before_collect.append(refresh)
    return driver


class Pool:
    """Runs a pool: endpoints come in from discovery, pages from scraping; both end in the store."""

    def __init__(
        self,
        store: PoolStore,
        parts: PoolParts,
        instruments: Instruments,
        files: FileErrors,
        *,
        interval_s: float,
        driver: Driver,
        cluster: Cluster | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._clock = clock
        self._since_s: float | None = None
        """When it got its first endpoints."""
        self.changed: Callable[[], None] = lambda: None
        """Called when the pool's endpoints changed."""
        self._cluster = cluster
        self.source = parts.kubernetes
        """Where in Kubernetes the pool is; None when it is elsewhere."""
        self._keys: frozenset[str] = frozenset()
        self.tables = PoolTables(store.name)
        tables = TableMetrics.of(instruments)
        tables.watch(self.tables.rewrites)
        tables.watch(self.tables.objectives)
        """What the pool's rewrites and objectives say. Discovery replaces its tables."""
        self.interval_s = parts.source.interval or interval_s
        """From one page of an endpoint to the next."""
        self._metrics = ScrapeMetrics(instruments, store.name)
        PoolMetrics.of(instruments).watch(store.name, self._rows)
        self._gpus: GpuPages | None = None
        sink: LoadSink = store
        if parts.gpus is not None:
            self._gpus = GpuPages(parts.gpus, store, instruments, driver, clock, stale_after_s=store.stale_after_s)
            sink = self._gpus.sink
        self._scraper = Scraper(parts.fetcher, parts.engines, sink, self, interval_s=self.interval_s, driver=driver)
        store.hint = self._scraper.hint
        self._files = files
        self._discovery = self._discover(parts)

    def _discover(self, parts: PoolParts) -> FileDiscovery | StaticDiscovery | KubernetesDiscovery:
        if parts.kubernetes is not None:
            assert self._cluster is not None, "a pool of Kubernetes needs access to it"
            return KubernetesDiscovery(parts.kubernetes, self, self._cluster.contact, self._cluster.errors)
        if parts.file is None:
            return StaticDiscovery(parts.targets, self, on_error=self._name_failed)
        path = parts.file.path
        discovery = FileDiscovery(
            parts.file,
            self,
            on_error=lambda problems: self._files.broken(path, problems),
            on_good=lambda: self._files.good(path),
            on_name=self._name_failed,
        )
        discovery.load()
        return discovery

    async def run(self) -> None:
        """Discover and scrape until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_discovery(), name=f"discovery {self.store.name}")
            group.create_task(self._scraper.run(), name=f"scraping {self.store.name}")
            if self._gpus is not None:
                group.create_task(self._gpus.run(), name=f"scraping GPUs of {self.store.name}")

    async def _run_discovery(self) -> None:
        if isinstance(self._discovery, KubernetesDiscovery):
            assert self._cluster is not None, "a pool of Kubernetes needs access to it"
            client = self._cluster.client
            await self._discovery.run(client, client.namespace)
        else:
            await self._discovery.run()

    def unready(self) -> str | None:
        """Why the pool can't be picked from yet, None when every endpoint was asked once, or `FIRST_ROUND_S` are over: of those
        that hang nothing is known then, as later.

        A pool of Kubernetes may have no endpoints: that its pods are all gone is an answer, and requests get a 503.
        """
        if isinstance(self._discovery, KubernetesDiscovery):
            if why := self._discovery.unready():
                return why
        elif not len(self.store):
            return f"pool {self.store.name!r} has no endpoints yet"
        untried = self.store.untried
        if self._since_s is not None and self._clock() - self._since_s >= FIRST_ROUND_S:
            return None
        return f"pool {self.store.name!r}: {untried} of {len(self.store)} endpoints not asked yet" if untried else None

    def lost(self) -> str | None:
        """Why a pool that was ready is none any more: its InferencePool was deleted."""
        return self._discovery.unready() if isinstance(self._discovery, KubernetesDiscovery) else None

    # -- as the sink of discovery ------------------------------------------------------------------------------------

    def replace_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        before, self._keys = self._keys, frozenset(endpoint.key for endpoint in endpoints)
        if self._keys and self._since_s is None:
            self._since_s = self._clock()
        self.store.replace_endpoints(endpoints)
        self._scraper.update(endpoints)
        if self._gpus is not None:
            self._gpus.update(endpoints)
        _log.info(
            "endpoints changed",
            pool=self.store.name,
            endpoints=len(self._keys),
            added=_few(self._keys - before),
            removed=_few(before - self._keys),
        )
        self.changed()

    def _name_failed(self, name: str, problem: str | None) -> None:
        if problem is None:
            _log.info("name resolves", pool=self.store.name, name=name)
        else:
            _log.warning("name does not resolve, its last addresses stay", pool=self.store.name, name=name, error=problem)

    # -- as the observer of scraping ---------------------------------------------------------------------------------

    def page_read(self, endpoint: Endpoint, *, duration_s: float, page_bytes: int, missing: Sequence[Missing]) -> None:
        self._metrics.read.value += 1
        self._metrics.duration.observe(duration_s)
        for signal, why in missing:
            self._metrics.missing(signal, why)

    def page_failed(self, endpoint: Endpoint, reason: str, *, duration_s: float) -> None:
        self._metrics.failed(reason)

    def state_changed(self, endpoint: Endpoint, state: str, detail: str) -> None:
        say = _log.info if state == "ok" else _log.warning
        say(
            "endpoint metrics",
            pool=self.store.name,
            endpoint=endpoint.key,
            name=endpoint.name,
            state=state,
            detail=detail,
        )

    def states_changed(self, counts: Mapping[str, int]) -> None:
        _log.warning("endpoint metrics of more endpoints", pool=self.store.name, states=dict(counts))

    # -- as the source of the pool's gauges --------------------------------------------------------------------------

    def _rows(self) -> Iterator[PoolRow]:
        return (
            PoolRow(
                view.endpoint.name,
                load=view.load,
                in_flight=view.in_flight,
                age_s=view.age_s,
                fresh=view.fresh and not view.down,
                down=view.down,
            )
            for view in self.store.views()
        )


class Pools(Component):
    """All pools of a service. One that is lost does not matter while another is there."""

    def __init__(
        self, pools: Sequence[Pool], elsewhere: Collection[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`elsewhere`: pools that are only waited for at the start, `FIRST_ROUND_S`: those of other regions, whose outage is to
        keep nobody from being served here.
        """
        super().__init__("pools")
        self.pools = tuple(pools)
        self._elsewhere = elsewhere
        self._clock = clock
        self._began_s: float | None = None
        for pool in pools:
            pool.changed = lambda: self.changed()

    def missing(self) -> str | None:
        if self._began_s is None:
            self._began_s = self._clock()
        wanted = self.pools
        if self._elsewhere and self._clock() - self._began_s >= FIRST_ROUND_S:
            wanted = tuple(pool for pool in self.pools if pool.store.name not in self._elsewhere)
        return "; ".join(filter(None, [pool.unready() for pool in wanted])) or None

    def unready(self) -> str | None:
        lost = [why for pool in self.pools if (why := pool.lost())]
        return "; ".join(lost) if lost and len(lost) == len(self.pools) else None

    async def run(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            for pool in self.pools:
                group.create_task(pool.run(), name=f"pool {pool.store.name}")


def _few(keys: frozenset[str]) -> list[str] | int:
    """For a log line: the keys, or how many they are."""
    return sorted(keys) if len(keys) <= _NAMED else len(keys)
