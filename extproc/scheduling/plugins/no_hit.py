"""`no-hit-lru-scorer`: prompts that nobody has in its cache go round, so that caches fill evenly."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, cast

from extproc.candidates import Candidates, Column
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import PrefixMatch
from extproc.scheduling.plugins.base import SCORER, Figure, PluginType, Scheduled
from extproc.scheduling.plugins.inflight import match_need
from extproc.scheduling.plugins.parameters_tokens import NoHitLruParameters

_PREFILL: Final = "prefill"
"""Upstream's name of the profile that prefills: its pick is warm then, too."""
_ALIKE: Final = 0.5
_DUMPED: Final = 100


class NoHitLru:
    """`no-hit-lru-scorer`."""

    per_snapshot = False

    def __init__(self, match: str, size: int) -> None:
        """`match`: who finds it out. `size` endpoints are remembered."""
        self._match = match
        self._size = size
        self._turns: OrderedDict[str, int] = OrderedDict()
        """When an endpoint got its last cold prompt, in turns; the longest ago first."""
        self._turn = 0
        self._cold = 0

    def _is_cold(self, cycle: Cycle, candidates: Candidates) -> bool:
        matched = candidates.of(cast(PrefixMatch, cycle.facts[self._match]).matched)
        return not columns.highest(matched) > 0

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        number = len(candidates)
        if not self._is_cold(cycle, candidates):
            return columns.like(candidates.in_flight, [_ALIKE] * number)
        if number == 1:
            return columns.like(candidates.in_flight, [1.0])
        turns = [self._turns.get(endpoint.key, 0) for endpoint in candidates.endpoints]
        points = [0.0] * number
        for rank, position in enumerate(sorted(range(number), key=turns.__getitem__)):
            points[position] = 1.0 - rank / (number - 1)
        return columns.like(candidates.in_flight, points)

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        run = scheduled.run
        if not self._is_cold(cycle, run.candidates):
            return
        self._cold += 1
        self._use(run.endpoint)
        prefill = scheduled.runs.get(_PREFILL)
        if prefill is not None and scheduled.primary != _PREFILL:
            self._use(prefill.endpoint)

    def forget(self, endpoint: str) -> None:
        self._turns.pop(endpoint, None)

    def _use(self, key: str) -> None:
        self._turn += 1
        self._turns[key] = self._turn
        self._turns.move_to_end(key)
        if len(self._turns) > self._size:
            self._turns.popitem(last=False)

    def figures(self) -> Iterable[Figure]:
        doc = "Requests whose prompt no candidate had in its cache."
        return [Figure("extproc_cold_requests_total", doc, self._cold, counts=True)]

    def dump(self) -> object:
        return {"cold": self._cold, "longest_ago_first": list(self._turns)[:_DUMPED], "endpoints": len(self._turns)}


TYPES: Final = (
    PluginType(
        "no-hit-lru-scorer",
        SCORER,
        "a candidate has some of the prompt in its cache: 0.5; else 1 − rank / (n − 1), those that never got such a prompt "
        "first, then the longest ago",
        NoHitLruParameters,
        lambda parameters, kit: NoHitLru(kit.source(), parameters.lru_size),
        needs=lambda parameters: (match_need(parameters),),
    ),
)
