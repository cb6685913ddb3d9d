"""How each served entity is doing: what becomes of every request to a serving endpoint goes into its entity's measures."""

from __future__ import annotations

import time
from collections.abc import Callable

from extproc import names
from extproc.domain import InferenceRequest
from extproc.measures import Cell, Measures, Sample, error_kind
from extproc.response import Measurement
from extproc.scheduling.facts import PrefixMatch
from extproc.stages.draft import Choice, Draft
from extproc.stages.stage import Ending, Hooks, Step


class MeasureEntities:
    """Decides nothing. The last of the stages, so that it sees what the choice of an endpoint was made from.

    An attempt is a request of the entity that it was made at. What the choice rested on (the queue there, the part of the
    prompt that it has) is measured too: entities that are compared should have had the same.

    Bodies of answers are read where they come by here: first token, tokens, finish reason. Where they do not, what is known of
    an answer is when its headers came, when it was over and its status, and nothing else is made up.
    """

    def __init__(self, measures: Measures, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._measures = measures
        self._clock = clock
        self.hooks = Hooks(committed=self._committed, answered=self._answered, ended=self._ended)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        choice = draft.choice
        if draft.entity is not None and choice is not None:
            draft.sample = _chosen(choice)
        return None

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        if draft.entity is None:
            return
        if draft.sample is None:
            draft.sample = Sample()
        draft.cells = cells = self._cells(draft)
        request_id = request.head.headers.get(names.REQUEST_ID_HEADER)
        if request_id is not None:
            self._measures.remembered.add(request_id, cells)
        measurement = draft.measurement
        if measurement is None and draft.answer_is_seen:
            draft.measurement = measurement = Measurement(draft.started_s, self._clock, _nothing, only_readable=True)
        if measurement is not None:
            measurement.read_finish_reason()

    def _cells(self, draft: Draft) -> tuple[Cell, ...]:
        """Those of the entity, and of the arms that the request is in."""
        entity = draft.entity
        assert entity is not None
        whole = self._measures.cell(entity.endpoint, entity.name)
        assigned = draft.assigned
        if assigned is None or not assigned.experiments:
            return (whole,)
        arms = [
            self._measures.cell(entity.endpoint, entity.name, f"{experiment}/{arm}") for experiment, arm in assigned.experiments
        ]
        return (whole, *arms)

    def _answered(self, draft: Draft, status: int) -> None:
        if draft.sample is not None:
            draft.sample.headers_s = self._clock() - draft.started_s

    def _ended(self, draft: Draft, ending: Ending) -> None:
        entity = draft.entity
        if entity is None or not draft.entity_reason:  # the client asked for one, and it was not chosen yet
            return
        if draft.lease is not None and draft.lease.revoked:
            return  # it says nothing of who served it
        sample = draft.sample or Sample()
        now_s = self._clock()
        status = ending.status
        # Where the body is not sent here, its end is not either; that the stream ended is all that can be known.
        sample.error = error_kind(status, draft.committed and draft.answer_is_seen and not ending.complete)
        if draft.committed:
            sample.e2e_s = now_s - draft.started_s
        measurement = draft.measurement
        if measurement is not None and draft.committed:
            _read(sample, measurement, now_s)
        if entity.price is not None and not sample.error:
            sample.cost = entity.price.of(sample.input_tokens, sample.output_tokens)
        for cell in draft.cells or self._cells(draft):
            cell.add(sample)


def _read(sample: Sample, measurement: Measurement, now_s: float) -> None:
    """What the answer said of itself."""
    prompt, completion, cached = measurement.usage
    if prompt is not None:
        sample.input_tokens = prompt
    if completion is not None:
        sample.output_tokens = completion
    if cached is not None:
        sample.cached_tokens = cached
    sample.finish_reason = measurement.finish_reason
    if measurement.streaming:
        ttft_s = measurement.times.ttft_s()
        if ttft_s is not None:
            sample.ttft_s = ttft_s
        tpot_s = measurement.times.tpot_s(now_s, completion)
        if tpot_s is not None:
            sample.tpot_s = tpot_s


def _chosen(choice: Choice) -> Sample:
    """What the endpoint was like when it was picked."""
    sample = Sample()
    candidates = choice.candidates
    first = choice.pick.positions[0]
    sample.queue_at_pick = float(candidates.waiting[first])
    for fact in choice.cycle.facts.values():
        if isinstance(fact, PrefixMatch):
            if fact.total:
                sample.hit_fraction = min(1.0, float(fact.matched[candidates.place(first)]) / fact.total)
            break
    return sample


def _nothing(gap_s: float) -> None:
    """Nobody asked for the gaps."""
