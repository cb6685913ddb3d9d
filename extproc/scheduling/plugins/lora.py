"""Plugins that go by which LoRA adapters an endpoint has: those of its batch, those that wait, and how many fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.candidates import Candidates, Column
from extproc.domain import Load
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import FILTER, SCORER, Kit, PluginType, Random
from extproc.scheduling.plugins.load_filters import with_trial
from extproc.scheduling.plugins.parameters import NoParameters
from extproc.scheduling.plugins.parameters_load import LoraFilterParameters

_ACTIVE: Final = 1.0
_ROOM: Final = 0.8
_WAITING: Final = 0.6


def points_of(load: Load, model: str) -> float:
    """What an endpoint with this page is worth to a request for this model."""
    running, waiting, most = load.running_loras or (), load.waiting_loras or (), load.max_loras or 0
    if model in running:
        return _ACTIVE
    if len(running) + len(waiting) < most:
        return _ROOM
    return _WAITING if model in waiting else 0.0


class LoraScorer:
    """`lora-affinity-scorer`."""

    per_snapshot = False

    def __init__(self) -> None:
        self._stamp: object = None
        self._by_model: dict[str, Column] = {}
        """For the candidates of that stamp."""

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        model = cycle.asked.model or ""
        if candidates.stamp is not self._stamp:
            self._stamp, self._by_model = candidates.stamp, {}
        known = self._by_model.get(model)
        if known is None:
            if len(self._by_model) >= _MOST_MODELS:
                self._by_model = {}
            loads = candidates.loads
            points = [points_of(load, model) for load in loads] if loads else [0.0] * len(candidates)
            known = self._by_model[model] = columns.like(candidates.in_flight, points)
        return known


_MOST_MODELS: Final = 64
"""Names of models are a client's, so no more are remembered."""


class LoraFilter:
    """`lora-affinity-filter`."""

    fixed = False
    by_load = True

    def __init__(self, threshold: float, random: Random) -> None:
        self._threshold = threshold
        self._random = random

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        model = cycle.asked.model or ""
        having: list[int] = []
        room: list[int] = []
        for position, load in enumerate(candidates.loads):
            running, waiting = load.running_loras or (), load.waiting_loras or ()
            if model in running or model in waiting:
                having.append(position)
            elif len(running) + len(waiting) < (load.max_loras or 0):
                room.append(position)
        if not having and not room:
            return None
        if having and room:
            return with_trial(having if self._random() < self._threshold else room, candidates)
        return with_trial(having or room, candidates)


def _filter(parameters: LoraFilterParameters, kit: Kit) -> LoraFilter:
    return LoraFilter(parameters.threshold, kit.random)


TYPES: Final = (
    PluginType(
        "lora-affinity-scorer",
        SCORER,
        "1 where the model is an adapter of the batch; else 0.8 where adapters of batch and queue are fewer than fit; else 0.6 "
        "where it waits; else 0",
        NoParameters,
        lambda parameters, kit: LoraScorer(),
    ),
    PluginType(
        "lora-affinity-filter",
        FILTER,
        "keeps endpoints that have the adapter or, with a chance of 1 − `threshold`, those with room for it; where there are "
        "none of one kind the other, of neither all",
        LoraFilterParameters,
        _filter,
    ),
)
