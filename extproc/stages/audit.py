"""Decisions for those who ask later: a row for each request, handed over when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from zlib import crc32

from extproc import names
from extproc.audit.row import Row
from extproc.audit.waiting import Waiting
from extproc.candidates import Column
from extproc.domain import InferenceRequest
from extproc.stages.draft import Choice, Draft
from extproc.stages.stage import Ending, Hooks, Step

_HANDED_OVER: Final = -1
_ALL: Final = 2**32


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
        """Rows go into `sink`. `sample` of 0 to 1 of the requests; those without an id are always among them."""
        self._sink = sink
        self._below = int(sample * _ALL)
        self._clock = clock
        self._wall_clock = wall_clock
        self.hooks = Hooks(committed=self._committed, ended=self._ended)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        head = request.head
        request_id = head.headers.get(names.REQUEST_ID_HEADER, b"")
        below = self._below
        if below == _ALL or below > crc32(request_id):
            attempt = head.attempt
            row = Row(int(self._wall_clock() * 1000), request_id.decode("latin-1"))
            row.attempt = 0 if attempt is None else attempt if attempt > 0 else _HANDED_OVER
            draft.audited = row
        return None

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        """What the draft lets go of now."""
        row, choice = draft.audited, draft.choice
        if row is not None and choice is not None:
            _take_choice(row, choice)

    def _ended(self, draft: Draft, ending: Ending) -> None:
        row = draft.audited
        if row is None:
            return
        draft.audited = None
        endpoint, entity = draft.endpoint, draft.entity
        if row.attempt == _HANDED_OVER and draft.committed and endpoint is not None and entity is None:
            return  # it came again, as its attempts
        if endpoint is not None:
            row.endpoint = endpoint.name
            row.version = endpoint.spec.config_version
        if entity is not None:
            row.entity = entity.name
            row.why = draft.entity_reason
        assigned = draft.assigned
        if assigned is not None:
            row.rule = assigned.rule
            row.bucket = assigned.bucket
            if assigned.experiments:
                row.arms = tuple([f"{experiment}/{arm}" for experiment, arm in assigned.experiments])
        placed = draft.placed
        if placed is not None:
            row.region = placed.region
            row.spill = placed.spilled
            row.spill_cost = placed.cost
        model = draft.model
        if model is not None and model != row.endpoint:
            row.model = model
        if draft.target_model is not None:
            row.target = draft.target_model
        row.pool = draft.pool or ""
        provided = draft.provided
        row.server = ending.served or (draft.destination if provided is None else provided.address)
        row.status = ending.status
        row.complete = ending.complete or not draft.committed
        if ending.error is not None:
            row.error = ending.error.code
        self._measure(row, draft)
        self._sink.add(row.line())

    def _measure(self, row: Row, draft: Draft) -> None:
        now_s = self._clock()
        row.ms = (now_s - draft.started_s) * 1000
        measured = draft.measurement
        if measured is None:
            return
        usage = measured.usage
        row.ttft_s = measured.times.ttft_s()
        row.in_tokens = usage.prompt
        row.out_tokens = usage.completion
        if measured.streaming:
            row.tpot_s = measured.times.tpot_s(now_s, usage.completion)


def _take_choice(row: Row, choice: Choice) -> None:
    pick = choice.pick
    row.score = float(pick.score)
    if len(pick.totals) > 1:
        row.second = _best_but(pick.totals, pick.positions[0])


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
