"""What the objects of one pool say of its requests."""

from __future__ import annotations

from extproc.live import Live, LiveWriter
from extproc.traffic.objectives import ObjectiveTable
from extproc.traffic.rewrites import RewriteTable


class PoolTraffic:
    """The tables of one pool, as they are read for each request."""

    __slots__ = ("objectives", "rewrites")

    def __init__(self, rewrites: Live[RewriteTable], objectives: Live[ObjectiveTable]) -> None:
        self.rewrites = rewrites
        self.objectives = objectives

    def __repr__(self) -> str:
        return f"<PoolTraffic {self.rewrites.value!r} {self.objectives.value!r}>"


class PoolTables:
    """The writers of one pool's tables: whoever discovers its objects has them."""

    __slots__ = ("objectives", "rewrites", "traffic")

    def __init__(self, pool: str = "") -> None:
        self.rewrites = LiveWriter(RewriteTable(), f"rewrites of pool {pool}")
        self.objectives = LiveWriter(ObjectiveTable(), f"objectives of pool {pool}")
        self.traffic = PoolTraffic(self.rewrites.live, self.objectives.live)
        """For readers."""
