"""Fairness policies without memory: whose turn it is among the flows of a band."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from extproc.flow.lane import Lane
from extproc.flow.roles import FAIRNESS
from extproc.scheduling.plugins.base import PluginType
from extproc.scheduling.plugins.parameters import NoParameters


class GlobalStrict:
    """`global-strict-fairness-policy`. All flows stand in one queue, so the best of all is its head."""

    counts_cost = False

    def __init__(self) -> None:
        self._lane: Lane | None = None

    def lane_of(self, flow: str) -> str:
        return ""

    def filled(self, lane: Lane, now_s: float) -> None:
        self._lane = lane

    def emptied(self, lane: Lane, now_s: float) -> None:
        self._lane = None

    def turn(self, now_s: float) -> Lane:
        lane = self._lane
        assert lane is not None, "nobody waits"
        return lane

    def taken(self, lane: Lane) -> None:
        pass

    def cost(self, flow: str, tokens: float, now_s: float) -> None:
        pass

    def sweep(self, now_s: float) -> bool:
        return True


class ByFlow:
    """A lane for each flow, those in which somebody waits at hand: what policies that tell flows apart have in common."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[str, Lane] = OrderedDict()
        """By when somebody first waited in them, unless they are moved. A dict that is taken from at its beginning would be
        walked over its gaps."""

    def lane_of(self, flow: str) -> str:
        return flow

    def filled(self, lane: Lane, now_s: float) -> None:
        self._lanes[lane.name] = lane

    def emptied(self, lane: Lane, now_s: float) -> None:
        del self._lanes[lane.name]


class RoundRobin(ByFlow):
    """`round-robin-fairness-policy`. A flow that comes anew is last, so nobody gains by leaving and coming again."""

    counts_cost = False

    def turn(self, now_s: float) -> Lane:
        return next(iter(self._lanes.values()))

    def taken(self, lane: Lane) -> None:
        self._lanes.move_to_end(lane.name)

    def cost(self, flow: str, tokens: float, now_s: float) -> None:
        pass

    def sweep(self, now_s: float) -> bool:
        return True


TYPES: Final = (
    PluginType(
        "global-strict-fairness-policy",
        FAIRNESS,
        "knows no flows: the first of all by the ordering policy",
        NoParameters,
        lambda parameters, kit: GlobalStrict(),
    ),
    PluginType(
        "round-robin-fairness-policy",
        FAIRNESS,
        "one of each flow in turn",
        NoParameters,
        lambda parameters, kit: RoundRobin(),
    ),
)
