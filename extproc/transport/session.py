"""One stream: message bytes in, answer bytes out, in one synchronous call. Every transport uses this."""

from __future__ import annotations

from typing import Final, Protocol

import orjson

from extproc import names
from extproc.director import Suspended
from extproc.domain import Decision, Reply, RequestHead
from extproc.errors import ExtProcError, InternalError
from extproc.observability.logs import logger, peer_logger
from extproc.protocol import (
    Action,
    Answered,
    AwaitAnswer,
    Deadline,
    Decide,
    DecisionFailed,
    DecisionMade,
    Event,
    Evicted,
    ExtProcStream,
    Finished,
    GivenUp,
    LetOnLease,
    PeerClosed,
    Pieces,
    ReplyBody,
    ReplyChunk,
    ReplyImmediately,
    ReplyRequestHeaders,
    ReplyResponseHeaders,
    ReplyTrailers,
    RequestBody,
    Silence,
    StreamLimits,
    TellNumbers,
    Withdraw,
)
from extproc.transport import codec
from extproc.transport.codec import Encoder, Message
from extproc.transport.waiting import Carrier, Timer, Wait

_log = logger(__name__)
_peers_log = peer_logger(__name__)


_DEADLINE: Final = Deadline()
_CLOSED: Final = PeerClosed()
_SILENCE: Final = Silence()


class Decider(Protocol):
    """What a session asks: the director, or a test's stand-in."""

    def decide(self, question: Decide) -> Decision | Reply | Suspended:
        """Decide now, or say that it has to wait. Raises ExtProcError for what the client or the operator must see."""
        ...

    def resume(self, suspended: Suspended, outcome: object) -> Decision | Reply | Suspended:
        """Go on with a decision that had to wait, as `decide`. `outcome` is what the wait brought; an exception is raised."""
        ...

    def withdrawn(self, suspended: Suspended) -> None:
        """Nobody wants this decision any more."""
        ...

    def refused(self, error: ExtProcError) -> None:
        """The request was answered with this error."""
        ...

    def answered(self, answer: Answered) -> None:
        """The response's headers are here; said before `finished`, at most once."""
        ...

    def finished(self, end: Finished, served: str) -> None:
        """The request of a decision is over; said exactly once. `served`: the endpoint that answered, as far as told."""
        ...


class Session:
    """The life of one stream."""

    __slots__ = (
        "_decider",
        "_encoder",
        "_held",
        "_large",
        "_late",
        "_on_headers",
        "_silence",
        "_stream",
        "_wait",
        "_waits",
        "carrier",
    )

    def __init__(self, decider: Decider, encoder: Encoder, limits: StreamLimits, *, waits: bool = False) -> None:
        """`waits`: a first message that asks for no answer is read together with the second. For a transport that changes
        threads between messages, so that what reads them is cold each time.
        """
        self._decider = decider
        self._encoder = encoder
        self._stream = ExtProcStream(limits)
        self._waits = waits
        self._on_headers = limits.on_headers
        self._held: bytes | None = None
        self._large = limits.large_body_bytes
        self._late: list[Event] | None = None
        """What waits for the turn of a large decision."""
        self.carrier: Carrier | None = None
        """Who is told when a decision that had to wait can go on; let go of with the stream."""
        self._wait: Wait | None = None
        self._silence: Timer | None = None
        """Goes off when the answer has had its time to begin."""

    def __repr__(self) -> str:
        return f"<Session {self._stream!r}>"

    def receive(self, raw: bytes) -> list[Message]:
        """Take one message; return the answers to send, in order. Raises ProtocolError: end the stream with its message."""
        # Behind a late decision a piece waits as all others do: one of the same body may stand before it.
        if raw[:1] == codec.RESPONSE_BODY and self._late is None and self._stream.echoes:
            echo = codec.echo(raw)
            if echo is not None:
                listener = self._stream.listener
                if listener is not None:
                    listener.body(codec.echoed(raw), False)
                return [echo]
        if self._waits:
            self._waits = False
            if codec.can_wait(raw) and not self._is_enough(raw):
                self._held = raw
                return []
        stream = self._stream
        out: list[Message] = []
        if self._held is not None:
            held, self._held = self._held, None
            self._perform(stream.receive(codec.decode(held)), out)
        return self._take(codec.decode(raw), len(raw), out)

    def body_in(self, pieces: Pieces) -> RequestBody | None:
        """What a large message says that came in pieces, for `receive_body`; None when they have to be joined for `receive`."""
        return None if self._waits or self._held is not None else codec.decode_pieces(pieces)

    def receive_body(self, event: RequestBody) -> list[Message]:
        """As `receive`, of a message that was read in pieces: those of a body are not joined before all of it is."""
        return self._take(event, event.size, [])

    def _take(self, event: Event, size: int, out: list[Message]) -> list[Message]:
        """What a message of about `size` bytes says: now, or when a large decision before it has had its turn."""
        if (self._stream.held_bytes + size > self._large or self._late is not None) and self._comes_late(event):
            return out
        return self._perform(self._stream.receive(event), out)

    def _comes_late(self, event: Event) -> bool:
        """Whether this waits: it asks for a decision on a large body, which has its turn, or comes behind one."""
        if self._late is not None:
            self._late.append(event)
            return True
        carrier = self.carrier
        if carrier is None or not self._stream.decides_on_body(event) or not carrier.ask():
            return False
        self._late = [event]
        return True

    def take_turn(self) -> list[Message]:
        """It is the turn of the large decision for which `Carrier.ask` was said. As `receive`."""
        late, self._late = self._late, None
        out: list[Message] = []
        for event in late or ():
            self._perform(self._stream.receive(event), out)
        return out

    def _is_enough(self, raw: bytes) -> bool:
        """Whether the headers' message may be all that is needed: then a second one may never come."""
        on_headers = self._on_headers
        return on_headers is not None and any(mark in raw for mark in on_headers.marks)

    @property
    def may_leave(self) -> bool:
        """Whether Envoy needs nothing more from us: the request has passed, and the answer's body is not sent to us."""
        return self._stream.is_idle

    @property
    def is_waiting(self) -> bool:
        """A decision waits, and the carrier will be told unless it is withdrawn."""
        return self._wait is not None or self._late is not None

    @property
    def is_late(self) -> bool:
        """A large decision waits for its turn."""
        return self._late is not None

    @property
    def announced(self) -> int | None:
        """How long the request's body is, as far as its headers tell."""
        return self._stream.announced

    def resume(self, outcome: object) -> list[Message]:
        """What a decision waited for is here. Return the answers to send, in order: none when it has to wait again.

        An `outcome` that is an exception ends the decision with it. Nothing happens when no decision waits, unless it is the
        Silence of an answer that this session waited for, or its request is Evicted.
        """
        if isinstance(outcome, Silence | Evicted):
            return self._perform(self._stream.receive(outcome), [])
        wait = self._wait
        if wait is None:
            return []
        self._wait = None
        made = self._settle(wait.suspended, outcome)
        return [] if made is None else self._perform(self._stream.receive(made), [])

    def expire(self) -> list[Message]:
        """The stream is `StreamLimits.request_timeout_s` old: say it once for each stream that is still open.

        Returns the answer to send when the request is still undecided, an ImmediateResponse; then nothing more will be sent,
        and the stream may be ended. Else nothing: the answer to a request may take as long as it likes.
        """
        self._held = self._late = None
        return self._perform(self._stream.receive(_DEADLINE), [])

    def give_up(self, error: ExtProcError) -> list[Message]:
        """There is no room for this request. Returns the answer as `expire` does."""
        self._held = self._late = None
        return self._perform(self._stream.receive(GivenUp(error)), [])

    def closed(self) -> None:
        """The stream is over, for whatever reason. May be said more than once."""
        self._late = None
        self._perform(self._stream.receive(_CLOSED), [])
        self.carrier = None
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _perform(self, actions: list[Action], out: list[Message]) -> list[Message]:
        for action in actions:
            if isinstance(action, ReplyChunk):
                out.append(codec.chunk(action.direction, action.body, action.end_of_stream))
            elif isinstance(action, ReplyRequestHeaders):
                out.append(self._encoder.request_headers(action.decision))
            elif isinstance(action, Decide):
                made = self._decide(action)
                if made is not None:
                    self._perform(self._stream.receive(made), out)
            elif isinstance(action, Answered):
                self._decider.answered(action)
            elif isinstance(action, Finished):
                self._decider.finished(action, self._stream.served)
            else:
                self._perform_rare(action, out)
        return out

    def _perform_rare(self, action: Action, out: list[Message]) -> None:
        if isinstance(action, ReplyResponseHeaders):
            out.append(self._encoder.response_headers(*action))
        elif isinstance(action, ReplyBody):
            out.append(self._encoder.body(*action))
        elif isinstance(action, Withdraw):
            self._withdraw()
        elif isinstance(action, AwaitAnswer):
            if self.carrier is not None:
                self._silence = self.carrier.later(action.patience_s, self._is_silent)
        elif isinstance(action, LetOnLease):
            action.lease.revoke = self._revoke
        elif isinstance(action, ReplyTrailers):
            out.append(codec.trailers(action.direction, action.changed))
        elif isinstance(action, TellNumbers):
            out[-1] = codec.with_numbers(out[-1], action.numbers)
        elif isinstance(action, ReplyImmediately):
            answer = action.answer
            if isinstance(answer, ExtProcError):
                self._decider.refused(answer)
                answer = reply_of(answer)
            out.append(codec.immediate(answer))

    def _decide(self, question: Decide) -> DecisionMade | DecisionFailed | None:
        try:
            outcome = self._decider.decide(question)
        except Exception as error:
            return _failed(error, question.head)
        if isinstance(outcome, Suspended):
            return self._begin(outcome)
        return DecisionMade(outcome)

    def _begin(self, suspended: Suspended) -> DecisionMade | DecisionFailed | None:
        """Let it wait. What is known at once needs no wait."""
        carrier = self.carrier
        if carrier is None:
            return self._settle(suspended, RuntimeError("a decision has to wait where nothing can"))
        wait = Wait(suspended, carrier)
        if wait.over:
            return self._settle(suspended, wait.outcome)
        self._wait = wait
        return None

    def _settle(self, suspended: Suspended, outcome: object) -> DecisionMade | DecisionFailed | None:
        try:
            made = self._decider.resume(suspended, outcome)
        except Exception as error:
            return _failed(error, suspended.request.head)
        if isinstance(made, Suspended):
            return self._begin(made)
        return DecisionMade(made)

    def _is_silent(self) -> None:
        """As a timer: the carrier sends what comes of it."""
        self._silence = None
        if self.carrier is not None:
            self.carrier.resume(_SILENCE)

    def _revoke(self, retry_after_s: int) -> bool:
        """As a lease: the carrier sends what comes of it."""
        carrier = self.carrier
        if carrier is None or not self._stream.may_be_evicted:
            return False
        carrier.resume(Evicted(retry_after_s))
        return True

    def _withdraw(self) -> None:
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.withdraw()
            self._decider.withdrawn(wait.suspended)


def _failed(error: Exception, head: RequestHead) -> DecisionFailed:
    request_id = head.text(names.REQUEST_ID_HEADER)
    path = head.headers.get(":path", b"")
    if isinstance(error, ExtProcError):
        error.answers(path)
        _log.debug("request refused", request_id=request_id, code=error.code, status=error.status, error=error.message)
        # The stream keeps it, and it would keep the frames that it went through, which have the stream and the body.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        return DecisionFailed(error)
    # The request is not at fault and must not take the stream's other bookkeeping down with it.
    _peers_log.error("decision failed", request_id=request_id, exc_info=error)
    internal = InternalError("internal error")
    internal.answers(path)
    return DecisionFailed(internal)


_UNAUTHORIZED: Final = 401
_NOT_THIS_METHOD: Final = 405


def reply_of(error: ExtProcError) -> Reply:
    """The error in OpenAI's shape (https://platform.openai.com/docs/guides/error-codes), or in Databricks'."""
    if error.to_databricks:
        body = orjson.dumps({"error_code": error.error_code, "message": error.message})
    else:
        fault = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
        body = orjson.dumps({"error": fault})
    headers: tuple[tuple[str, str], ...] = (
        ((names.DROPPED_REASON_HEADER, error.dropped_reason),) if error.dropped_reason else ()
    )
    if error.status == _UNAUTHORIZED:
        headers += (("www-authenticate", "Bearer"),)
    if error.status == _NOT_THIS_METHOD:
        headers += (("allow", "POST"),)
    if error.retry_after_s:
        headers += (("retry-after", str(error.retry_after_s)),)
    if error.falls_back:
        headers += ((names.NEXT_ENTITY_HEADER, "1"),)
    return Reply(error.status, body, headers=headers, details=f"extproc_{error.code}")
