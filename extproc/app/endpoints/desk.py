"""Serving endpoints while a gateway runs: what is stored is what is served."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Final, Protocol

from extproc.app.component import Component
from extproc.control.desk import Desk
from extproc.control.errors import Unavailable
from extproc.control.store import SchemaTooNew
from extproc.live import Live
from extproc.observability.kept import Grace, Kept, Key
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.traffic import AdapterMap, TrafficTable
from extproc.traffic.segments import Segments

_log = logger(__name__)

_GRACE_S: Final = 300.0
"""How long series of what has gone stay: Prometheus looks back so far for the last value of a series."""
_LOOK_S: Final = 1.0
"""How often it is looked whether adapters and segments have changed, which endpoints may name, and endpoints, of which is
counted."""


class Counting(Protocol):
    """Counts by served entity."""

    def keep(self, kept: Kept) -> None:
        """Forget all others."""
        ...


class CountedEndpoints:
    """Lets those who count forget what has gone."""

    def __init__(self, table: Live[TrafficTable], counted: Sequence[Counting], grace_s: float) -> None:
        self._table = table
        self._counted = counted
        self._revision = table.revision
        self._entities: frozenset[Key] = frozenset()
        self._ends: list[tuple[Key, float]] = []
        """Arms, and when their experiments end."""
        self._arms: frozenset[Key] = frozenset()
        self._graces = Grace(grace_s), Grace(grace_s), Grace(grace_s)
        self._grace_s = grace_s
        self._kept: Kept | None = None
        self._again_s = 0.0
        """When to look once more though nothing has changed: a request of what has gone may have ended since."""
        self._read()

    def look(self, now_s: float, wall_s: float) -> None:
        """From time to time: `now_s` is monotonic, `wall_s` since 1970."""
        if (revision := self._table.revision) != self._revision:
            self._revision = revision
            self._read()
        shown = frozenset([arm for arm, end_s in self._ends if wall_s < end_s])
        there = (self._entities, self._arms, shown)
        seen = [grace.seen(each, now_s) for grace, each in zip(self._graces, there, strict=True)]
        entities, arms, shown = [each for each, _ in seen]
        kept = Kept(entities, arms, shown)
        if any(back for _, back in seen):
            self._keep(Kept(*[each - back for each, back in seen]))
            self._kept = None
        if kept != self._kept or now_s >= self._again_s:
            self._keep(kept)
            self._kept, self._again_s = kept, now_s + self._grace_s

    def _read(self) -> None:
        table = self._table.value
        self._entities = frozenset([(endpoint.name, entity.name) for endpoint in table for entity in endpoint.entities])
        self._ends = [
            ((endpoint.name, f"{experiment.name}/{arm.name}"), math.inf if experiment.end_s is None else experiment.end_s)
            for endpoint in table
            for experiment in endpoint.spec.experiments
            for arm in experiment.arms
        ]
        self._arms = frozenset([arm for arm, _ in self._ends])

    def _keep(self, kept: Kept) -> None:
        for each in self._counted:
            each.keep(kept)


class ServingEndpoints(Component):
    """Opens the desk, follows the store, and compiles anew when what entities and rules may name has changed.

    A store that can't be asked at the start keeps the service unready, as nothing is known of its endpoints; one that is lost
    later does not: the last that was known is served.
    """

    def __init__(
        self,
        desk: Desk,
        table: Live[TrafficTable],
        named: tuple[Live[AdapterMap], Live[Segments]],
        counted: Sequence[Counting],
        *,
        look_s: float = _LOOK_S,
        grace_s: float = _GRACE_S,
    ) -> None:
        super().__init__("serving endpoints")
        self.desk = desk
        self._table = table
        self._named = named
        self._look_s = look_s
        self._counting = CountedEndpoints(table, counted, grace_s)
        self._opened = False

    async def start(self) -> None:
        try:
            await self.desk.open()
            self._opened = True
        except SchemaTooNew as error:
            raise SettingsError([f"--database-url: {error}"]) from None
        except Unavailable as error:
            _log.warning("serving endpoints are not loaded: their store can't be asked", error=str(error))

    def missing(self) -> str | None:
        if self._opened or self._table.revision:
            return None
        return "serving endpoints, whose store can't be asked"

    async def run(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.desk.follow(), name="serving endpoints: store")
            tasks.create_task(self._look(), name="serving endpoints: look")

    async def close(self) -> None:
        await self.desk.close()

    async def _look(self) -> None:
        seen = [each.revision for each in self._named]
        while True:
            await asyncio.sleep(self._look_s)
            if (now := [each.revision for each in self._named]) != seen:
                seen = now
                self.desk.recompile()
            self._counting.look(time.monotonic(), time.time())
