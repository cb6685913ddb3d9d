"""Fairness among programs (agents, workflows, tenants) by what they were served: least attained service goes first.

Upstream's formula, over the flows in which somebody waits: `lasWeightService` · (1 − s) + `lasWeightHeadWait` · w, where s is
the service and w the wait of the oldest, each scaled to 0..1 between the least and the most of them. A request costs its prompt
tokens and twice its completion tokens when it has ended; a service decays by half each `lasHalfLifeSeconds`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from extproc.flow.fairness import ByFlow
from extproc.flow.lane import Lane
from extproc.flow.parameters import ProgramAwareParameters
from extproc.flow.roles import FAIRNESS
from extproc.scheduling.plugins.base import Kit, PluginType

COMPLETION_WEIGHT: Final = 2.0
"""What a completion token costs in prompt tokens."""

MOST_PROGRAMS: Final = 10_000
"""Clients choose their names: of more, those that were heard of longest ago are forgotten before their time."""


class _Program:
    __slots__ = ("at_s", "service")

    def __init__(self, at_s: float) -> None:
        self.service = 0.0
        self.at_s = at_s
        """When the service was this much; also when something of the program was heard last."""

    def service_at(self, now_s: float, half_life_s: float) -> float:
        return self.service * 0.5 ** ((now_s - self.at_s) / half_life_s) if self.service else 0.0


class ProgramAware(ByFlow):
    """`program-aware-fairness`. A turn costs time in proportion to the flows in which somebody waits: 0.1 µs each."""

    counts_cost = True

    def __init__(
        self,
        weight_service: float = 0.8,
        weight_head_wait: float = 0.2,
        *,
        half_life_s: float = 60.0,
        forget_s: float = 3600.0,
        sweep_s: float = 300.0,
    ) -> None:
        super().__init__()
        self._weight_service = weight_service
        self._weight_wait = weight_head_wait
        self._half_life_s = half_life_s
        self._forget_s = forget_s
        self._sweep_s = sweep_s
        self._swept_s = 0.0
        self._programs: OrderedDict[str, _Program] = OrderedDict()
        """Who was heard of longest ago first."""

    def turn(self, now_s: float) -> Lane:
        lanes = list(self._lanes.values())
        if len(lanes) == 1:
            return lanes[0]
        services = [self.service(lane.name, now_s) for lane in lanes]
        waits = [now_s - lane.head().came_s for lane in lanes]
        least, shortest = min(services), min(waits)
        by_service = self._weight_service / (max(services) - least) if max(services) > least else 0.0
        by_wait = self._weight_wait / (max(waits) - shortest) if max(waits) > shortest else 0.0
        best, at = float("-inf"), 0
        for index in range(len(lanes)):
            points = by_wait * (waits[index] - shortest) - by_service * (services[index] - least)
            if points > best:
                best, at = points, index
        return lanes[at]

    def taken(self, lane: Lane) -> None:
        pass

    def service(self, flow: str, now_s: float) -> float:
        """What the program was served, in prompt tokens, as far as it is not forgotten."""
        program = self._programs.get(flow)
        return 0.0 if program is None else program.service_at(now_s, self._half_life_s)

    def cost(self, flow: str, tokens: float, now_s: float) -> None:
        program = self._programs.get(flow)
        if program is None:
            program = self._programs[flow] = _Program(now_s)
            if len(self._programs) > MOST_PROGRAMS:
                self._programs.popitem(last=False)
        program.service = program.service_at(now_s, self._half_life_s) + tokens
        program.at_s = now_s
        self._programs.move_to_end(flow)

    def sweep(self, now_s: float) -> bool:
        if now_s - self._swept_s >= self._sweep_s:
            self._swept_s = now_s
            old = [name for name, each in self._programs.items() if now_s - each.at_s >= self._forget_s]
            for name in old:
                del self._programs[name]
        return not self._programs

    def __len__(self) -> int:
        return len(self._programs)


def _make(parameters: ProgramAwareParameters, kit: Kit) -> ProgramAware:
    return ProgramAware(
        parameters.las_weight_service,
        parameters.las_weight_head_wait,
        half_life_s=parameters.las_half_life_seconds,
        forget_s=parameters.eviction_ttl_seconds,
        sweep_s=parameters.eviction_sweep_seconds,
    )


TYPES: Final = (
    PluginType(
        "program-aware-fairness",
        FAIRNESS,
        "most of `lasWeightService` × (1 − service) + `lasWeightHeadWait` × wait of its oldest, each scaled to 0..1; a service "
        "is prompt + 2 × completion tokens, halved each `lasHalfLifeSeconds`",
        ProgramAwareParameters,
        _make,
    ),
)
