"""A decision while the stages work on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from extproc.audit.row import NO_POINTS
from extproc.domain import HeaderMutation, Lease, Numbers, ResponseReader, Splice
from extproc.flow import Gate, Sent
from extproc.measures import Cell, Sample
from extproc.observability.decisions import Outcome
from extproc.observability.picker import ModelMetrics
from extproc.pool import PoolStore, Ticket
from extproc.response import FirstPiece, Measurement, ResponseId
from extproc.scheduling import Cycle, Scheduled, Scheduler
from extproc.shadow.live import LiveAnswer
from extproc.traffic import MadeAt, ServedEntity, ServingEndpoint
from extproc.traffic.limits import Asker, EndpointLimits
from extproc.traffic.regions import Placed


class Choice:
    """The endpoint that was chosen, and from what."""

    __slots__ = ("began_s", "candidates", "cycle", "made_s", "pick", "pool", "scheduled", "scheduler", "store")

    def __init__(
        self,
        pool: str,
        store: PoolStore,
        scheduler: Scheduler,
        cycle: Cycle,
        scheduled: Scheduled,
        began_s: float,
        made_s: float,
    ) -> None:
        """`began_s` and `made_s`: when it began to choose and had chosen, by the stage's clock."""
        self.pool = pool
        self.store = store
        self.scheduler = scheduler
        self.cycle = cycle
        self.scheduled = scheduled
        run = scheduled.run
        self.candidates = run.candidates
        """Of the profile whose pick serves the request."""
        self.pick = run.pick
        self.began_s = began_s
        self.made_s = made_s


class Booking:
    """What is given back when a request ends that was sent to an endpoint."""

    __slots__ = ("also", "cycle", "metrics", "outcome", "pool", "scheduler", "store", "ticket")

    def __init__(
        self, pool: str, store: PoolStore, ticket: Ticket, metrics: ModelMetrics, outcome: Outcome, scheduler: Scheduler
    ) -> None:
        self.pool = pool
        self.store = store
        self.scheduler = scheduler
        self.ticket = ticket
        """Changes when another endpoint turns out to serve the request."""
        self.also: tuple[Ticket, ...] = ()
        """Of endpoints that have a part in it until the answer begins: that prefill, that encode."""
        self.cycle: Cycle | None = None
        """What plugins remember of it; None when none of them does."""
        self.metrics = metrics
        self.outcome = outcome


class Provided:
    """Who serves a request from outside: for the record, and how long an answer may take to begin."""

    __slots__ = ("address", "authority", "outcome", "patience_s")

    def __init__(self, authority: str, address: str, patience_s: float = 0.0) -> None:
        """`patience_s` as in Decision."""
        self.authority = authority
        self.address = address
        """`ip:port`."""
        self.patience_s = patience_s
        self.outcome = Outcome()


class Queued:
    """A request's part in flow control."""

    __slots__ = ("flow", "gate", "on_the_way", "pool", "sent", "waited")

    def __init__(self, pool: str, gate: Gate, flow: str) -> None:
        self.pool = pool
        self.gate = gate
        self.flow = flow
        """Its fairness id."""
        self.waited = False
        """It had to."""
        self.on_the_way = False
        """It was let on, and has no endpoint yet."""
        self.sent: Sent | None = None
        """With an endpoint, where requests may be taken back from there."""


class Charge:
    """What a request costs of a serving endpoint's limits."""

    __slots__ = ("asker", "calls", "limits", "tokens")

    def __init__(self, limits: EndpointLimits, asker: Asker, tokens: int, calls: int = 1) -> None:
        self.limits = limits
        self.asker = asker
        self.calls = calls
        """0 for a further attempt at a call that was counted."""
        self.tokens = tokens
        """As estimated before the answer."""


class Assigned(NamedTuple):
    """What decided on the entity of a request to a serving endpoint, beside its split."""

    rule: str = ""
    """The rule that matched, '' for none."""
    experiments: tuple[tuple[str, str], ...] = ()
    """Those that the request takes part in, each with its arm."""
    key_kind: str = ""
    """The kind of key that decided, never the key; '' when none did."""
    bucket: int = -1
    """Of 10,000, by that key; -1 when none decided."""
    overrides: tuple[str, ...] = ()
    """Of the experiments those whose list of testers decided on the arm."""
    failed: int = 0
    """Expressions that gave no answer for the request."""

    def by_key(self, kind: str, bucket: int) -> Assigned:
        """The same, and a key of that kind decided, by that bucket. `_replace` takes twice as long."""
        return Assigned(self.rule, self.experiments, kind, bucket, self.overrides, self.failed)


UNASSIGNED: Final = Assigned()


class Draft:
    """A decision while the stages work on it; then what is known of its request until that ends.

    What only the stages need (the body, the candidates, the reasons) is let go when the decision goes out, as an answer may
    take an hour.
    """

    __slots__ = (
        "answer_is_seen",
        "append_response_headers",
        "assigned",
        "attempt",
        "audited",
        "body",
        "booking",
        "cells",
        "charge",
        "choice",
        "committed",
        "complete",
        "counted",
        "destination",
        "draw",
        "empty_model",
        "endpoint",
        "entity",
        "entity_reason",
        "falls_back",
        "first",
        "groups",
        "lease",
        "limited",
        "made_at",
        "make_reader",
        "measurement",
        "metadata",
        "model",
        "placed",
        "pool",
        "priority",
        "provided",
        "queued",
        "reasons",
        "remove_headers",
        "remove_response_headers",
        "report",
        "response_id",
        "restore_model",
        "rewrite",
        "sample",
        "score",
        "second",
        "served_header",
        "set_headers",
        "set_response_headers",
        "shadow",
        "splices",
        "started_s",
        "subject",
        "target_model",
        "turn",
        "unknown",
    )

    def __init__(
        self,
        started_s: float,
        body: bytes | None = None,
        complete: bool = True,
        *,
        model: str | None = None,
        empty_model: bool = False,
        reasons: Reasons | None = None,
    ) -> None:
        """`body` and `complete` as in Decide, `model` and `empty_model` as in InferenceRequest."""
        self.started_s = started_s
        self.body = body
        self.complete = complete
        self.model = model
        self.empty_model = empty_model
        self.reasons = reasons
        """Where stages say why, for people to read; None when nobody asked."""
        self.unknown = False
        """It is for a serving endpoint, by the name in `model`, that is not there."""
        self.answer_is_seen = True
        """Its body will come by here."""
        self.committed = False
        """The decision went out."""
        self.attempt = -1
        """Which attempt at the request it is, from 1; 0: there are none yet, below 0: the proxy makes none."""
        self.counted = True
        """Its request counts here. It counts once: not where it is handed over to its attempts, and not in further attempts."""
        self.set_headers: tuple[tuple[str, str], ...] = ()
        self.remove_headers: tuple[str, ...] = ()
        self.metadata: tuple[tuple[str, str | tuple[tuple[str, float], ...]], ...] = ()
        self.set_response_headers: tuple[tuple[str, str], ...] = ()
        self.append_response_headers: tuple[tuple[str, str], ...] = ()
        """Beside what the upstream says, as cookies are."""
        self.remove_response_headers: tuple[str, ...] = ()
        self.served_header = ""
        """A header of the response that is to say which endpoint answered; '' for none."""
        self.pool: str | None = None
        self.placed: Placed | None = None
        """In which region it is served, and why; None where no regions are, or nobody says where its pool is."""
        self.endpoint: ServingEndpoint | None = None
        """The serving endpoint that the request names."""
        self.entity: ServedEntity | None = None
        """The served entity of it that was chosen."""
        self.entity_reason = ""
        """Why it was, in a few words: which kind of key decided, never the key."""
        self.assigned: Assigned | None = None
        """What decided on that; None where no endpoint was asked."""
        self.audited: bytes | None = None
        """The request's id, where a row of it is to be kept; b'' when it has none."""
        self.score = NO_POINTS
        """Of the endpoint that was picked, for that row; NaN when none was. Likewise of the best of the others."""
        self.second = NO_POINTS
        self.choice: Choice | None = None
        self.booking: Booking | None = None
        """Made when the decision goes out."""
        self.destination = ""
        self.measurement: Measurement | None = None
        """Wants to be told of the response."""
        self.first: FirstPiece | None = None
        """Waits for the beginning of the response's body."""
        self.made_at: MadeAt | None = None
        """Where the response was made that the request is about."""
        self.response_id: ResponseId | None = None
        """Looks for the id of the response that is made."""
        self.restore_model: tuple[str, str] | None = None
        """The served name and the client's, which the response is to name instead."""
        self.lease: Lease | None = None
        """Lets flow control take the decision back."""
        self.report: Callable[[], Numbers] | None = None
        """What the proxy is told with the end of the answer."""
        self.make_reader: Callable[[Measurement | None], ResponseReader] | None = None
        """Makes the reader of the answer, where it is another than that of a pool's; with who measures, if anybody does."""
        self.provided: Provided | None = None
        """The provider that is asked, where one is."""
        self.queued: Queued | None = None
        """Its part in flow control, where its pool has that."""
        self.target_model: str | None = None
        """The model that serves the request instead of the one that it names."""
        self.rewrite: tuple[str, str] | None = None
        """The object whose rule decided on the model that serves, as `namespace/name`, and that model."""
        self.splices: tuple[Splice, ...] = ()
        self.falls_back = False
        """Somebody else is left to serve the request: when this fails (429, 5xx, cut), the proxy asks anew."""
        self.turn: tuple[ServedEntity, ...] = ()
        """The entities that serve it one after the other while attempts fail; () without fallback."""
        self.draw = b""
        """What the proxy drew for the request, the same in all its attempts; b'' when nobody has to know one by it."""
        self.groups: tuple[str, ...] = ()
        """Of which who asks is one."""
        self.subject = ""
        """Who asks, by a token that was checked; '' when none was."""
        self.sample: Sample | None = None
        """What is measured of it for its served entity."""
        self.cells: tuple[Cell, ...] = ()
        """Where that goes when it ends."""
        self.charge: Charge | None = None
        """What the request costs, where somebody counts."""
        self.limited: tuple[str, str] | None = None
        """Whose limit of what it was refused for."""
        self.shadow: LiveAnswer | None = None
        """Listens to the answer, as a copy of the request goes to another entity."""
        self.priority = 0
        """More is more important; below 0 may be shed."""

    def response(self) -> HeaderMutation | None:
        """The changes to the response's headers, None when there are none."""
        if self.set_response_headers or self.append_response_headers or self.remove_response_headers:
            return HeaderMutation(self.remove_response_headers, self.set_response_headers, self.append_response_headers)
        return None

    @property
    def reads_answer(self) -> bool:
        """Somebody wants to hear of the answer, or changes it."""
        if self.measurement is not None or self.restore_model is not None:
            return True
        return self.response_id is not None or self.first is not None or self.shadow is not None

    def let_go(self) -> None:
        """Keep only what is needed until the request ends."""
        self.body = None
        self.choice = None
        self.response_id = None
        self.make_reader = None
        self.reasons = None
        self.splices = ()


class Reasons:
    """What the stages of one decision saw and chose, in their order. Values are made for JSON."""

    def __init__(self) -> None:
        self.by_stage: dict[str, dict[str, Any]] = {}

    def of(self, stage: object, facts: dict[str, Any]) -> None:
        """What this stage has to say; of a stage that says more than once, all of it."""
        name = type(stage).__name__
        self.by_stage[name] = {**self.by_stage.get(name, {}), **facts}
