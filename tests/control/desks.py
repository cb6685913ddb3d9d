"""Desks for tests: a catalog of a few models, a clock that ticks, ids that count."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any

from extproc.control.desk import Desk
from extproc.control.rollouts import Rollouts
from extproc.control.store import Store
from extproc.live import LiveWriter
from extproc.rollouts.judge import Look
from extproc.rollouts.plan import Webhook
from extproc.rollouts.samples import Pair
from extproc.storage.memory import MemoryStore
from extproc.traffic import Catalog, CatalogEntry, Route, RouteTable, Served, TrafficTable

START_MS = 1_700_000_000_000


def catalog(*models: str) -> Catalog:
    """`model-A`, `model-B`, `model-C` in the pools `a`, `b`, `c`; and `cat.schema.m`, which has the versions 1 and 2."""
    routes = [Route((f"model-{each.upper()}",), each) for each in (models or ("a", "b", "c"))]
    entries = [CatalogEntry("cat.schema.m", version, Served(f"m-{version}", "a")) for version in ("1", "2")]
    return Catalog(entries, RouteTable(routes))


async def _nobody(hook: Webhook, payload: Mapping[str, Any]) -> bool:
    return False


class Bench:
    """A desk and what is around it."""

    def __init__(self, store: Store | None = None, **words: Any) -> None:
        self.store = MemoryStore() if store is None else store
        self.catalog = catalog()
        self.writer: LiveWriter[TrafficTable] = LiveWriter(TrafficTable(), "serving endpoints")
        ticks, ids = itertools.count(START_MS), itertools.count(1)
        words.setdefault("new_id", lambda: f"id{next(ids)}")
        self.desk = Desk(self.store, lambda: self.catalog, self.writer, clock=lambda: next(ticks), **words)
        self.look = Look(Pair())
        """What rollouts see of both arms."""
        self.later_s = 0.0
        """How far their clock is ahead."""
        self.rollouts = Rollouts(
            self.desk, self.store, lambda endpoint, plan: self.look, _nobody, clock=lambda: time.time() + self.later_s
        )
        """Whose arms have no requests."""

    @property
    def table(self) -> TrafficTable:
        return self.writer.live.value

    def shares(self, name: str) -> dict[str, int]:
        """What is served."""
        endpoint = self.table.get(name)
        assert endpoint is not None
        return {entity.name: entity.percentage for entity in endpoint.entities}


def document(name: str = "chat", **shares: int) -> dict[str, Any]:
    """An endpoint whose entities `a`, `b`, `c` serve the models of these letters."""
    shares = shares or {"a": 90, "b": 10}
    entities = [{"name": each, "entity_name": f"model-{each.upper()}"} for each in shares]
    return {"name": name, "config": {"served_entities": entities, **split(**shares)}}


def split(**shares: int) -> dict[str, Any]:
    """A traffic config."""
    routes = [{"served_entity_name": each, "traffic_percentage": share} for each, share in shares.items()]
    return {"traffic_config": {"routes": routes}}
