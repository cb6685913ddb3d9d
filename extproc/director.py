"""The one use case: a request becomes a Decision, and a decision is accounted for until its request ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from extproc import names
from extproc.domain import Decision, Reply, RequestHead
from extproc.errors import ExtProcError, RequestError
from extproc.observability.metrics import RouterMetrics, StreamMetrics
from extproc.protocol import Decide, Finished, ServedElsewhere
from extproc.request import ParseOptions, parse
from extproc.response import AnswerReader
from extproc.stages import Draft, InFlight, PickEndpoint, Stage


class Director:
    """Runs a deployment's stages. One for a server; synchronous, and on one event loop."""

    def __init__(
        self,
        stages: Sequence[Stage],
        metrics: StreamMetrics,
        *,
        router_metrics: RouterMetrics | None = None,
        options: ParseOptions = ParseOptions(),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._stages = tuple(stages)
        self._picker = next((stage for stage in stages if isinstance(stage, PickEndpoint)), None)
        self._metrics = metrics
        self._router_metrics = router_metrics
        self._options = options
        self._clock = clock

    def decide(self, question: Decide) -> Decision | Reply:
        """Decide now. Raises ExtProcError for what the client must see."""
        started_s = self._clock()
        head, body, complete = question
        metrics = self._metrics
        try:
            request = parse(head, body, complete=complete, options=self._options)
        except RequestError:
            if self._router_metrics is not None:
                self._router_metrics.not_parsed.value += 1
            raise
        if not complete:
            request = request._replace(body_bytes=max(request.body_bytes, _announced_bytes(head)))
        if request.unread is not None:
            metrics.unread.child(_reason(request.unread)).value += 1
        draft = Draft(started_s, body, complete)
        for stage in self._stages:
            reply = stage.run(request, draft)
            if reply is not None:
                return reply
        took_s = self._clock() - started_s
        metrics.decision.observe(took_s)
        if request.body_bytes:
            metrics.body.observe(request.body_bytes)
        if self._router_metrics is not None:
            self._router_metrics.duration.observe(took_s)
        reader: AnswerReader | None = None
        if draft.measurement is not None or draft.restore_model is not None:
            reader = AnswerReader(draft.measurement, draft.restore_model)
        return Decision(
            draft.set_headers,
            draft.remove_headers,
            draft.metadata,
            draft.ticket,
            draft.destination,
            reader,
            draft.splices,
        )

    def refused(self, error: ExtProcError) -> None:
        """Count a request that we answered with an error."""
        self._metrics.errors.child(error.code).value += 1

    def served_elsewhere(self, told: ServedElsewhere) -> None:
        """Another endpoint than the picked one answers."""
        ticket = told.decision.ticket
        if isinstance(ticket, InFlight) and self._picker is not None:
            self._picker.served_elsewhere(ticket, told.served)

    def finished(self, end: Finished, served: str) -> None:
        """The request of a decision is over."""
        reader = end.decision.reader
        if reader is not None and isinstance(reader, AnswerReader) and reader.unrestored:
            self._metrics.answer_not_restored(reader.unrestored)
        ticket = end.decision.ticket
        if isinstance(ticket, InFlight) and self._picker is not None:
            self._picker.finished(ticket, end.status, served)

    def explain(self, head: RequestHead, body: bytes | None) -> dict[str, Any]:
        """What `decide` would say now, step by step; nothing is counted or sent. Never raises ExtProcError."""
        told: dict[str, Any] = {"request_id": head.text(names.REQUEST_ID_HEADER)}
        draft = Draft(self._clock(), body)
        try:
            request = parse(head, body, options=self._options)
            told |= {"path": request.path, "model": request.model, "body_bytes": request.body_bytes}
            if request.unread:
                told["unread"] = request.unread
            for stage in self._stages:
                said = told[type(stage).__name__] = stage.explain(request, draft)
                if "answered" in said:
                    break
        except ExtProcError as error:
            told["error"] = {"status": error.status, "code": error.code, "message": error.message}
        return told


def _announced_bytes(head: RequestHead) -> int:
    """What content-length says, 0 when it says nothing: the size of a body of which only the beginning is here."""
    said = head.headers.get("content-length", b"")
    return int(said) if said.isdigit() and len(said) < 19 else 0


def _reason(unread: str) -> str:
    """A metric label: the kind of reason, without the client's own words."""
    for kind in ("content-encoding", "content-type"):
        if unread.startswith(kind):
            return kind
    return unread
