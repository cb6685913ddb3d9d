"""The one use case: a request becomes a Decision, and a decision is accounted for until its request ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from extproc import names
from extproc.domain import NO_MUTATION, Decision, InferenceRequest, Reply, RequestHead, ResponseReader, is_failure
from extproc.errors import ExtProcError, RequestError
from extproc.observability.logs import peer_logger
from extproc.observability.metrics import RouterMetrics, StreamMetrics
from extproc.protocol import Answered, Decide, Finished
from extproc.request import ParseOptions, parse
from extproc.response import AnswerReader
from extproc.stages import Draft, Ending, Enough, Pending, Reasons, Stage, Step

_log = peer_logger(__name__)


class Suspended:
    """A decision that waits: `pending` is what for."""

    __slots__ = ("at", "draft", "is_light", "pending", "request")

    def __init__(self, request: InferenceRequest, draft: Draft, at: int, pending: Pending) -> None:
        """`at` is the place of the stage that waits."""
        self.is_light = pending.may_be_long and request.payload is not None
        """The parsed body was let go of, which is as large as the body: it is parsed again when the decision goes on."""
        self.request = request._replace(payload=None) if self.is_light else request
        self.draft = draft
        self.at = at
        self.pending = pending


class Director:
    """Runs a deployment's stages. One for a server; synchronous, and on one event loop.

    Without metrics it decides and accounts for nothing: to explain, to try, to replay.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        metrics: StreamMetrics | None = None,
        *,
        router_metrics: RouterMetrics | None = None,
        options: ParseOptions = ParseOptions(),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._stages = tuple(stages)
        self._metrics = metrics
        self._router_metrics = router_metrics
        self._options = options
        self._clock = clock
        hooks = [stage.hooks for stage in stages] if metrics is not None else []
        self._on_committed = tuple([each.committed for each in hooks if each.committed is not None])
        self._on_answered = tuple([each.answered for each in hooks if each.answered is not None])
        self._on_elsewhere = tuple([each.served_elsewhere for each in hooks if each.served_elsewhere is not None])
        self._on_ended = tuple([each.ended for each in hooks if each.ended is not None])

    # -- deciding ------------------------------------------------------------------------------------------------

    def decide(self, question: Decide) -> Decision | Reply | Suspended:
        """Decide now. Raises ExtProcError for what the client must see."""
        started_s = self._clock()
        head, body, complete = question.head, question.body, question.complete
        try:
            request = parse(head, body, complete=complete, options=self._options)
        except RequestError:
            if self._router_metrics is not None:
                self._router_metrics.not_parsed.value += 1
            raise
        if not complete:
            request = request._replace(body_bytes=max(request.body_bytes, _announced_bytes(head)))
        if request.unread is not None and self._metrics is not None:
            self._metrics.unread.child(_reason(request.unread)).value += 1
        draft = Draft(started_s, body, complete, model=request.model, empty_model=request.empty_model)
        draft.answer_is_seen = question.answer_is_seen
        if head.attempt is not None:
            draft.attempt = head.attempt
            draft.counted = head.attempt < 2
        return self._go_on(request, draft, 0, None)

    def resume(self, suspended: Suspended, outcome: object) -> Decision | Reply | Suspended:
        """Go on with a decision that had to wait, as `decide`; an outcome that is an exception is raised."""
        metrics = self._metrics
        if metrics is not None:
            metrics.wait_ended(suspended.pending.what, "refused" if isinstance(outcome, Exception) else "resumed")
        request, draft = suspended.request, suspended.draft
        if suspended.is_light and not isinstance(outcome, Exception):
            again = parse(request.head, draft.body, complete=draft.complete, options=self._options)
            request = request._replace(payload=again.payload)
        return self._go_on(request, draft, suspended.at, (suspended.pending, outcome))

    def withdrawn(self, suspended: Suspended) -> None:
        """Nobody wants this decision any more."""
        if self._metrics is not None:
            self._metrics.wait_ended(suspended.pending.what, "withdrawn")
        self._end(suspended.draft, _WITHDRAWN)

    def _go_on(
        self, request: InferenceRequest, draft: Draft, at: int, waited: tuple[Pending, object] | None
    ) -> Decision | Reply | Suspended:
        stages = self._stages
        count = len(stages)
        try:
            while at < count:
                if waited is None:
                    step = stages[at].decide(request, draft)
                else:
                    step, waited = _continued(waited[0], waited[1]), None
                if step is not None:
                    if isinstance(step, Pending):
                        return self._suspend(request, draft, at, step)
                    if isinstance(step, Enough):
                        return self._commit(request, draft)
                    self._end(draft, Ending(step.status, by=stages[at]))
                    if draft.falls_back and is_failure(step.status):
                        step = step._replace(headers=(*step.headers, (names.NEXT_ENTITY_HEADER, "1")))
                    return step
                at += 1
            return self._commit(request, draft)
        except ExtProcError as error:
            error.falls_back = draft.falls_back and is_failure(error.status)
            self._end(draft, Ending(error.status, error=error, by=stages[at] if at < count else None))
            raise
        except Exception:
            self._end(draft, Ending(_INTERNAL_ERROR, by=stages[at] if at < count else None))
            raise

    def _suspend(self, request: InferenceRequest, draft: Draft, at: int, pending: Pending) -> Suspended:
        if self._metrics is not None:
            self._metrics.waits(pending.what)
        return Suspended(request, draft, at, pending)

    # -- accounting ----------------------------------------------------------------------------------------------

    def _commit(self, request: InferenceRequest, draft: Draft) -> Decision:
        metrics = self._metrics
        if metrics is not None:
            draft.committed = True
            for hook in self._on_committed:
                hook(request, draft)
            if request.body_bytes:
                metrics.body.observe(request.body_bytes)
            took_s = self._clock() - draft.started_s
            metrics.decision.observe(took_s)
            if self._router_metrics is not None:
                self._router_metrics.duration.observe(took_s)
        reader: ResponseReader | None = None
        if draft.make_reader is not None:
            reader = draft.make_reader(draft.measurement)
        elif draft.reads_answer:
            reader = AnswerReader(draft.measurement, draft.restore_model, draft.response_id, draft.first, draft.shadow)
        decision = Decision(
            draft.set_headers,
            draft.remove_headers,
            (*draft.metadata, _FALLS_BACK) if draft.falls_back else draft.metadata,
            draft,
            draft.destination,
            reader,
            draft.splices,
            draft.response() or NO_MUTATION,
            draft.falls_back,
            0.0 if draft.provided is None else draft.provided.patience_s,
            draft.served_header,
            draft.report,
            draft.lease,
        )
        draft.let_go()
        return decision

    def refused(self, error: ExtProcError) -> None:
        """Count a request that we answered with an error."""
        if self._metrics is not None:
            self._metrics.errors.child(error.code).value += 1

    def answered(self, answer: Answered) -> None:
        """The response's headers are here."""
        draft = answer.decision.ticket
        if not isinstance(draft, Draft):
            return
        if self._on_elsewhere and answer.elsewhere:
            for moved in self._on_elsewhere:
                try:
                    moved(draft, answer.served)
                except Exception:  # the answer is to go on, and the others are to hear of it, all the same
                    _log.exception("a stage failed to account for who answered")
        for hook in self._on_answered:
            try:
                hook(draft, answer.status)
            except Exception:
                _log.exception("a stage failed to account for an answer")

    def finished(self, end: Finished, served: str) -> None:
        """The request of a decision is over."""
        decision = end.decision
        reader = decision.reader
        if reader is not None and self._metrics is not None and isinstance(reader, AnswerReader) and reader.unrestored:
            self._metrics.answer_not_restored(reader.unrestored)
        draft = decision.ticket
        if isinstance(draft, Draft):
            self._end(draft, Ending(end.status, end.complete, served))

    def _end(self, draft: Draft, ending: Ending) -> None:
        for hook in self._on_ended:
            try:
                hook(draft, ending)
            except Exception:  # the others are to hear of it all the same
                _log.exception("a stage failed to account for a request's end")

    # -- explaining ----------------------------------------------------------------------------------------------

    def explain(self, head: RequestHead, body: bytes | None, known: Mapping[str, object] = {}) -> dict[str, Any]:
        """What `decide` would say now, step by step; nothing is counted, booked or waited for. Never raises ExtProcError.

        `known`: outcomes of waits, by what they are for (`Pending.what`): then it goes on behind them.
        """
        told: dict[str, Any] = {"request_id": head.text(names.REQUEST_ID_HEADER)}
        reasons = Reasons()
        try:
            request = parse(head, body, options=self._options)
            told |= {"path": request.path, "model": request.model, "body_bytes": request.body_bytes}
            if request.unread:
                told["unread"] = request.unread
            draft = Draft(self._clock(), body, model=request.model, empty_model=request.empty_model, reasons=reasons)
            for stage in self._stages:
                step = stage.decide(request, draft)
                if isinstance(step, Pending) and step.what in known:
                    step = step.then(known[step.what])
                if step is None:
                    continue
                if isinstance(step, Pending):
                    reasons.of(stage, {"waits_for": step.what, "timeout_s": step.timeout_s})
                elif not isinstance(step, Enough):
                    reasons.of(stage, {"answered": step.status})
                break
        except ExtProcError as error:
            told |= reasons.by_stage
            told["error"] = {"status": error.status, "code": error.code, "message": error.message}
            return told
        return told | reasons.by_stage


_INTERNAL_ERROR: Final = 500
_FALLS_BACK: Final = (names.FALLS_BACK_KEY, "1")
_WITHDRAWN: Final = Ending()


def _continued(pending: Pending, outcome: object) -> Step:
    if isinstance(outcome, Exception):
        raise outcome
    return pending.then(outcome)


def _announced_bytes(head: RequestHead) -> int:
    """What content-length says, 0 when it says nothing: the size of a body of which only the beginning is here."""
    length = head.headers.get("content-length", b"")
    return int(length) if length.isdigit() and len(length) < 19 else 0


def _reason(unread: str) -> str:
    """A metric label: the kind of reason, without the client's own words."""
    for kind in ("content-encoding", "content-type"):
        if unread.startswith(kind):
            return kind
    return unread
