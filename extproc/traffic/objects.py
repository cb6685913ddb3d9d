"""What the objects of one pool say of its requests."""

from __future__ import annotations

from extproc.traffic.objectives import ObjectiveTable
from extproc.traffic.rewrites import RewriteTable


class PoolTraffic:
    """The tables of one pool. Written by its discovery only, which replaces a table as a whole; read for each request."""

    __slots__ = ("objectives", "rewrites")

    def __init__(self, rewrites: RewriteTable = RewriteTable(), objectives: ObjectiveTable = ObjectiveTable()) -> None:
        self.rewrites = rewrites
        self.objectives = objectives

    def __repr__(self) -> str:
        return f"<PoolTraffic {self.rewrites!r} {self.objectives!r}>"
