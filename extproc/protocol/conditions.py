"""What a stream remembers, and the conditions of the table's rows, which look at it and at the event."""

from __future__ import annotations

from typing import Final

from extproc.domain import Decision, Reply, RequestHead, ResponseReader, is_failure
from extproc.protocol.actions import Actions
from extproc.protocol.early import Watch, watch
from extproc.protocol.events import (
    BodyMode,
    DecisionMade,
    Evicted,
    Pieces,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Silence,
)
from extproc.protocol.limits import StreamLimits
from extproc.protocol.table import State

FULL_DUPLEX: Final = BodyMode.FULL_DUPLEX_STREAMED
BUFFERED: Final = (BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL)
NO_BYTES: Final = b""


class Remembered:
    """The little that a stream remembers beside its states. Written by the stream's doings, and before the conditions."""

    __slots__ = (
        "_bodiless",
        "_config",
        "_decision",
        "_deferred",
        "_finished",
        "_head",
        "_held_bytes",
        "_held_response",
        "_limits",
        "_only_listens",
        "_parts",
        "_pieces",
        "_reader",
        "_request_ended",
        "_status",
        "_taken",
        "_trailers_end",
        "_watch",
        "response_state",
        "served",
    )

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._config = limits.fallback
        self._bodiless = False
        self._head: RequestHead | None = None
        self._parts: Pieces = []
        self._held_bytes = 0
        self._taken = NO_BYTES
        self._pieces = 0
        self._trailers_end = False
        self._request_ended = False
        self._deferred: list[RequestBody | RequestTrailers] = []
        self._watch: Watch | None = None
        self._decision: Decision | None = None
        self._reader: ResponseReader | None = None
        self._only_listens = False
        self._status = 0
        self._held_response: Actions = []
        self._finished = False
        self.response_state = State.RESPONSE_START
        self.served = ""

    # -- before the conditions -----------------------------------------------------------------------------------

    def _begin(self, event: RequestHeaders) -> None:
        """Envoy says how it sends bodies; in early mode the body that is announced may be one to follow."""
        if event.config is not None:
            self._config = event.config
        on_headers = self._limits.on_headers
        if on_headers is not None and not event.end_of_stream and on_headers.are_enough(event.head):
            self._bodiless = True
            return
        scanner_of = self._limits.scanner_of
        if scanner_of is not None and not event.end_of_stream and self._config.request_body is FULL_DUPLEX:
            self._watch = watch(scanner_of, event.head, self._limits.max_body_bytes)

    def _learn_modes(self, event: ResponseHeaders | ResponseBody | ResponseTrailers) -> None:
        """A stream whose request was not sent to us begins here, and so does what Envoy says of its modes."""
        if event.config is not None:
            self._config = event.config

    def _scan(self, event: RequestBody) -> None:
        """Read on for the model; a body that ends here is read whole anyway."""
        if not event.end_of_stream:
            self._look_at(event)

    def _look_at(self, event: RequestBody) -> None:
        assert self._watch is not None
        self._watch.read(event.pieces, event.size)

    # -- conditions: they only look ------------------------------------------------------------------------------

    def _body_is_not_seen(self, event: RequestHeaders) -> bool:
        mode = self._config.request_body
        return (
            event.end_of_stream
            or self._bodiless
            or mode is BodyMode.NONE
            or (mode is BodyMode.STREAMED and not self._config.body_without_headers_reply)
        )

    def _body_is_buffered(self, event: RequestHeaders) -> bool:
        return self._config.request_body in BUFFERED

    def _body_can_be_scanned(self, event: RequestHeaders) -> bool:
        return self._watch is not None

    def _model_is_known(self, event: RequestBody) -> bool:
        assert self._watch is not None
        return self._watch.known

    def _model_may_still_come(self, event: RequestBody) -> bool:
        assert self._watch is not None
        return self._watch.error is None and self._held_bytes + event.size < self._limits.streamed_hold_bytes

    def _body_goes_on(self, event: DecisionMade) -> bool:
        return self._watch is not None and not self._request_ended

    def _body_may_not_pass(self, event: RequestBody) -> bool:
        assert self._watch is not None
        return self._watch.error is not None

    def _body_is_too_large(self, event: RequestBody) -> bool:
        return self._held_bytes + event.size > self._limits.max_body_bytes

    def _body_is_enough(self, event: RequestBody) -> bool:
        return event.end_of_stream or (
            self._config.request_body is BodyMode.STREAMED and self._held_bytes + event.size >= self._limits.streamed_hold_bytes
        )

    def _answer_is_ours(self, event: DecisionMade) -> bool:
        return isinstance(event.outcome, Reply)

    def _answer_may_still_fail(self, event: ResponseHeaders) -> bool:
        decision = self._decision
        return (
            decision is not None
            and (decision.falls_back or decision.patience_s > 0 or decision.lease is not None)
            and self._config.response_body is FULL_DUPLEX  # in other modes nothing comes before the headers' reply
            and not is_failure(event.status)
        )

    def _answer_has_not_begun(self, event: Silence | Evicted) -> bool:
        return (
            self._decision is not None
            and not self._finished
            and (self.response_state is State.RESPONSE_START or self.response_state is State.RESPONSE_HELD)
        )

    def _request_has_ended(self, event: RequestBody) -> bool:
        return self._request_ended

    def _ends(self, event: RequestBody | ResponseHeaders | ResponseBody) -> bool:
        return event.end_of_stream
