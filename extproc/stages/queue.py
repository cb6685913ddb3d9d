"""Flow control: a request waits until its pool has room.

decide ─ open ─▶ goes on (committed: counts at once)
   ╰─── held ─▶ Pending: a ticket in the queues ─ dispatched ─▶ goes on to the pick, and counts before the next is judged
                                    ╰─ full, too long, no endpoints, stopping ─▶ 429 or 503 with the reason; left ─▶ nothing
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from extproc import names
from extproc.domain import InferenceRequest, RequestHead
from extproc.errors import ExtProcError, NoEndpoints, QueueFull, QueueTimeout, ShuttingDown
from extproc.flow import Gate, Outcome, Ticket
from extproc.flow.programs import COMPLETION_WEIGHT
from extproc.flow.ticket import NO_FLOW
from extproc.observability.flow import FlowMetrics, WaitingRow
from extproc.response import Measurement
from extproc.response.usage import NO_USAGE
from extproc.scheduling.identity import identity_of
from extproc.stages.draft import Draft, Queued
from extproc.stages.stage import Ending, Hooks, Pending, Step

WHAT: Final = "the pool"
"""What it waits for, in metrics."""
LONGEST_FLOW: Final = 256
"""Characters of a fairness id that count."""
_FOREVER_S: Final = 7 * 86_400.0
_MARGIN_S: Final = 1.0
"""The queue itself ends waits in time; only if it did not, the carrier does."""
_BYTES_A_TOKEN: Final = 4
_NOT_QUEUED: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE"})
"""They ask an engine for nothing that it would have to compute."""


class WaitForRoom:
    """Stands before the pick, behind what says how important a request is. Pools without flow control cost a look-up."""

    def __init__(
        self,
        gates: Mapping[str, Gate],
        metrics: FlowMetrics,
        *,
        default_pool: str | None = None,
        agent_headers: Mapping[str, Sequence[str]] = {},
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`gates`: of the pools that have one; `clock` is theirs. `agent_headers`: by pool, where agents say who they are."""
        self._gates = gates
        self._agent_headers = agent_headers
        self._metrics = metrics
        self._default_pool = default_pool
        self._clock = clock
        self.hooks = Hooks(committed=self._committed, ended=self._ended)
        for name, gate in gates.items():
            gate.cycle = metrics.cycle.observe
            metrics.watch(name, gate.queues, lambda gate=gate: _rows(gate))  # type: ignore[misc]
            if gate.evictor is not None:
                metrics.evictions(name, gate.evictor, clock)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        pool = draft.pool or self._default_pool
        gate = self._gates.get(pool) if pool is not None else None
        if pool is None or gate is None or request.head.headers.get(":method") in _NOT_QUEUED:
            return None
        flow = flow_of(request.head, self._agent_headers.get(pool, ()))
        priority = draft.priority
        is_open = gate.is_open(priority)
        if draft.reasons is not None:
            waiting = gate.queues.requests
            saturation = gate.gauge.ask()
            facts = {"flow": flow, "priority": priority, "saturation": saturation, "waiting": waiting, "held": not is_open}
            evictor = gate.evictor
            if evictor is not None:
                facts |= {"evictable": evictor.evictable, "would_evict": not is_open and gate.would_evict(priority)}
            draft.reasons.of(self, facts)
        draft.queued = queued = Queued(pool, gate, flow)
        if is_open:
            return None
        return _Place(self, request, draft, queued).pending()

    def joined(self, place: _Place) -> Outcome | None:
        """A request begins to wait; why it may not."""
        ticket = place.ticket
        ticket.came_s = began_s = self._clock()
        why = place.queued.gate.join(ticket)
        self._metrics.joined(place.queued.flow, ticket.priority, self._clock() - began_s, why)
        if why is not None:
            self.over(place, why)
        return why

    def over(self, place: _Place, outcome: Outcome) -> None:
        """It waits no more."""
        ticket, draft = place.ticket, place.draft
        waited_s = self._clock() - ticket.came_s
        self._metrics.over(
            place.queued.pool, place.queued.flow, ticket.priority, outcome, waited_s, draft.model or "", draft.target_model
        )

    def error_of(self, place: _Place, outcome: Outcome) -> ExtProcError:
        """What the client is told."""
        queued = place.queued
        waited_s = self._clock() - place.ticket.came_s
        retry_s = queued.gate.retry_s(outcome, place.ticket.priority)
        if outcome in (Outcome.REJECTED_NO_ENDPOINTS, Outcome.EVICTED_NO_ENDPOINTS):
            return NoEndpoints(f"pool {queued.pool!r} has no endpoints, waited {waited_s:.3g} s", retry_after_s=retry_s)
        if outcome is Outcome.REJECTED_STOPPING:
            return ShuttingDown("shutting down, the request can be sent again")
        if outcome is Outcome.EVICTED_TTL:
            return QueueTimeout(
                f"pool {queued.pool!r} had no room for {waited_s:.3g} s; try again in {retry_s} s", retry_after_s=retry_s
            )
        return QueueFull(f"pool {queued.pool!r} is full, and so is its queue; try again in {retry_s} s", retry_after_s=retry_s)

    # -- accounting ----------------------------------------------------------------------------------------------

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        queued = draft.queued
        if queued is None:
            return
        if queued.on_the_way:
            queued.on_the_way = False
            queued.gate.arrived()
        elif not queued.waited:
            queued.gate.passed(draft.priority)
            self._metrics.over(
                queued.pool, queued.flow, draft.priority, Outcome.DISPATCHED, 0.0, draft.model or "", draft.target_model
            )
        queued.sent = sent = queued.gate.sent(draft.priority)
        if sent is not None:
            draft.lease = sent.lease
        if draft.answer_is_seen and draft.measurement is None and queued.gate.queues.counts_cost(draft.priority):
            draft.measurement = Measurement(draft.started_s, self._clock, _nothing)

    def _ended(self, draft: Draft, ending: Ending) -> None:
        queued = draft.queued
        if queued is None:
            return
        draft.queued = None
        if queued.on_the_way:
            queued.gate.arrived()
        if queued.sent is not None:
            queued.gate.over(queued.sent)
        queues = queued.gate.queues
        if draft.committed and queues.counts_cost(draft.priority):
            queues.cost(draft.priority, queued.flow, _cost(draft), self._clock())


class _Place:
    """A request's place in the queues, and its wait."""

    __slots__ = ("_resolve", "_stage", "draft", "queued", "ticket")

    def __init__(self, stage: WaitForRoom, request: InferenceRequest, draft: Draft, queued: Queued) -> None:
        self._stage = stage
        self._resolve: Callable[[object], None] | None = None
        self.draft = draft
        self.queued = queued
        wished_ms = request.head.wished_ms(names.SLO_TTFT_HEADERS)
        self.ticket = Ticket(
            None,  # until it waits
            priority=draft.priority,
            flow=queued.flow,
            size_bytes=request.body_bytes,
            ttft_s=None if wished_ms is None else wished_ms / 1000.0,
        )

    def pending(self) -> Pending:
        plan = self.queued.gate.queues.plan
        longest_s = min(_FOREVER_S, plan.ttl_s + plan.no_endpoint_ttl_s + _MARGIN_S)
        return Pending(WHAT, self.begin, self.then, timeout_s=longest_s, fallback=Outcome.EVICTED_TTL, may_be_long=True)

    def begin(self, resolve: Callable[[object], None]) -> Callable[[], None]:
        self.queued.waited = True
        self.ticket.holder = self
        why = self._stage.joined(self)
        if why is None:
            self._resolve = resolve
        else:
            self.ticket.holder = None
            resolve(self._stage.error_of(self, why))
        return self.cancel

    def cancel(self) -> None:
        if self.queued.gate.leave(self.ticket):
            self._resolve = None
            self._stage.over(self, Outcome.EVICTED_CANCELLED)

    def told(self, outcome: Outcome) -> None:
        resolve, self._resolve = self._resolve, None
        self._stage.over(self, outcome)
        if outcome is Outcome.DISPATCHED:
            self.queued.on_the_way = True
        if resolve is not None:
            resolve(None if outcome is Outcome.DISPATCHED else self._stage.error_of(self, outcome))

    def then(self, outcome: object) -> Step:
        if isinstance(outcome, Outcome):
            raise self._stage.error_of(self, outcome)
        return None


def flow_of(head: RequestHead, agent_headers: Sequence[str] = ()) -> str:
    """The fairness id that a request names, the newer header first; else who its agent says it is."""
    headers = head.headers
    value = headers.get(_NEW_FLOW) or headers.get(_OLD_FLOW)
    if value:
        return value[:LONGEST_FLOW].decode("latin-1")
    return (identity_of(head, agent_headers) if agent_headers else "") or NO_FLOW


_NEW_FLOW, _OLD_FLOW = names.FAIRNESS_HEADERS


def _rows(gate: Gate) -> Iterator[WaitingRow]:
    for band in gate.queues.bands:
        for ticket in band.waiting():
            place = ticket.holder
            if isinstance(place, _Place):
                draft = place.draft
                yield WaitingRow(ticket.flow, ticket.priority, draft.model or "", draft.target_model, ticket.size_bytes)


def _cost(draft: Draft) -> float:
    """In prompt tokens; where nobody says how many there were, by the size of the answer, and nothing for the prompt's."""
    measured = draft.measurement
    usage = NO_USAGE if measured is None else measured.usage
    if usage.prompt is None and usage.completion is None:
        return 1.0 if measured is None else 1.0 + COMPLETION_WEIGHT * (measured.size_bytes // _BYTES_A_TOKEN)
    return (usage.prompt or 0) + COMPLETION_WEIGHT * (usage.completion or 0)


def _nothing(gap_s: float) -> None:
    """Nobody asked for the gaps."""
