"""Serving endpoints while a gateway runs: what is stored is what is served."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final, Protocol

from extproc.app.component import Component
from extproc.control.desk import Desk
from extproc.control.errors import Unavailable
from extproc.control.store import SchemaTooNew
from extproc.live import Live
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.traffic import AdapterMap, TrafficTable
from extproc.traffic.segments import Segments

_log = logger(__name__)

_LOOK_S: Final = 1.0
"""How often it is looked whether adapters and segments have changed, which endpoints may name, and endpoints, of which is
counted."""


class Counting(Protocol):
    """Counts by served entity."""

    def keep(self, entities: Collection[tuple[str, str]]) -> None:
        """Forget all but these (endpoint, entity)."""
        ...


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
    ) -> None:
        super().__init__("serving endpoints")
        self.desk = desk
        self._table = table
        self._named = named
        self._counted = counted
        self._look_s = look_s
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
        seen, known = [each.revision for each in self._named], self._table.revision
        while True:
            await asyncio.sleep(self._look_s)
            if (now := [each.revision for each in self._named]) != seen:
                seen = now
                self.desk.recompile()
            if self._table.revision != known:
                known = self._table.revision
                there = {(endpoint.name, entity.name) for endpoint in self._table.value for entity in endpoint.entities}
                for metrics in self._counted:
                    metrics.keep(there)
