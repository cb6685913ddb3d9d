"""One stream: message bytes in, answer bytes out, in one synchronous call. Every transport uses this."""

from __future__ import annotations

from typing import Final, Protocol

import orjson

from extproc import names
from extproc.domain import Decision, Reply
from extproc.errors import ExtProcError, InternalError
from extproc.observability.logs import logger
from extproc.protocol import (
    Action,
    Deadline,
    Decide,
    DecisionFailed,
    DecisionMade,
    ExtProcStream,
    Finished,
    PeerClosed,
    ReplyBody,
    ReplyChunk,
    ReplyHeaders,
    ReplyImmediately,
    ReplyTrailers,
    ServedElsewhere,
    StreamLimits,
)
from extproc.transport import codec
from extproc.transport.codec import Encoder, Message

_log = logger(__name__)


_DEADLINE: Final = Deadline()
_CLOSED: Final = PeerClosed()


class Decider(Protocol):
    """What a session asks: the director, or a test's stand-in."""

    def decide(self, question: Decide) -> Decision | Reply:
        """Decide now. Raises ExtProcError for what the client or the operator must see."""
        ...

    def refused(self, error: ExtProcError) -> None:
        """The stream refused the request before it came to a decision."""
        ...

    def served_elsewhere(self, told: ServedElsewhere) -> None:
        """Another endpoint than the picked one answers; said before `finished`, at most once."""
        ...

    def finished(self, end: Finished, served: str) -> None:
        """The request of a decision is over; said exactly once. `served`: the endpoint that answered, as far as told."""
        ...


class Session:
    """The life of one stream."""

    __slots__ = ("_decider", "_encoder", "_held", "_stream", "_waits")

    def __init__(self, decider: Decider, encoder: Encoder, limits: StreamLimits, *, waits: bool = False) -> None:
        """`waits`: a first message that asks for no answer is read together with the second. For a transport that changes
        threads between messages, so that what reads them is cold each time.
        """
        self._decider = decider
        self._encoder = encoder
        self._stream = ExtProcStream(limits)
        self._waits = waits
        self._held: bytes | None = None

    def __repr__(self) -> str:
        return f"<Session {self._stream!r}>"

    def receive(self, raw: bytes) -> list[Message]:
        """Take one message; return the answers to send, in order. Raises ProtocolError: end the stream with its message."""
        if raw[:1] == codec.RESPONSE_BODY and self._stream.echoes:
            echo = codec.echo(raw)
            if echo is not None:
                return [echo]
        if self._waits:
            self._waits = False
            if codec.can_wait(raw):
                self._held = raw
                return []
        stream = self._stream
        out: list[Message] = []
        if self._held is not None:
            held, self._held = self._held, None
            self._perform(stream.receive(codec.decode(held)), out)
        return self._perform(stream.receive(codec.decode(raw)), out)

    @property
    def may_leave(self) -> bool:
        """Whether Envoy needs nothing more from us: the request has passed, and the answer's body is not sent to us."""
        return self._stream.is_idle

    def expire(self) -> list[Message]:
        """The stream is `StreamLimits.request_timeout_s` old: say it once for each stream that is still open.

        Returns the answer to send when the request is still undecided, an ImmediateResponse; then nothing more will be sent,
        and the stream may be ended. Else nothing: the answer to a request may take as long as it likes.
        """
        self._held = None
        return self._perform(self._stream.receive(_DEADLINE), [])

    def closed(self) -> None:
        """The stream is over, for whatever reason. May be said more than once."""
        self._perform(self._stream.receive(_CLOSED), [])

    def _perform(self, actions: list[Action], out: list[Message]) -> list[Message]:
        for action in actions:
            kind = action.__class__  # a comparison for each kind is cheaper than isinstance, and mypy does not follow it
            if kind is ReplyChunk:
                out.append(codec.chunk(*action))
            elif kind is ReplyHeaders:
                out.append(self._encoder.headers(*action))
            elif kind is Decide:
                self._perform(self._stream.receive(self._decide(action)), out)  # type: ignore[arg-type]
            elif kind is ReplyBody:
                out.append(self._encoder.body(*action))
            elif kind is Finished:
                self._decider.finished(action, self._stream.served)  # type: ignore[arg-type]
            elif kind is ServedElsewhere:
                self._decider.served_elsewhere(action)  # type: ignore[arg-type]
            elif isinstance(action, ReplyTrailers):
                out.append(codec.trailers(action.direction))
            elif isinstance(action, ReplyImmediately):
                answer = action.answer
                if isinstance(answer, ExtProcError):
                    self._decider.refused(answer)
                    answer = reply_of(answer)
                out.append(codec.immediate(answer))
        return out

    def _decide(self, question: Decide) -> DecisionMade | DecisionFailed:
        try:
            return DecisionMade(self._decider.decide(question))
        except ExtProcError as error:
            request_id = question.head.text(names.REQUEST_ID_HEADER)
            _log.debug("request refused", request_id=request_id, code=error.code, status=error.status, error=error.message)
            return DecisionFailed(error)
        except Exception:
            # The request is not at fault and must not take the stream's other bookkeeping down with it.
            _log.exception("decision failed", request_id=question.head.text(names.REQUEST_ID_HEADER))
            return DecisionFailed(InternalError("internal error"))


def reply_of(error: ExtProcError) -> Reply:
    """The error in OpenAI's shape (https://platform.openai.com/docs/guides/error-codes)."""
    body = {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    headers = ((names.DROPPED_REASON_HEADER, error.dropped_reason),) if error.dropped_reason else ()
    return Reply(error.status, orjson.dumps(body), headers=headers, details=f"extproc_{error.code}")
