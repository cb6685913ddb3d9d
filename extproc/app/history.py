"""Samples what endpoints are like, for the page and the API: every ten seconds, off the requests' way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from extproc.app.component import Component
from extproc.pool import PoolStore
from extproc.pool.history import EVERY_S, History

PAUSE_S: Final = 0.002
"""Between two steps, so that requests go first."""


class PoolHistory(Component):
    """Keeps `History` equal to what pools were like. There is one where the API's port is open, and no other."""

    def __init__(
        self,
        stores: Mapping[str, PoolStore],
        reuse: Callable[[str], Mapping[str, Sequence[int]]],
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`reuse`: of a pool, as `History.sample` takes it."""
        super().__init__("history of pools")
        self.history = History()
        self._stores = stores
        self._reuse = reuse
        self._every_s = every_s
        self._clock = clock
        self._wall_clock = wall_clock

    async def run(self, ready: asyncio.Event) -> None:
        while True:
            await self.sample()
            await asyncio.sleep(self._every_s - self._clock() % self._every_s)

    async def sample(self) -> None:
        """Once."""
        views = {name: store.views for name, store in self._stores.items()}
        for _ in self.history.sample(views, self._reuse, self._wall_clock(), self._clock()):
            await asyncio.sleep(PAUSE_S)
