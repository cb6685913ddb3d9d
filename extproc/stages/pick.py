"""The endpoint picker."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from extproc import names
from extproc.domain import Candidates, InferenceRequest, Reply
from extproc.errors import MissingModel, NoEndpoints
from extproc.observability.decisions import DecisionLog, DecisionRecord, Outcome
from extproc.observability.metrics import PickerMetrics
from extproc.observability.responses import ResponseMetrics
from extproc.pool import PoolStore
from extproc.request.paths import requires_model
from extproc.response import Measurement
from extproc.stages.draft import Draft, InFlight
from extproc.stages.pools import Pools, pool_of


class PickEndpoint:
    """The endpoint picker: the destination as header and as metadata, counted in flight before anyone else is decided."""

    def __init__(
        self,
        pools: Pools,
        metrics: PickerMetrics,
        log: DecisionLog,
        *,
        default_pool: str | None = None,
        model_required: bool = False,
        responses: ResponseMetrics | None = None,
        emit_scores: bool = False,
        ignore_subset: bool = False,
        clock: Callable[[], float] = time.perf_counter,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._emit_scores = emit_scores
        self._ignore_subset = ignore_subset
        self._pools = pools
        self._default_pool = default_pool
        self._model_required = model_required
        self._metrics = metrics
        self._responses = responses
        self._log = log
        self._clock = clock
        self._wall_clock = wall_clock
        self._destinations: dict[str, tuple[tuple[str, str], ...]] = {}

    def run(self, request: InferenceRequest, draft: Draft) -> Reply | None:
        model = request.model or ""
        target = draft.target_model
        pool_name, pool = pool_of(self._pools, draft, self._default_pool)
        metrics = self._metrics
        if target is not None:
            request = request._replace(model=target)  # what is chosen for is what will be served
        elif self._misses_model(request):
            metrics.error("", MissingModel.code)
            raise MissingModel(_NO_MODEL, param="model")
        begin_s = self._clock()
        candidates = self._candidates(pool.store, request)
        try:
            pick = pool.scheduler.schedule(request, candidates)
        except NoEndpoints as error:
            metrics.attempt_failed(target or model)
            metrics.error(model, error.code, target)
            raise NoEndpoints(_why_none(pool.store, pool_name, request)) from None
        position = pick.positions[0]
        endpoint = candidates.endpoints[position]
        now_s = self._clock()
        outcome = Outcome()
        self._record(request, model, draft, pool_name, candidates, pick.positions, pick.score, now_s, outcome)
        bound = metrics.model(model, target)
        ticket = pool.store.picked(endpoint)
        if self._responses is not None:
            draft.measurement = Measurement(draft.started_s, self._clock, self._responses.model(model, target).itl.observe)
        draft.ticket = InFlight(
            pool_name, pool.store, ticket, bound, model, target, draft.started_s, outcome, draft.measurement
        )
        draft.destination = endpoint.key
        destination = self._destination(candidates, pick.positions)
        draft.set_headers += destination
        draft.metadata += destination
        if self._emit_scores:
            points = zip(candidates.endpoints, pick.totals, strict=True)
            draft.metadata += ((names.SCORES_KEY, tuple([(each.key, float(total)) for each, total in points])),)
        if not _PICKER_REMOVED.isdisjoint(request.head.headers):
            draft.remove_headers += tuple(sorted(_PICKER_REMOVED.intersection(request.head.headers)))
        bound.total.value += 1
        bound.running.value += 1
        bound.size.observe(request.body_bytes)
        metrics.schedule.observe(now_s - begin_s)
        metrics.picked(target or model, endpoint.key, endpoint.name, endpoint.namespace, endpoint.port)
        if not pool.store.fresh:
            metrics.blind.child(pool_name).value += 1
        return None

    def explain(self, request: InferenceRequest, draft: Draft) -> dict[str, Any]:
        pool_name, pool = pool_of(self._pools, draft, self._default_pool)
        if draft.target_model is not None:
            request = request._replace(model=draft.target_model)
        elif self._misses_model(request):
            raise MissingModel(_NO_MODEL, param="model")
        candidates = self._candidates(pool.store, request)
        if not candidates.endpoints:
            raise NoEndpoints(_why_none(pool.store, pool_name, request))
        told = pool.scheduler.explain(request, candidates)
        return {
            "pool": pool_name,
            "profile": told.profile,
            "weights": told.weights,
            "fail_open": not pool.store.fresh,
            "left_out": sorted(
                view.endpoint.key for view in pool.store.describe() if view.endpoint not in candidates.endpoints
            ),
            "candidates": [
                {
                    "endpoint": row.endpoint.key,
                    "name": row.endpoint.name,
                    "signals": row.signals,
                    "points": row.points,
                    "total": row.total,
                }
                for row in told.candidates
            ],
        }

    def served_elsewhere(self, ticket: InFlight, served: str) -> None:
        """Another endpoint than the picked one answers: the request counts as in flight there from now on."""
        ticket.ticket = ticket.store.move(ticket.ticket, served)
        ticket.outcome.served = served
        self._metrics.elsewhere.child(ticket.pool).value += 1

    def finished(self, ticket: InFlight, status: int, served: str = "") -> None:
        """A picked request is over; `served` as in Outcome."""
        now_s = self._clock()
        ticket.store.release(ticket.ticket)
        ticket.outcome.status = status
        ticket.outcome.served = served
        ticket.metrics.running.value -= 1
        ticket.metrics.duration.observe(now_s - ticket.started_s)
        if status >= 400:
            # Upstream means every status but 200, and looks for it under a name that Envoy does not use.
            self._metrics.error(ticket.model, "ModelServerError", ticket.target_model)
        if ticket.measurement is not None and self._responses is not None:
            self._responses.ended(ticket.model, ticket.measurement, now_s, ticket.target_model)

    def _candidates(self, store: PoolStore, request: InferenceRequest) -> Candidates:
        hints = request.head.subset
        return store.candidates() if hints is None or self._ignore_subset else store.subset(hints)

    def _misses_model(self, request: InferenceRequest) -> bool:
        return (
            request.model is None
            and self._model_required
            and request.body_bytes > 0
            and request.unread is None
            and requires_model(request.path)
        )

    def _destination(self, candidates: Candidates, positions: Sequence[int]) -> tuple[tuple[str, str], ...]:
        value = ",".join([candidates.endpoints[position].key for position in positions])
        found = self._destinations.get(value)
        if found is None:
            if len(self._destinations) > 10_000:
                self._destinations.clear()
            found = self._destinations[value] = ((names.DESTINATION_HEADER, value),)
        return found

    def _record(
        self,
        request: InferenceRequest,
        model: str,
        draft: Draft,
        pool: str,
        candidates: Candidates,
        positions: Sequence[int],
        score: float,
        now_s: float,
        outcome: Outcome,
    ) -> None:
        first = positions[0]
        request_id = request.head.headers.get(names.REQUEST_ID_HEADER, b"")
        self._log.add(
            DecisionRecord(
                at_s=self._wall_clock(),
                request_id=request_id.decode("latin-1"),
                model=model or None,
                target_model=draft.target_model,
                priority=draft.priority,
                pool=pool,
                endpoint=candidates.endpoints[first],
                fallbacks=tuple([candidates.endpoints[p].key for p in positions[1:]]) if len(positions) > 1 else (),
                score=score,
                candidates=len(candidates.endpoints),
                waiting=float(candidates.waiting[first]),
                running=float(candidates.running[first]),
                kv_usage=float(candidates.kv_usage[first]),
                in_flight=float(candidates.in_flight[first]),
                took_s=now_s - draft.started_s,
                outcome=outcome,
            )
        )


_NO_MODEL: Final = "model not found in request body"
_PICKER_REMOVED: Final = frozenset(
    {*names.PICKER_OWNED, *names.OBJECTIVE_HEADERS, *names.REWRITE_HEADERS, *names.FAIRNESS_HEADERS}
    - {names.DESTINATION_HEADER}
)
"""Upstream lets these pass to the model server, as it only leaves them out of what it sets."""


def _why_none(store: PoolStore, pool: str, request: InferenceRequest) -> str:
    if not len(store):
        return f"pool {pool!r} has no endpoints"
    hints = request.head.subset
    told = ", ".join(hints or ()) or "nothing"
    return f"pool {pool!r} has no endpoint in the subset that the proxy allows ({told})"
