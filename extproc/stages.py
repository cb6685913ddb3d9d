"""The stages of a decision. A deployment chooses which of them run on a stream, and in which order:

    bbr       ModelHeaders
    epp       PickEndpoint
    gateway   ModelHeaders, RouteToPool, PickEndpoint

A stage reads the request and adds to the draft; it may answer the client itself, or raise an ExtProcError. `explain` tells
what `run` would do now, and does and counts nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import unquote

import orjson

from extproc import names
from extproc.domain import Candidates, InferenceRequest, Reply
from extproc.errors import MissingModel, NoEndpoints, UnknownModel, UnreadableBody
from extproc.observability.decisions import DecisionLog, DecisionRecord, Outcome
from extproc.observability.metrics import ModelMetrics, PickerMetrics, RouterMetrics
from extproc.observability.responses import ResponseMetrics
from extproc.pool import PoolStore, Ticket
from extproc.request.fields import field_text
from extproc.request.paths import requires_model
from extproc.response import Measurement
from extproc.scheduling import Scheduler
from extproc.settings.router import HeaderRules
from extproc.traffic import AdapterMap, RouteTable


@dataclass(slots=True)
class InFlight:
    """What is given back when a picked request ends."""

    pool: str
    store: PoolStore
    ticket: Ticket
    """Changes when another endpoint turns out to serve the request."""
    metrics: ModelMetrics
    model: str
    started_s: float
    outcome: Outcome
    measurement: Measurement | None = None


class Draft:
    """A decision while the stages work on it."""

    __slots__ = (
        "destination",
        "measurement",
        "metadata",
        "pool",
        "remove_headers",
        "restore_model",
        "set_headers",
        "started_s",
        "ticket",
    )

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.set_headers: tuple[tuple[str, str], ...] = ()
        self.remove_headers: tuple[str, ...] = ()
        self.metadata: tuple[tuple[str, str | tuple[tuple[str, float], ...]], ...] = ()
        self.pool: str | None = None
        self.ticket: InFlight | None = None
        self.destination = ""
        self.measurement: Measurement | None = None
        """Wants to be told of the response."""
        self.restore_model: tuple[str, str] | None = None
        """The served name and the client's, which the response is to name instead."""


class Stage(Protocol):
    """One step of a decision."""

    def run(self, request: InferenceRequest, draft: Draft) -> Reply | None:
        """Add to the draft; a Reply ends the decision. Raises ExtProcError."""
        ...

    def explain(self, request: InferenceRequest, draft: Draft) -> dict[str, Any]:
        """What `run` would do, for people to read. Raises ExtProcError as `run` would.

        Has the key `answered`, a status, when `run` would end the decision with a Reply.
        """
        ...


class ModelHeaders:
    """The body-based router: the model and its base model as headers; a client's own copies of them never pass."""

    def __init__(self, metrics: RouterMetrics, adapters: AdapterMap = AdapterMap(), rules: HeaderRules = HeaderRules()) -> None:
        self.adapters = adapters
        """Replaced as a whole when its file changes."""
        self._metrics = metrics
        self._model_headers = tuple(rule.header for rule in rules.fields if rule.field == "model")
        self._other = tuple(rule for rule in rules.fields if rule.field != "model")
        self._base = rules.base_model
        self._owned = tuple(dict.fromkeys((*names.ROUTER_OWNED, *(rule.header.lower() for rule in rules.fields))))

    def run(self, request: InferenceRequest, draft: Draft) -> Reply | None:
        self._headers(request, draft)
        metrics = self._metrics
        if request.model is not None:
            metrics.success.value += 1
            metrics.model(request.model).value += 1
        elif request.empty_model:
            metrics.empty.value += 1
        else:
            metrics.not_found.value += 1
            metrics.not_in_body.value += 1
        return None

    def explain(self, request: InferenceRequest, draft: Draft) -> dict[str, Any]:
        self._headers(request, draft)
        return {"model": request.model, "headers": dict(draft.set_headers), "removed": list(draft.remove_headers)}

    def _headers(self, request: InferenceRequest, draft: Draft) -> None:
        model = request.model
        found: list[tuple[str, str]] = []
        if model is not None:
            found += [(header, model) for header in self._model_headers]
            if self._base:
                found.append((names.BASE_MODEL_HEADER, self.adapters.base_of(model)))
        for field, header in self._other:
            text = field_text(request.payload, field)
            if text:
                found.append((header, text))
        draft.set_headers += tuple(found)
        if len(found) < len(self._owned):
            set_here = {header.lower() for header, _ in found}
            draft.remove_headers += tuple([name for name in _present(self._owned, request) if name not in set_here])


class RouteToPool:
    """The gateway's routes: which pool serves the model. Lists the models itself."""

    def __init__(self, table: RouteTable, started_unix_s: int) -> None:
        self._table = table
        self._created = started_unix_s

    def run(self, request: InferenceRequest, draft: Draft) -> Reply | None:
        path = request.path
        if path.startswith("/v1/models") and request.model is None and request.head.headers.get(":method") == b"GET":
            return self._models(path)
        draft.pool = self._pool(request)
        return None

    def explain(self, request: InferenceRequest, draft: Draft) -> dict[str, Any]:
        reply = self.run(request, draft)
        return {"answered": reply.status} if reply else {"pool": draft.pool}

    def _pool(self, request: InferenceRequest) -> str:
        if request.model is not None:
            return self._table.pool_of(request.model)
        if self._table.only_pool is not None and not request.unread:
            return self._table.only_pool
        if request.unread and request.unread.startswith("content-encoding"):
            raise UnreadableBody(f"the model can't be read from a body with {request.unread}; send it without, or as gzip")
        why = f" ({request.unread})" if request.unread else ""
        raise MissingModel(f"the request names no model{why}; name one of: {self._table.listed()}", param="model")

    def _models(self, path: str) -> Reply | None:
        """`GET /v1/models` and `/v1/models/{model}` in OpenAI's shape, over all pools."""
        name = unquote(path.removeprefix("/v1/models").strip("/"))  # OpenAI's client sends `meta-llama%2FLlama`
        if not name:
            listing = {"object": "list", "data": [self._card(model) for model in self._table.models]}
            return Reply(200, orjson.dumps(listing), details="extproc_models")
        if name in self._table.models:
            return Reply(200, orjson.dumps(self._card(name)), details="extproc_models")
        raise UnknownModel(f"The model `{name}` does not exist. Available models: {self._table.listed()}", param="model")

    def _card(self, model: str) -> dict[str, object]:
        return {"id": model, "object": "model", "created": self._created, "owned_by": "extproc"}


class PoolOfEndpoints(NamedTuple):
    """A pool as the picker sees it."""

    store: PoolStore
    scheduler: Scheduler


class PickEndpoint:
    """The endpoint picker: the destination as header and as metadata, counted in flight before anyone else is decided."""

    def __init__(
        self,
        pools: Mapping[str, PoolOfEndpoints],
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
        pool_name, pool = self._pool(draft)
        metrics = self._metrics
        if self._misses_model(request):
            metrics.error("", MissingModel.code)
            raise MissingModel(_NO_MODEL, param="model")
        begin_s = self._clock()
        candidates = self._candidates(pool.store, request)
        try:
            pick = pool.scheduler.schedule(request, candidates)
        except NoEndpoints as error:
            metrics.attempt_failed(model)
            metrics.error(model, error.code)
            raise NoEndpoints(_why_none(pool.store, pool_name, request)) from None
        position = pick.positions[0]
        endpoint = candidates.endpoints[position]
        now_s = self._clock()
        outcome = Outcome()
        self._record(request, draft, pool_name, candidates, pick.positions, pick.score, now_s, outcome)
        bound = metrics.model(model)
        ticket = pool.store.picked(endpoint)
        if self._responses is not None:
            draft.measurement = Measurement(draft.started_s, self._clock, self._responses.model(model).itl.observe)
        draft.ticket = InFlight(pool_name, pool.store, ticket, bound, model, draft.started_s, outcome, draft.measurement)
        draft.destination = endpoint.key
        destination = self._destination(candidates, pick.positions)
        draft.set_headers += destination
        draft.metadata += destination
        if self._emit_scores:
            points = zip(candidates.endpoints, pick.totals, strict=True)
            draft.metadata += ((names.SCORES_KEY, tuple([(each.key, float(total)) for each, total in points])),)
        draft.remove_headers += _present(_PICKER_REMOVED, request)
        bound.total.value += 1
        bound.running.value += 1
        bound.size.observe(request.body_bytes)
        metrics.schedule.observe(now_s - begin_s)
        metrics.picked(model, endpoint.key, endpoint.name, endpoint.namespace, endpoint.port)
        if not pool.store.fresh:
            metrics.blind.child(pool_name).value += 1
        return None

    def explain(self, request: InferenceRequest, draft: Draft) -> dict[str, Any]:
        pool_name, pool = self._pool(draft)
        if self._misses_model(request):
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
            self._metrics.error(ticket.model, "ModelServerError")
        if ticket.measurement is not None and self._responses is not None:
            self._responses.ended(ticket.model, ticket.measurement, now_s)

    def _pool(self, draft: Draft) -> tuple[str, PoolOfEndpoints]:
        name = draft.pool or self._default_pool
        assert name is not None, "a picker without routes has a default pool"
        return name, self._pools[name]

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
                model=request.model,
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
_PICKER_REMOVED: Final = tuple(name for name in names.PICKER_OWNED if name != names.DESTINATION_HEADER)


def _present(owned: tuple[str, ...], request: InferenceRequest) -> tuple[str, ...]:
    headers = request.head.headers
    return tuple([name for name in owned if name in headers])


def _why_none(store: PoolStore, pool: str, request: InferenceRequest) -> str:
    if not len(store):
        return f"pool {pool!r} has no endpoints"
    hints = request.head.subset
    told = ", ".join(hints or ()) or "nothing"
    return f"pool {pool!r} has no endpoint in the subset that the proxy allows ({told})"
