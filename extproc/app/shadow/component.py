"""Shadows as a part of the service: copies are taken from the stage, sent in tasks of their own, and let go of when we stop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from extproc.app.component import Component
from extproc.app.shadow.client import Client
from extproc.app.shadow.place import Places
from extproc.app.shadow.sending import Sending, held_bytes
from extproc.app.shadow.states import Hold, Shadowed, States
from extproc.flow import Gate
from extproc.live import Live
from extproc.observability.logs import peer_logger
from extproc.observability.shadow import ShadowMetrics
from extproc.request import ParseOptions
from extproc.shadow import MISSING_EXTRA, has_similarity
from extproc.stages import Copy, PoolOfEndpoints
from extproc.traffic import TrafficTable

_log = peer_logger(__name__)

DRAINING: Final = "draining"
OUT_OF_REGION: Final = "out of region"
"""Rules of residency keep the request where none of the entity's pools can serve it."""
_SWEEP_S: Final = 1.0
_MOST_DRAIN_S: Final = 5.0
"""Copies under way have no longer than this when the service stops: nobody waits for them."""


class Shadows(Component):
    """A `Copier`, with everything behind it. Nothing that goes wrong here is seen by the request that was copied."""

    def __init__(
        self,
        table: Live[TrafficTable],
        pools: Callable[[], Mapping[str, PoolOfEndpoints]],
        gates: Callable[[], Mapping[str, Gate]],
        metrics: ShadowMetrics,
        *,
        options: ParseOptions = ParseOptions(),
        drain_timeout_s: float = _MOST_DRAIN_S,
        verdict: Callable[[str, str, bool | None], None] = lambda endpoint, entity, same: None,
        clock: Callable[[], float] = time.perf_counter,
        wall_clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`pools` and `gates` of the service, which are made later; `clock` is the stages'."""
        super().__init__("shadows")
        self._table = table
        self._states = States(metrics, clock, wall_clock)
        self._client = Client()
        self._drain_s = min(_MOST_DRAIN_S, drain_timeout_s)
        self._sending = Sending(Places(pools, gates), self._client, self._states, draw, options, verdict=verdict, clock=clock)
        self._tasks: dict[asyncio.Task[None], Hold] = {}
        self._draining = False
        self._warned = False

    def __len__(self) -> int:
        """Copies that are under way, or not compared yet."""
        return len(self._tasks)

    def offer(self, copy: Copy) -> bool:
        state = self._states.of(copy.endpoint.name, copy.shadow, copy.entity)
        if not copy.pool and not copy.entity.problem:
            self._states.refused(state, OUT_OF_REGION)
            return False
        hold = DRAINING if self._draining else self._states.take(state, held_bytes(copy))
        if isinstance(hold, str):
            self._states.refused(state, hold)
            return False
        task = asyncio.get_running_loop().create_task(self._send(copy, state, hold), name="shadow")
        self._tasks[task] = hold
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Also of one that was cancelled before it began."""
        self._tasks.pop(task).let_go()

    async def _send(self, copy: Copy, state: Shadowed, hold: Hold) -> None:
        try:
            await self._sending.send(copy, state, hold)
        except Exception:  # a shadow's failure is its own
            _log.exception("a copy for a shadow failed", endpoint=copy.endpoint.name, entity=copy.entity.name)

    # -- for people ----------------------------------------------------------------------------------------------

    def shapes(self, endpoint: str | None = None, *, limit: int = 20, bodies: bool = False) -> list[dict[str, Any]]:
        """The shadows of an endpoint, or of all, each with so many of its last pairs."""
        self._states.forget_bodies()
        shown = []
        for each in self._table.value:
            if endpoint not in (None, each.name):
                continue
            for spec in each.spec.shadows:
                state = self._states.of(each.name, spec, each.entity(spec.entity))
                shape = state.shape(limit, bodies=bodies)
                shown.append(shape if endpoint is not None else {"serving_endpoint": each.name, **shape})
        return shown

    # -- as a component ------------------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        """Let go of what nobody needs any more, each second."""
        revision = -1
        while True:
            if self._table.revision != revision:
                revision = self._table.revision
                self.look()
            self._states.forget_bodies()
            self._client.sweep()
            await asyncio.sleep(_SWEEP_S)

    def look(self) -> None:
        """Forget shadows that there are no more."""
        shadows = {(each.name, spec.entity): spec for each in self._table.value for spec in each.spec.shadows}
        self._states.keep(shadows)
        if not self._warned and not has_similarity() and shadows:
            self._warned = True
            _log.warning("shadows", warning=MISSING_EXTRA)

    async def leave(self) -> None:
        """No copies any more; those under way have a moment."""
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._drain_s)
        await self._cancel()

    async def close(self) -> None:
        self._draining = True
        await self._cancel()
        self._client.close()

    async def _cancel(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
