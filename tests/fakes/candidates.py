"""Endpoints and candidates without a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from extproc.candidates import Candidates, Column, Pick
from extproc.domain import Endpoint, InferenceRequest, Load, RequestHead
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.scheduler import Explanation, Scheduler, WeightedScorer

NAN = float("nan")
REQUEST = InferenceRequest(RequestHead({}), "/v1/completions", "m")


def cycle(request: InferenceRequest = REQUEST, *, priority: int = 0) -> Cycle:
    """A choice that begins."""
    return Cycle(request, priority)


def asking(
    headers: Mapping[str, str] | None = None, *, model: str | None = "m", body_bytes: int = 100, priority: int = 0
) -> Cycle:
    """A choice for a request with these headers."""
    head = RequestHead({name: value.encode("latin-1") for name, value in (headers or {}).items()})
    return Cycle(InferenceRequest(head, "/v1/completions", model, body_bytes), priority)


def endpoints(number: int, *, port: int = 8000, labels: Sequence[Mapping[str, str]] = ()) -> list[Endpoint]:
    """10.0.0.1:8000, 10.0.0.2:8000 and so on."""
    return [
        Endpoint(f"10.0.{i // 250}.{i % 250 + 1}", port, labels=labels[i] if i < len(labels) else {}) for i in range(number)
    ]


def candidates(
    number: int | None = None,
    *,
    waiting: Sequence[float] | None = None,
    running: Sequence[float] | None = None,
    kv_usage: Sequence[float] | None = None,
    in_flight: Sequence[float] | None = None,
    labels: Sequence[Mapping[str, str]] = (),
    loads: Sequence[Load] = (),
    trial: int = -1,
    arrays: bool = False,
    stamp: object = None,
) -> Candidates:
    """Candidates with these columns; a column that is not given is unknown, or 0 in flight."""
    given = [column for column in (waiting, running, kv_usage, in_flight, labels, loads) if column]
    size = number if number is not None else len(given[0])

    def column(values: Sequence[float] | None, default: float) -> Column:
        whole = [float(value) for value in values] if values is not None else [default] * size
        return cast(Column, np.asarray(whole, dtype=np.float64)) if arrays else whole

    return Candidates(
        endpoints=endpoints(size, labels=labels),
        waiting=column(waiting, NAN),
        running=column(running, NAN),
        kv_usage=column(kv_usage, NAN),
        in_flight=column(in_flight, 0.0),
        stamp=stamp if stamp is not None else object(),
        trial=trial,
        loads=loads,
    )


def choose(scheduler: Scheduler, candidates: Candidates, request: InferenceRequest = REQUEST) -> Pick:
    """What serves the request."""
    return scheduler.schedule(Cycle(request), candidates).run.pick


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
