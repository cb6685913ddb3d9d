"""The endpoint picker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from extproc import names
from extproc.candidates import Candidates
from extproc.domain import NO_LOAD, InferenceRequest, Numbers
from extproc.errors import MissingModel, NoEndpoints, RequestEvicted, Saturated
from extproc.observability.decisions import DecisionLog, DecisionRecord, Outcome, answered_of
from extproc.observability.metrics import MODEL_SERVER_ERROR
from extproc.observability.picker import PickerMetrics
from extproc.observability.responses import ResponseMetrics
from extproc.pool import PoolStore, Ticket
from extproc.request.paths import requires_model
from extproc.response import FirstPiece, Measurement
from extproc.scheduling import Cycle, Scheduled
from extproc.scheduling.cycle import NO_ANSWERS, Answer, Awaited, Measured, Tokens, Waits
from extproc.scheduling.scheduler import Scheduler
from extproc.stages.draft import UNASSIGNED, Booking, Choice, Draft
from extproc.stages.explained import considered_of, explained, of_plugins, table_of
from extproc.stages.pools import Pools, pool_of
from extproc.stages.stage import Ending, Hooks, Pending, Step
from extproc.stages.waits import for_producer


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
        self.hooks = Hooks(
            committed=self._committed, answered=self._answered, served_elsewhere=self._served_elsewhere, ended=self._ended
        )
        self._destinations: dict[str, tuple[tuple[str, str], ...]] = {}
        metrics.is_there = self._has
        if log.keeps_candidates:
            for pool in pools.values():
                pool.scheduler.keep_points()

    def _has(self, key: str) -> bool:
        return any(pool.store.has(key) for pool in self._pools.values())

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        return self._decide(request, draft, NO_ANSWERS)

    def _decide(self, request: InferenceRequest, draft: Draft, answers: Mapping[str, Answer]) -> Step:
        """`answers`: of the producers that this request has waited for."""
        asked = request
        pool_name, pool = pool_of(self._pools, draft, self._default_pool)
        if draft.target_model is not None:
            request = request._replace(model=draft.target_model)  # what is chosen for is what will be served
        elif self._misses_model(request):
            raise MissingModel(_NO_MODEL, param="model")
        began_s = self._clock()
        candidates = self._candidates(pool.store, request)
        made_at = draft.made_at
        if made_at is not None and made_at.pool == pool_name:
            candidates = _only(pool.store, candidates, made_at.endpoint)
        cycle = Cycle(request, draft.priority, answers)
        try:
            scheduled = pool.scheduler.schedule(cycle, candidates, may_wait=draft.reasons is None)
        except Waits as waits:
            return self._wait(asked, draft, answers, waits.name, waits.awaited)
        except (NoEndpoints, Saturated) as none:
            if draft.reasons is not None and candidates.endpoints:
                tables = pool.scheduler.explain(cycle, candidates)
                told = {"pool": pool_name, "profiles": [table_of(table) for table in tables]}
                draft.reasons.of(self, told | of_plugins(pool.scheduler, cycle))
            if isinstance(none, Saturated):
                raise
            raise NoEndpoints(none.message if candidates.endpoints else _why_none(pool.store, pool_name, request)) from None
        choice = Choice(pool_name, pool.store, pool.scheduler, cycle, scheduled, began_s, self._clock())
        draft.choice = choice
        self._tell(request, draft, choice)
        if draft.reasons is not None:
            draft.reasons.of(self, explained(choice, candidates))
        return None

    def _wait(
        self, request: InferenceRequest, draft: Draft, answers: Mapping[str, Answer], name: str, awaited: Awaited
    ) -> Pending:
        """For a producer. Then all that depends on endpoints is found out anew, as others come and go meanwhile."""

        def then(outcome: object) -> Step:
            return self._decide(request, draft, {**answers, name: Answer(awaited, outcome)})

        return for_producer(name, awaited, then)

    def _tell(self, request: InferenceRequest, draft: Draft, choice: Choice) -> None:
        """What the proxy is told of it."""
        scheduled, candidates, pick = choice.scheduled, choice.candidates, choice.pick
        draft.destination = scheduled.destination.partition(",")[0] or candidates.endpoints[pick.positions[0]].key
        destination = self._destination(scheduled, candidates, pick.positions)
        draft.set_headers += destination
        draft.metadata += destination
        if self._emit_scores:
            points = zip(candidates.endpoints, pick.totals, strict=True)
            draft.metadata += ((names.SCORES_KEY, tuple([(each.key, float(total)) for each, total in points])),)
        if not _PICKER_REMOVED.isdisjoint(request.head.headers):
            draft.remove_headers += tuple(sorted(_PICKER_REMOVED.intersection(request.head.headers)))
        if scheduled.set_headers:
            draft.set_headers += scheduled.set_headers  # in Envoy's order: what is removed goes before what is set
        if scheduled.remove_headers:
            draft.remove_headers += tuple([name for name in scheduled.remove_headers if name in request.head.headers])
        if scheduled.set_response_headers:
            draft.set_response_headers += scheduled.set_response_headers
        draft.served_header = scheduled.served_header

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        choice = draft.choice
        if choice is None:
            return  # a stage before had enough: somebody else serves the request
        model = draft.model or ""
        target = draft.target_model
        metrics = self._metrics
        outcome = Outcome()
        self._record(request, draft, choice, outcome)
        endpoint = choice.candidates.endpoints[choice.pick.positions[0]]
        bound = metrics.model(model, target, draft.priority)
        store = choice.store
        draft.booking = booking = Booking(choice.pool, store, store.picked(endpoint), bound, outcome, choice.scheduler)
        scheduled = choice.scheduled
        if len(scheduled.runs) > 1:
            booking.also = booked_beside(scheduled, store)
        if choice.scheduler.listens:
            booking.cycle = choice.cycle
            choice.cycle.decided_s = choice.made_s
            choice.scheduler.picked(choice.cycle, scheduled)
            if choice.scheduler.awaits_first:
                draft.first = FirstPiece(partial(choice.scheduler.prefilled, choice.cycle))
        bound.started(request.body_bytes)
        responses = self._responses
        if responses is not None and (responses.always or draft.answer_is_seen):
            heard = responses.model(model, target, draft.priority).itl.observe
            draft.measurement = Measurement(draft.started_s, self._clock, heard, only_readable=not responses.always)
        if choice.scheduler.reports and draft.answer_is_seen:
            measurement = draft.measurement
            if measurement is None:
                measurement = draft.measurement = Measurement(draft.started_s, self._clock, _nothing, only_readable=True)
            draft.report = partial(_report, choice.scheduler, measurement)
        metrics.schedule.observe(choice.made_s - choice.began_s)
        metrics.picked(target or model, endpoint.key, endpoint.name, endpoint.namespace, endpoint.port)
        if choice.candidates.trial == choice.pick.positions[0]:
            metrics.tried.child(choice.pool).value += 1
        if not store.fresh:
            metrics.blind.child(choice.pool).value += 1

    def _answered(self, draft: Draft, status: int) -> None:
        """Who prefills or encodes has done its part when the answer begins."""
        booking = draft.booking
        if booking is None:
            return
        if booking.also:
            _let_go(booking)
        if booking.cycle is not None:
            first = draft.first
            booking.cycle.answer_is_seen = first is not None and first.comes
            booking.scheduler.answered(booking.cycle, status)
            if first is not None and first.at_headers:
                booking.scheduler.prefilled(booking.cycle)

    def _served_elsewhere(self, draft: Draft, served: str) -> None:
        """The request counts as in flight there from now on."""
        booking = draft.booking
        if booking is not None:
            booking.ticket = booking.store.move(booking.ticket, served)
            booking.outcome.served = served
            self._metrics.elsewhere.child(booking.pool).value += 1

    def _ended(self, draft: Draft, ending: Ending) -> None:
        booking = draft.booking
        if booking is not None:
            draft.booking = None
            self._give_back(draft, booking, ending)
        elif ending.by is self and ending.error is not None:
            if isinstance(ending.error, NoEndpoints):
                self._metrics.attempt_failed(draft.target_model or draft.model or "")
            self._metrics.error(draft.model or "", ending.error.code, draft.target_model, draft.priority)

    def _give_back(self, draft: Draft, booking: Booking, ending: Ending) -> None:
        now_s = self._clock()
        model = draft.model or ""
        evicted = draft.lease is not None and draft.lease.revoked
        booking.store.release(booking.ticket, answered=0 < ending.status < 500 and not evicted)
        if booking.also:
            _let_go(booking)
        if booking.cycle is not None:
            booking.cycle.measured = _measured(draft.measurement, booking.cycle, now_s)
            booking.scheduler.ended(booking.cycle, ending.status, ending.served)
        outcome = booking.outcome
        outcome.status = ending.status
        outcome.served = ending.served
        if self._log.keeps_candidates:
            outcome.took_s = now_s - draft.started_s
            if draft.measurement is not None:
                outcome.answer = answered_of(draft.measurement, now_s)
        if ending.status >= 400:
            # Upstream means every status but 200, and looks for it under a name that Envoy does not use.
            code = RequestEvicted.code if evicted else MODEL_SERVER_ERROR
            self._metrics.error(model, code, draft.target_model, draft.priority)
        if draft.measurement is not None and self._responses is not None:
            self._responses.ended(model, draft.measurement, now_s, draft.target_model, draft.priority)
        booking.metrics.ended(ending.status, now_s - draft.started_s)

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

    def _destination(
        self, scheduled: Scheduled, candidates: Candidates, positions: Sequence[int]
    ) -> tuple[tuple[str, str], ...]:
        value = scheduled.destination or ",".join([candidates.endpoints[position].key for position in positions])
        kept = self._destinations.get(value)
        if kept is None:
            if len(self._destinations) > 10_000:
                self._destinations.clear()
            kept = self._destinations[value] = ((names.DESTINATION_HEADER, value),)
        return kept

    def _record(self, request: InferenceRequest, draft: Draft, choice: Choice, outcome: Outcome) -> None:
        candidates, positions = choice.candidates, choice.pick.positions
        first = positions[0]
        assigned = draft.assigned or UNASSIGNED
        request_id = request.head.headers.get(names.REQUEST_ID_HEADER, b"")
        self._log.add(
            DecisionRecord(
                at_s=self._wall_clock(),
                request_id=request_id.decode("latin-1"),
                model=draft.model or None,
                target_model=draft.target_model,
                priority=draft.priority,
                pool=choice.pool,
                endpoint=candidates.endpoints[first],
                fallbacks=tuple([candidates.endpoints[p].key for p in positions[1:]]) if len(positions) > 1 else (),
                score=choice.pick.score,
                candidates=len(candidates.endpoints),
                load=candidates.loads[first] if candidates.loads else NO_LOAD,
                waiting=float(candidates.waiting[first]),
                in_flight=float(candidates.in_flight[first]),
                took_s=choice.made_s - draft.started_s,
                outcome=outcome,
                entity="" if draft.entity is None else f"{draft.entity.endpoint}/{draft.entity.name}",
                entity_reason=draft.entity_reason,
                rule=assigned.rule,
                experiments=assigned.experiments,
                bucket=assigned.bucket,
                placed=draft.placed,
                version=0 if draft.endpoint is None else draft.endpoint.spec.config_version,
                considered=self._log.keep(considered_of(choice)) if self._log.keeps_candidates else None,
            )
        )


def _only(store: PoolStore, candidates: Candidates, key: str) -> Candidates:
    """The endpoint alone where it is a candidate; all of them where it is not (any more)."""
    if not any(endpoint.key == key for endpoint in candidates.endpoints):
        return candidates
    return store.subset([key])


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
    allowed = ", ".join(hints or ()) or "nothing"
    return f"pool {pool!r} has no endpoint in the subset that the proxy allows ({allowed})"


def booked_beside(scheduled: Scheduled, store: PoolStore) -> tuple[Ticket, ...]:
    """Requests in flight at those that have a part in it, beside who serves it."""
    primary = scheduled.run.endpoint
    others = [run for name, run in scheduled.runs.items() if name != scheduled.primary]
    return tuple([store.picked(run.candidates.endpoints[run.pick.positions[0]]) for run in others if run.endpoint != primary])


def _nothing(gap_s: float) -> None:
    """Nobody asked for gaps between tokens."""


def _report(scheduler: Scheduler, measurement: Measurement) -> Numbers:
    """What plugins tell the proxy of an answer that has been read."""
    prompt, completion, cached = measurement.usage
    return tuple([(each.namespace, each.name, each.value) for each in scheduler.reported(Tokens(prompt, completion, cached))])


def _measured(measurement: Measurement | None, cycle: Cycle, now_s: float) -> Measured | None:
    if measurement is None or measurement.times.first_s is None:
        return None
    times = measurement.times
    usage = measurement.usage
    tpot_s = times.tpot_s(now_s, usage.completion) if measurement.streaming else None
    return Measured(max(0.0, measurement.times.first_s - cycle.decided_s), tpot_s, usage.prompt)


def _let_go(booking: Booking) -> None:
    for ticket in booking.also:
        booking.store.release(ticket)
    booking.also = ()
