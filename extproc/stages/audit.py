"""Decisions for those who ask later: a row for each request, handed over when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from zlib import crc32

from extproc import names
from extproc.audit.row import NO_POINTS, Words, answer_of, ids_of, line_of, said, served_by
from extproc.audit.waiting import Waiting
from extproc.candidates import Column
from extproc.domain import InferenceRequest
from extproc.observability.logs import logger
from extproc.response import Measurement
from extproc.response.usage import NO_USAGE
from extproc.stages.draft import Assigned, Draft
from extproc.stages.stage import Ending, Hooks, Step
from extproc.traffic import ServedEntity, ServingEndpoint
from extproc.traffic.regions import Placed

_log = logger(__name__)
_ALL: Final = 2**32
_NO_ID: Final = b""
_NO_ARMS: Final[tuple[tuple[str, str], ...]] = ()
_KEPT: Final = 4096
"""What rows say that is remembered, of each kind."""
_AT_ONCE: Final = 32
"""Rows that are made together."""
_TOGETHER_BYTES: Final = 16 * 1024
"""Of lines that are handed over together, or not at all: well below what may wait."""
_COMPARE_S: Final = 1.0
"""How often the clock that times requests is compared with the one of the wall, which somebody may set."""


class _Ended:
    """What a row is made of, of a request that is over. Used again and again: to make one costs more than to fill it."""

    __slots__ = (
        "assigned",
        "at_s",
        "attempt",
        "complete",
        "ended_s",
        "endpoint",
        "entity",
        "error",
        "measured",
        "model",
        "placed",
        "pool",
        "request_id",
        "score",
        "second",
        "server",
        "started_s",
        "status",
        "target",
        "why",
    )

    def __init__(self) -> None:
        self.request_id = _NO_ID
        self.at_s = 0.0
        """Since 1970; `started_s` and `ended_s` by the clock that times requests."""
        self.started_s = 0.0
        self.ended_s = 0.0
        self.attempt = 0
        self.endpoint: ServingEndpoint | None = None
        self.entity: ServedEntity | None = None
        self.why = ""
        self.assigned: Assigned | None = None
        self.placed: Placed | None = None
        self.model: str | None = None
        self.target: str | None = None
        self.pool: str | None = None
        self.server = ""
        self.status = 0
        self.complete = False
        self.error = ""
        self.score = NO_POINTS
        self.second = NO_POINTS
        self.measured: Measurement | None = None

    def fill(self, request_id: bytes, draft: Draft, ending: Ending) -> None:
        """With what it is of, but for its times."""
        self.request_id = request_id
        self.attempt = draft.attempt
        self.endpoint = draft.endpoint
        self.entity = draft.entity
        self.why = draft.entity_reason
        self.assigned = draft.assigned
        self.placed = draft.placed
        self.model = draft.model
        self.target = draft.target_model
        self.pool = draft.pool
        provided = draft.provided
        self.server = ending.served or (draft.destination if provided is None else provided.address)
        self.status = ending.status
        self.complete = ending.complete or not draft.committed
        error = ending.error
        self.error = "" if error is None else error.code
        self.score = draft.score
        self.second = draft.second
        measured = draft.measurement
        # Of answers that do not come by here it knows nothing, and what is kept is not at hand for the next request.
        self.measured = None if measured is None or _is_empty(measured) else measured

    def let_go(self) -> None:
        """Of what is large, or may be replaced while this waits to be used again."""
        self.endpoint = None
        self.entity = None
        self.assigned = None
        self.placed = None
        self.model = None
        self.measured = None


class _Decided:
    """What the last row of an entity said of the decision; those behind it mostly say the same."""

    __slots__ = ("arms", "endpoint", "model", "placed", "pool", "rule", "said", "target", "why")

    def __init__(self, row: _Ended, said: str) -> None:
        assigned = row.assigned
        self.endpoint = row.endpoint
        self.why = row.why
        self.rule, self.arms = ("", _NO_ARMS) if assigned is None else (assigned.rule, assigned.experiments)
        self.placed = row.placed
        self.model = row.model
        self.target = row.target
        self.pool = row.pool
        self.said = said

    def is_of(self, row: _Ended) -> bool:
        """Whether it is what this row says."""
        assigned = row.assigned
        if assigned is None:
            if self.rule or self.arms:
                return False
        elif self.rule != assigned.rule or (self.arms is not assigned.experiments and self.arms != assigned.experiments):
            return False
        # What comes from a config is mostly the same object, and that is seen in a tenth of the time.
        if (self.pool is not row.pool and self.pool != row.pool) or (
            self.target is not row.target and self.target != row.target
        ):
            return False
        if self.placed is not row.placed and self.placed != row.placed:
            return False
        return self.endpoint is row.endpoint and self.why == row.why and self.model == row.model


class _Served:
    """How the last request that an endpoint served ended; those behind it mostly end the same way."""

    __slots__ = ("complete", "error", "said", "status")

    def __init__(self, row: _Ended, said: str) -> None:
        self.status = row.status
        self.complete = row.complete
        self.error = row.error
        self.said = said

    def is_of(self, row: _Ended) -> bool:
        """Whether this row's ended so, too."""
        return self.status == row.status and self.complete == row.complete and self.error == row.error


class AuditDecisions:
    """The first stage: it decides nothing, and hears of every request how it was decided and how it ended.

    Which requests, when not all, goes by their ids: so all attempts at one are there, at every replica, or none.

    Rows are made some dozens at once: what runs once between two requests finds the processor's caches full of other things,
    and takes three times as long as the same many times over. Until then its fields are kept; `Waiting.gather` asks for them.
    """

    def __init__(
        self,
        sink: Waiting,
        *,
        sample: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Rows go into `sink`. `sample` of 0 to 1 of the requests; those without an id are always among them. `clock` is
        that of `Draft.started_s`.
        """
        self._sink = sink
        self._below = int(sample * _ALL)
        self._clock = clock
        self._wall_clock = wall_clock
        self._epoch_s = wall_clock() - clock()
        """Since 1970, when `clock` says 0."""
        self._compare_at_s = float("-inf")
        self._decided: dict[ServedEntity | None, _Decided] = {}
        self._said: dict[tuple[object, ...], str] = {}
        self._served: dict[str, _Served] = {}
        """By who served."""
        self._ends: dict[tuple[str, int, bool, str], str] = {}
        self._rows = [_Ended() for _ in range(_AT_ONCE)]
        self._count = 0
        """Of them that are filled."""
        self.hooks = Hooks(committed=self._committed, ended=self._ended)
        sink.sources.append(self.write)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        request_id = request.head.headers.get(names.REQUEST_ID_HEADER, _NO_ID)
        below = self._below
        if below == _ALL or below > crc32(request_id):
            draft.audited = request_id
        return None

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        """What the draft lets go of now."""
        choice = draft.choice
        if choice is not None and draft.audited is not None:
            pick = choice.pick
            draft.score = float(pick.score)
            if len(pick.totals) > 1:
                draft.second = _best_but(pick.totals, pick.positions[0])

    def _ended(self, draft: Draft, ending: Ending) -> None:
        request_id = draft.audited
        if request_id is None:
            return
        draft.audited = None
        if draft.attempt == 0 and draft.entity is None and draft.endpoint is not None and draft.committed:
            return  # it came again, as its attempts
        now_s = self._clock()
        if now_s >= self._compare_at_s:
            self._compare_at_s = now_s + _COMPARE_S
            self._epoch_s = self._wall_clock() - now_s
        row = self._rows[self._count]
        row.fill(request_id, draft, ending)
        row.started_s = started_s = draft.started_s
        row.ended_s = now_s
        row.at_s = self._epoch_s + started_s
        self._count += 1
        if self._count == _AT_ONCE:
            self.write()

    def write(self) -> None:
        """Make lines of the requests that have ended, and hand them over."""
        count, self._count = self._count, 0
        lines: list[str] = []
        size = 0
        rows = self._rows
        ids = ids_of([rows[at].request_id for at in range(count)])
        for at in range(count):
            row = rows[at]
            try:
                line = self._line(row, ids[at])
            except Exception:  # the others are to be kept all the same
                _log.exception("a row of the audit could not be made")
                continue
            row.let_go()
            lines.append(line)
            size += len(line)
            if size >= _TOGETHER_BYTES:
                self._sink.add("".join(lines), len(lines))
                lines, size = [], 0
        if lines:
            self._sink.add("".join(lines), len(lines))

    def _line(self, row: _Ended, request_id: str) -> str:
        decided = self._decided.get(row.entity)
        text = decided.said if decided is not None and decided.is_of(row) else self._say(row)
        ended = self._served.get(row.server)
        served = ended.said if ended is not None and ended.is_of(row) else self._say_how(row)
        assigned, measured, ended_s = row.assigned, row.measured, row.ended_s
        return line_of(
            int(row.at_s * 1000.0),
            request_id,
            text,
            served,
            (ended_s - row.started_s) * 1000.0,
            row.attempt,
            -1 if assigned is None else assigned.bucket,
            row.score,
            row.second,
            "" if measured is None else _answer(measured, ended_s),
        )

    def _say(self, row: _Ended) -> str:
        """Of a decision that is another than the entity's last one."""
        endpoint, entity, assigned = row.endpoint, row.entity, row.assigned
        words = (
            "" if endpoint is None else endpoint.name,
            0 if endpoint is None else endpoint.spec.config_version,
            "" if entity is None else entity.name,
            row.why,
            "" if assigned is None else assigned.rule,
            _NO_ARMS if assigned is None else assigned.experiments,
            row.placed,
            row.model,
            row.target,
            row.pool,
        )
        text = self._said.get(words)
        if text is None:
            if len(self._said) >= _KEPT:
                self._said.clear()
            text = self._said[words] = said(_words(row))
        if len(self._decided) >= _KEPT:
            self._decided.clear()
        self._decided[entity] = _Decided(row, text)
        return text

    def _say_how(self, row: _Ended) -> str:
        """Of an end that is another than the last one there."""
        ended = (row.server, row.status, row.complete, row.error)
        text = self._ends.get(ended)
        if text is None:
            if len(self._ends) >= _KEPT:
                self._ends.clear()
            text = self._ends[ended] = served_by(row.server, row.status, row.error, complete=row.complete)
        if len(self._served) >= _KEPT:
            self._served.clear()
        self._served[row.server] = _Served(row, text)
        return text


def _words(row: _Ended) -> Words:
    endpoint, entity, assigned, placed, model = row.endpoint, row.entity, row.assigned, row.placed, row.model
    name = "" if endpoint is None else endpoint.name
    return Words(
        endpoint=name,
        entity="" if entity is None else entity.name,
        why="" if entity is None else row.why,
        rule="" if assigned is None else assigned.rule,
        arms=() if assigned is None else tuple([f"{experiment}/{arm}" for experiment, arm in assigned.experiments]),
        version=0 if endpoint is None else endpoint.spec.config_version,
        region="" if placed is None else placed.region,
        spill="" if placed is None else placed.spilled,
        spill_cost=0.0 if placed is None else placed.cost,
        model="" if model is None or model == name else model,
        target=row.target or "",
        pool=row.pool or "",
    )


def _is_empty(measured: Measurement) -> bool:
    return measured.usage is NO_USAGE and measured.times.first_s is None


def _answer(measured: Measurement, now_s: float) -> str:
    usage, times = measured.usage, measured.times
    tpot_s = times.tpot_s(now_s, usage.completion) if measured.streaming else None
    return answer_of(times.ttft_s(), tpot_s, usage.prompt, usage.completion)


def _best_but(totals: Column, position: int) -> float:
    """The most of the others; there are some."""
    if isinstance(totals, list):
        best = totals[1] if position == 0 else totals[0]
        for at, points in enumerate(totals):
            if points > best and at != position:
                best = points
        return float(best)
    before, behind = totals[:position], totals[position + 1 :]
    return max(float(part.max()) for part in (before, behind) if len(part))
