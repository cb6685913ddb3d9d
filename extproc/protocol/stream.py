"""One ext_proc stream: `ExtProcStream.receive(event)` returns the actions to take, in order.

The transitions are rows of `table.py`; this module and `response_half.py` hold what they do, and `conditions.py` what they look
at. Nothing here waits: when a decision takes time, `DecisionMade` simply arrives later.
"""

from __future__ import annotations

from typing import Final

from extproc.domain import Decision, Reply, ResponseReader, spliced
from extproc.errors import DecisionTimeout, ExtProcError, ProtocolError, ProviderSilent, RequestEvicted, RequestTimeout
from extproc.protocol.actions import (
    Actions,
    AwaitAnswer,
    Decide,
    LetOnLease,
    ReplyBody,
    ReplyImmediately,
    ReplyRequestHeaders,
    ReplyTrailers,
    Withdraw,
)
from extproc.protocol.conditions import BUFFERED, FULL_DUPLEX, NO_BYTES
from extproc.protocol.early import too_large
from extproc.protocol.events import (
    BodyMode,
    Deadline,
    DecisionFailed,
    DecisionMade,
    Direction,
    Event,
    Evicted,
    GivenUp,
    PeerClosed,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    Silence,
)
from extproc.protocol.limits import StreamLimits
from extproc.protocol.pieces import chunks
from extproc.protocol.response_half import ResponseHalf
from extproc.protocol.splices import changed_replies
from extproc.protocol.table import REQUEST_ROWS, RESPONSE_EVENTS, RESPONSE_ROWS, State, rules_of


class ExtProcStream(ResponseHalf):
    """The state of one stream. Not thread safe; one caller feeds it all its events."""

    __slots__ = ("_request_rules", "_response_rules", "request_state")

    def __init__(self, limits: StreamLimits = StreamLimits()) -> None:
        super().__init__(limits)
        self.request_state = State.START
        self._request_rules = _REQUEST_RULES[State.START]
        self._response_rules = _RESPONSE_RULES[State.RESPONSE_START]

    def __repr__(self) -> str:
        falls_back = self._decision is not None and self._decision.falls_back
        return (
            f"<ExtProcStream {self.request_state.name}/{self.response_state.name} {self._config.request_body.name}"
            f"/{self._config.response_body.name} held={self._held_bytes}{' falls back' if falls_back else ''}>"
        )

    def receive(self, event: Event) -> Actions:
        """Take one event; return what to do now, in order. A `Decide` among them wants `DecisionMade` or `DecisionFailed`.

        Raises ProtocolError when the peer sent what the state does not allow; the caller then ends the stream and says
        `PeerClosed`.
        """
        kind = event.__class__
        if kind in RESPONSE_EVENTS:
            state = self.response_state
            if self.request_state is State.ANSWERED or self.request_state is State.CLOSED:
                return []
            by_kind = self._response_rules.get(kind)
            if by_kind is not None:
                before, tried = by_kind
                if before is not None:
                    before(self, event)
                for when, do, to, rules in tried:
                    if when is None or when(self, event):
                        self.response_state, self._response_rules = to, rules
                        return do(self, event)
        else:
            state = self.request_state
            by_kind = self._request_rules.get(kind)
            if by_kind is not None:
                before, tried = by_kind
                if before is not None:
                    before(self, event)
                for when, do, to, rules in tried:
                    if when is None or when(self, event):
                        self.request_state, self._request_rules = to, rules
                        return do(self, event)
        if self.request_state is State.CLOSED:
            return []
        raise ProtocolError(f"unexpected {kind.__name__} while waiting for {state.value}")

    @property
    def is_idle(self) -> bool:
        """Nothing more has to come by here: the request is on its way and the answer's body is not sent to us.

        Before the answer's headers Envoy still has something to ask, which it goes on without when we are gone.
        """
        if self._config.response_body is not BodyMode.NONE or self.request_state is State.WATCHING:
            return False
        if self.response_state is State.RESPONSE_BODY:
            return True
        # In full duplex a request that has not ended comes by here.
        request_has_passed = self._request_ended or self._config.request_body is not FULL_DUPLEX
        return self.response_state is State.RESPONSE_START and self.request_state is State.PASSING and request_has_passed

    @property
    def echoes(self) -> bool:
        """A piece of the response's body would now go on as it is, unless it is the last; `listener` is to hear of it."""
        return (
            self.response_state is State.RESPONSE_BODY
            and (self._reader is None or self._only_listens)
            and self._config.response_body is FULL_DUPLEX
            and self.request_state is not State.ANSWERED
            and self.request_state is not State.CLOSED
        )

    @property
    def listener(self) -> ResponseReader | None:
        """Hears each piece that goes on as it is."""
        return self._reader

    @property
    def held_bytes(self) -> int:
        """Bytes of the request's body that wait for the decision."""
        return self._held_bytes

    @property
    def may_be_evicted(self) -> bool:
        """Evicted would be told to the client."""
        under_way = self.request_state is State.PASSING or self.request_state is State.WATCHING
        return under_way and self._answer_has_not_begun(_EVICTED)

    @property
    def announced(self) -> int | None:
        """The body's length as the request's headers have it, None when they don't."""
        head = self._head
        if head is None:
            return None
        length = head.headers.get("content-length", b"")
        return int(length) if length.isdigit() and len(length) < 16 else None

    def decides_on_body(self, event: Event) -> bool:
        """Whether the next event asks for a decision on a body."""
        state = self.request_state
        if state is State.BUFFERING:
            return isinstance(event, RequestBody)
        if state is State.COLLECTING or state is State.SCANNING:
            return (isinstance(event, RequestBody) and self._body_is_enough(event)) or isinstance(event, RequestTrailers)
        return False

    # -- the request half ----------------------------------------------------------------------------------------

    def _decide_on_headers(self, event: RequestHeaders) -> Actions:
        self._request_ended = event.end_of_stream
        return [Decide(event.head, NO_BYTES if event.end_of_stream else None, not self._bodiless, self._answer_is_seen)]

    def _answer_headers(self, event: RequestHeaders) -> Actions:
        self._head = event.head
        return [ReplyRequestHeaders()]

    def _hold_headers(self, event: RequestHeaders) -> Actions:
        self._head = event.head
        return []

    def _collect(self, event: RequestBody) -> Actions:
        self._keep(event)
        return []

    def _collect_whole(self, event: RequestBody) -> Actions:
        self._watch = None
        return self._collect(event)

    def _keep(self, event: RequestBody) -> None:
        self._pieces += 1
        if self._config.request_body is BodyMode.STREAMED:  # there each piece has its answer
            self._parts.append(event.body)
        elif event.size:
            self._parts += event.pieces
        self._held_bytes += event.size
        if event.subset is not None and self._head is not None:
            self._head = self._head._replace(subset=event.subset)

    def _decide_on_body(self, event: RequestBody) -> Actions:
        self._keep(event)
        self._request_ended = event.end_of_stream
        # In BUFFERED a body without end_of_stream is whole, and trailers follow; in BUFFERED_PARTIAL it may be cut.
        complete = event.end_of_stream or self._config.request_body is BodyMode.BUFFERED
        return self._decide(complete=complete)

    def _decide_at_trailers(self, event: RequestTrailers) -> Actions:
        self._request_ended = True
        self._trailers_end = True
        return self._decide(complete=True)

    def _decide(self, *, complete: bool) -> Actions:
        assert self._head is not None
        parts = self._parts
        only = parts[0] if len(parts) == 1 else None
        body = only if isinstance(only, bytes) else b"".join(parts)
        self._taken = body
        if self._config.request_body is not BodyMode.STREAMED:
            self._parts = [body]  # it may wait long for its decision: not twice
        return [Decide(self._head, body, complete, self._answer_is_seen)]

    @property
    def _answer_is_seen(self) -> bool:
        return self._config.response_body is not BodyMode.NONE

    def _refuse_body(self, event: RequestBody) -> Actions:
        return self._instead(too_large(self._limits.max_body_bytes))

    def _stop_body(self, event: RequestBody) -> Actions:
        # The request is with the upstream, but for this piece; its decision is given back when Envoy has let go of it.
        assert self._watch is not None
        assert self._watch.error is not None
        return [ReplyImmediately(self._watch.error)]

    def _time_out(self, event: Deadline) -> Actions:
        return self._instead(RequestTimeout(f"the request took longer than {self._limits.request_timeout_s:g} s to arrive"))

    def _withdraw_and_give_up(self, event: Deadline) -> Actions:
        return [Withdraw(), *self._instead(DecisionTimeout(f"no decision within {self._limits.request_timeout_s:g} s"))]

    def _refuse(self, event: GivenUp) -> Actions:
        return self._instead(event.error)

    def _withdraw_and_refuse(self, event: GivenUp) -> Actions:
        return [Withdraw(), *self._instead(event.error)]

    def _withdraw_and_refuse_body(self, event: RequestBody) -> Actions:
        return [Withdraw(), *self._refuse_body(event)]

    def _withdraw(self, event: PeerClosed) -> Actions:
        return [Withdraw(), *self._finish(event)]

    def _instead(self, answer: Reply | ExtProcError) -> Actions:
        self._drop_body()
        if isinstance(answer, ExtProcError) and self._head is not None:
            answer.answers(self._head.headers.get(":path", NO_BYTES))
        return [ReplyImmediately(answer)]

    def _defer(self, event: RequestBody | RequestTrailers) -> Actions:
        if isinstance(event, RequestBody):
            if self._config.request_body is FULL_DUPLEX:
                self._held_bytes += event.size
            else:
                # Envoy keeps it itself; it only wants its answer.
                event = RequestBody(NO_BYTES, event.end_of_stream, event.subset)
        self._deferred.append(event)
        return []

    def _drop(self, event: Event) -> Actions:
        return []

    def _answer(self, event: DecisionMade) -> Actions:
        assert isinstance(event.outcome, Reply)
        return self._instead(event.outcome)

    def _fail(self, event: DecisionFailed) -> Actions:
        return self._instead(event.error)

    def _go_on(self, event: DecisionMade) -> Actions:
        decision = event.outcome
        assert isinstance(decision, Decision)
        self._decision = decision
        mode = self._config.request_body
        splices = decision.splices
        if splices and self._watch is not None:
            self._watch.seal()
        actions: Actions
        if mode in BUFFERED and self._pieces:
            actions = [ReplyBody(Direction.REQUEST, decision, spliced(self._taken, splices) if splices else None)]
        else:
            actions = [ReplyRequestHeaders(decision)]
            if self._pieces:
                ends = self._request_ended and not self._trailers_end
                if splices:
                    actions += changed_replies(self._taken, splices, None if mode is FULL_DUPLEX else self._parts, ends=ends)
                elif mode is FULL_DUPLEX:
                    actions += chunks(Direction.REQUEST, self._taken, ends=ends)
                else:
                    actions += [ReplyBody(Direction.REQUEST)] * self._pieces
            if self._trailers_end:
                actions.append(ReplyTrailers(Direction.REQUEST, bool(splices)))
        if decision.patience_s > 0:
            actions.append(AwaitAnswer(decision.patience_s))
        if decision.lease is not None:
            actions.append(LetOnLease(decision.lease))
        deferred = self._deferred
        self._drop_body()
        for late in deferred:
            actions += self.receive(late)
        return actions

    def _drop_body(self) -> None:
        self._parts = []
        self._deferred = []
        self._taken = NO_BYTES
        self._held_bytes = 0

    def _pass_body(self, event: RequestBody) -> Actions:
        self._request_ended = event.end_of_stream
        if self._config.request_body is FULL_DUPLEX:
            return chunks(Direction.REQUEST, event.body, ends=event.end_of_stream)
        return [ReplyBody(Direction.REQUEST)]

    def _pass_trailers(self, event: RequestTrailers) -> Actions:
        self._request_ended = True
        decision = self._decision
        return [ReplyTrailers(Direction.REQUEST, decision is not None and bool(decision.splices))]

    def _end_silence(self, event: Silence) -> Actions:
        assert self._decision is not None
        return self._take_back(ProviderSilent(f"nothing of an answer came within {self._decision.patience_s:g} s"))

    def _evict(self, event: Evicted) -> Actions:
        after_s = event.retry_after_s
        message = f"taken back to make room for a more important request; try again in {after_s} s"
        return self._take_back(RequestEvicted(message, retry_after_s=after_s))

    def _take_back(self, error: ExtProcError) -> Actions:
        """The decision went out, and the client is told this instead of what might come."""
        decision = self._decision
        assert decision is not None
        self._held_response = []
        error.falls_back = decision.falls_back
        self._status = error.status
        return self._instead(error)

    # -- the end -------------------------------------------------------------------------------------------------

    def _finish(self, event: object) -> Actions:
        if self._parts or self._deferred:
            self._drop_body()
        return self._finish_once(complete=False)

    def _give_back(self, event: DecisionMade) -> Actions:
        if isinstance(event.outcome, Decision):
            self._decision = event.outcome
        return self._finish_once(complete=False)


_EVICTED: Final = Evicted(0)
_RESPONSE_RULES = rules_of(ExtProcStream, RESPONSE_ROWS)
_REQUEST_RULES = rules_of(ExtProcStream, REQUEST_ROWS)
