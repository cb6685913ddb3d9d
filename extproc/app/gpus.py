"""The second pages of a pool's endpoints, where its config asks for them: the DCGM exporters'."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from extproc.domain import Endpoint
from extproc.observability.gpus import GpuPageMetrics
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger
from extproc.pool import PoolStore
from extproc.scraping.driver import Driver
from extproc.scraping.engines import Missing
from extproc.scraping.fetch import HttpFetcher
from extproc.scraping.gpus import Beside, Gpus
from extproc.scraping.scraper import Scraper

_log = logger(__name__)

PAGES_MISSED: Final = 3
"""So many pages may be missed until what the last one said is unknown, if that is longer than --metrics-staleness-threshold."""


@dataclass(frozen=True)
class GpuParts:
    """Where the exporters are."""

    fetcher: HttpFetcher
    interval_s: float


class GpuPages:
    """Asks the exporters, by the driver that asks the engines. `sink` is to hear the engines' pages instead of the store."""

    def __init__(
        self,
        parts: GpuParts,
        store: PoolStore,
        instruments: Instruments,
        driver: Driver,
        clock: Callable[[], float],
        *,
        stale_after_s: float,
    ) -> None:
        stale_s = max(stale_after_s, PAGES_MISSED * parts.interval_s)
        self.sink = Beside(store, clock, stale_after_s=stale_s)
        self._pool = store.name
        self._metrics = GpuPageMetrics(instruments, store.name)
        self._scraper = Scraper(parts.fetcher, Gpus(), self.sink.others, self, interval_s=parts.interval_s, driver=driver)

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """These are the pool's from now on."""
        self.sink.keep({endpoint.key for endpoint in endpoints})
        self._scraper.update(endpoints)

    async def run(self) -> None:
        """Until cancelled."""
        await self._scraper.run()

    # -- as the observer of scraping -----------------------------------------------------------------------------

    def page_read(self, endpoint: Endpoint, *, duration_s: float, page_bytes: int, missing: Sequence[Missing]) -> None:
        self._metrics.read.value += 1

    def page_failed(self, endpoint: Endpoint, reason: str, *, duration_s: float) -> None:
        self._metrics.failed(reason)

    def state_changed(self, endpoint: Endpoint, state: str, detail: str) -> None:
        say = _log.info if state == "ok" else _log.warning
        say("endpoint GPU metrics", pool=self._pool, endpoint=endpoint.key, name=endpoint.name, state=state, detail=detail)

    def states_changed(self, counts: Mapping[str, int]) -> None:
        _log.warning("endpoint GPU metrics of more endpoints", pool=self._pool, states=dict(counts))
