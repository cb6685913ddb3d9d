"""Decisions for those who ask later: a row for each request, handed over when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from zlib import crc32

from extproc import names
from extproc.audit.row import Words, answer_of, line_of, said, served_by
from extproc.audit.waiting import Waiting
from extproc.candidates import Column
from extproc.domain import InferenceRequest
from extproc.response import Measurement
from extproc.stages.draft import Draft
from extproc.stages.stage import Ending, Hooks, Step
from extproc.traffic import ServedEntity

_ALL: Final = 2**32
_NO_ID: Final = b""
_NO_ARMS: Final[tuple[tuple[str, str], ...]] = ()
_KEPT: Final = 4096
"""What rows say that is remembered, of each kind."""
_COMPARE_S: Final = 1.0
"""How often the clock that times requests is compared with the one of the wall, which somebody may set."""


class _Decided:
    """What the last row of an entity said of the decision; those behind it mostly say the same."""

    __slots__ = ("arms", "model", "name", "placed", "pool", "rule", "said", "target", "version", "why")

    def __init__(self, draft: Draft, said: str) -> None:
        endpoint, assigned = draft.endpoint, draft.assigned
        self.name = "" if endpoint is None else endpoint.name
        self.version = 0 if endpoint is None else endpoint.spec.config_version
        self.why = draft.entity_reason
        self.rule, self.arms = ("", _NO_ARMS) if assigned is None else (assigned.rule, assigned.experiments)
        self.placed = draft.placed
        self.model = draft.model
        self.target = draft.target_model
        self.pool = draft.pool
        self.said = said

    def is_of(self, draft: Draft) -> bool:
        """Whether it is what a row of this one says."""
        endpoint, assigned = draft.endpoint, draft.assigned
        if endpoint is None:
            return False
        if assigned is None:
            if self.rule or self.arms:
                return False
        elif self.rule != assigned.rule or self.arms != assigned.experiments:
            return False
        if self.pool != draft.pool or self.target != draft.target_model or self.placed != draft.placed:
            return False
        if self.why != draft.entity_reason or self.model != draft.model:
            return False
        return self.version == endpoint.spec.config_version and self.name == endpoint.name


class AuditDecisions:
    """The first stage: it decides nothing, and hears of every request how it was decided and how it ended.

    Which requests, when not all, goes by their ids: so all attempts at one are there, at every replica, or none.
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
        self._served: dict[tuple[str, int, bool, str], str] = {}
        self.hooks = Hooks(committed=self._committed, ended=self._ended)

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
        request_id, attempt = draft.audited, draft.attempt
        if request_id is None:
            return
        draft.audited = None
        entity, assigned = draft.entity, draft.assigned
        if attempt == 0 and entity is None and draft.endpoint is not None and draft.committed:
            return  # it came again, as its attempts
        now_s, started_s = self._clock(), draft.started_s
        if now_s >= self._compare_at_s:
            self._compare_at_s = now_s + _COMPARE_S
            self._epoch_s = self._wall_clock() - now_s
        decided = self._decided.get(entity)
        text = decided.said if decided is not None and decided.is_of(draft) else self._say(draft)
        provided = draft.provided
        server = ending.served or (draft.destination if provided is None else provided.address)
        ended = (
            server,
            ending.status,
            ending.complete or not draft.committed,
            "" if ending.error is None else ending.error.code,
        )
        served = self._served.get(ended)
        if served is None:
            served = self._say_how(ended)
        measured = draft.measurement
        self._sink.add(
            line_of(
                int((self._epoch_s + started_s) * 1000.0),
                request_id,
                text,
                served,
                (now_s - started_s) * 1000.0,
                attempt,
                -1 if assigned is None else assigned.bucket,
                draft.score,
                draft.second,
                "" if measured is None else _answer(measured, now_s),
            )
        )

    def _say(self, draft: Draft) -> str:
        """Of a decision that is another than the entity's last one."""
        endpoint, entity, assigned = draft.endpoint, draft.entity, draft.assigned
        words = (
            "" if endpoint is None else endpoint.name,
            0 if endpoint is None else endpoint.spec.config_version,
            "" if entity is None else entity.name,
            draft.entity_reason,
            "" if assigned is None else assigned.rule,
            _NO_ARMS if assigned is None else assigned.experiments,
            draft.placed,
            draft.model,
            draft.target_model,
            draft.pool,
        )
        text = self._said.get(words)
        if text is None:
            if len(self._said) >= _KEPT:
                self._said.clear()
            text = self._said[words] = said(_words(draft))
        if len(self._decided) >= _KEPT:
            self._decided.clear()
        self._decided[entity] = _Decided(draft, text)
        return text

    def _say_how(self, ended: tuple[str, int, bool, str]) -> str:
        """Of an end that is another than those before."""
        server, status, complete, error = ended
        if len(self._served) >= _KEPT:
            self._served.clear()
        text = self._served[ended] = served_by(server, status, error, complete=complete)
        return text


def _words(draft: Draft) -> Words:
    endpoint, entity, assigned, placed, model = draft.endpoint, draft.entity, draft.assigned, draft.placed, draft.model
    name = "" if endpoint is None else endpoint.name
    return Words(
        endpoint=name,
        entity="" if entity is None else entity.name,
        why="" if entity is None else draft.entity_reason,
        rule="" if assigned is None else assigned.rule,
        arms=() if assigned is None else tuple([f"{experiment}/{arm}" for experiment, arm in assigned.experiments]),
        version=0 if endpoint is None else endpoint.spec.config_version,
        region="" if placed is None else placed.region,
        spill="" if placed is None else placed.spilled,
        spill_cost=0.0 if placed is None else placed.cost,
        model="" if model is None or model == name else model,
        target=draft.target_model or "",
        pool=draft.pool or "",
    )


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
