"""Which requests in flight may be taken back for more important ones, and in which order. What each goes by is in the rows."""

from __future__ import annotations

from typing import Final

from extproc.flow.roles import EVICTION_FILTER, EVICTION_ORDER
from extproc.scheduling.plugins.base import PluginType
from extproc.scheduling.plugins.parameters import NoParameters


class Sheddable:
    """`sheddable-eviction-filter`."""

    def accepts(self, priority: int) -> bool:
        return priority < 0


class PriorityThenTime:
    """`priority-then-time-eviction-order-policy`. Who was sent last has had the least work done for it."""

    def key(self, priority: int, sent_s: float) -> tuple[float, float]:
        return (float(priority), -sent_s)


TYPES: Final = (
    PluginType(
        "sheddable-eviction-filter",
        EVICTION_FILTER,
        "requests of a priority below 0",
        NoParameters,
        lambda parameters, kit: Sheddable(),
    ),
    PluginType(
        "priority-then-time-eviction-order-policy",
        EVICTION_ORDER,
        "the lowest priority first; among equals who was sent last",
        NoParameters,
        lambda parameters, kit: PriorityThenTime(),
    ),
)
