"""Endpoints and candidates without a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from extproc.candidates import Candidates, Column, Pick
from extproc.domain import InferenceRequest, RequestHead
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.profile import Explanation, WeightedScorer
from extproc.scheduling.scheduler import Scheduler
from extproc.testing import NAN, REQUEST, candidates, cycle, endpoints

__all__ = ["NAN", "REQUEST", "FixedScorer", "asking", "candidates", "choose", "cycle", "endpoints", "explained"]


def asking(
    headers: Mapping[str, str] | None = None, *, model: str | None = "m", body_bytes: int = 100, priority: int = 0
) -> Cycle:
    """A choice for a request with these headers."""
    head = RequestHead({name: value.encode("latin-1") for name, value in (headers or {}).items()})
    return Cycle(InferenceRequest(head, "/v1/completions", model, body_bytes), priority)


def choose(scheduler: Scheduler, candidates: Candidates, request: InferenceRequest = REQUEST) -> Pick:
    """What serves the request."""
    return scheduler.schedule(Cycle(request), candidates).run.pick


def send(scheduler: Scheduler, candidates: Candidates, request: InferenceRequest = REQUEST) -> Pick:
    """The same, and the decision goes out: plugins hear of it."""
    cycle = Cycle(request)
    scheduled = scheduler.schedule(cycle, candidates)
    scheduler.picked(cycle, scheduled)
    return scheduled.run.pick


def explained(
    scheduler: Scheduler, candidates: Candidates, also: Sequence[str] = (), request: InferenceRequest = REQUEST
) -> Explanation:
    """How that comes about, of the first profile."""
    asked = Cycle(request)
    scheduler.schedule(asked, candidates)
    return scheduler.explain(asked, candidates, also=also)[0]


class FixedScorer:
    """Gives these points, and counts how often it was asked."""

    def __init__(self, *points: float, per_snapshot: bool = False) -> None:
        self.points = list(points)
        self.per_snapshot = per_snapshot
        self.asked = 0

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        self.asked += 1
        if isinstance(candidates.in_flight, list):
            return list(self.points)
        return cast(Column, np.asarray(self.points))

    def weighing(self, weight: float, name: str = "fixed") -> WeightedScorer:
        return WeightedScorer(name, self, weight)
