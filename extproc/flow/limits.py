"""Usage limit policies: up to which saturation of the pool each band may go on. The formulas are in the rows at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.flow.parameters import HoldbackParameters, StaticLimitParameters
from extproc.flow.roles import USAGE_LIMIT
from extproc.scheduling.plugins.base import PluginType
from extproc.scheduling.plugins.parameters import NoParameters


class StaticLimit:
    """`static-usage-limit-policy`."""

    alternates = False

    def __init__(self, threshold: float = 1.0) -> None:
        self._threshold = threshold

    def ceilings(self, saturation: float, priorities: Sequence[int], tick: int) -> Sequence[float]:
        return [self._threshold] * len(priorities)


class Holdback:
    """`priority-holdback-policy`. A single band has the highest ceiling."""

    alternates = False

    def __init__(self, lowest: float, highest: float = 1.0, *, by_value: bool = False) -> None:
        self._lowest = lowest
        self._highest = highest
        self._by_value = by_value

    def ceilings(self, saturation: float, priorities: Sequence[int], tick: int) -> Sequence[float]:
        last = len(priorities) - 1
        if last < 1:
            return [self._highest] * len(priorities)
        span = self._highest - self._lowest
        if self._by_value:
            least = priorities[last]
            whole = priorities[0] - least
            return [self._lowest + span * (priority - least) / whole for priority in priorities]
        return [self._highest - span * rank / last for rank in range(last + 1)]


class SoftReflective:
    """`soft-reflective-ceiling-policy`. All bands that are gated open at the same ticks, or a higher one that is closed would
    hold a lower one that is open: the walk over the bands ends at the first that is held."""

    alternates = True

    def ceilings(self, saturation: float, priorities: Sequence[int], tick: int) -> Sequence[float]:
        last = len(priorities) - 1
        if last < 1:
            return [1.0] * len(priorities)
        gated = 0.0
        if saturation < 1.0:
            period = max(1, round(saturation / (1.0 - saturation + _TINY)))
            gated = 1.0 if tick % period == 0 else 0.0
        return [1.0 if not rank or saturation < 1.0 - rank * saturation / last else gated for rank in range(last + 1)]


_TINY: Final = 1e-9

TYPES: Final = (
    PluginType(
        "static-usage-limit-policy",
        USAGE_LIMIT,
        "`threshold` for every band",
        StaticLimitParameters,
        lambda parameters, kit: StaticLimit(parameters.threshold),
    ),
    PluginType(
        "priority-holdback-policy",
        USAGE_LIMIT,
        "from `maxCeiling` for the highest band down to `minCeiling` for the lowest, by rank or by the priorities' values",
        HoldbackParameters,
        lambda parameters, kit: Holdback(parameters.min_ceiling, parameters.max_ceiling, by_value=parameters.domain == "value"),
    ),
    PluginType(
        "soft-reflective-ceiling-policy",
        USAGE_LIMIT,
        "band i of N: 1 − i × saturation / (N − 1); from there on it is open one time in saturation / (1 − saturation)",
        NoParameters,
        lambda parameters, kit: SoftReflective(),
    ),
)
