"""Envoy's events in short, and what a stream does about them as short lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from extproc.domain import Decision, Reply, RequestHead
from extproc.errors import ConflictingModel, ExtProcError, Overloaded
from extproc.protocol import (
    Action,
    Answered,
    AwaitAnswer,
    BodyMode,
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
    ProtocolConfig,
    ReplyChunk,
    ReplyImmediately,
    ReplyRequestHeaders,
    ReplyResponseHeaders,
    ReplyTrailers,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Silence,
    StreamLimits,
    TellNumbers,
    Withdraw,
)

NONE = BodyMode.NONE
STREAMED = BodyMode.STREAMED
BUFFERED = BodyMode.BUFFERED
PARTIAL = BodyMode.BUFFERED_PARTIAL
FDS = BodyMode.FULL_DUPLEX_STREAMED

HEAD = RequestHead({":method": b"POST", ":path": b"/v1/chat/completions", "content-type": b"application/json"})
DECISION = Decision(set_headers=(("X-Gateway-Model-Name", "m"),), ticket="ticket")
DEADLINE = Deadline()
CLOSED = PeerClosed()
SILENCE = Silence()
EVICTED = Evicted(3)
GIVEN_UP = GivenUp(Overloaded("too much"))
TRAILERS = RequestTrailers()
RESPONSE_TRAILERS = ResponseTrailers()


def head(path: str = "/v1/chat/completions", subset: tuple[str, ...] | None = None, **headers: str) -> RequestHead:
    """A request's head; header names with `_` for `-`."""
    fields = {name.replace("_", "-"): value.encode("latin-1") for name, value in headers.items()}
    return RequestHead({":method": b"POST", ":path": path.encode(), **fields}, subset)


def config(request: BodyMode = FDS, response: BodyMode = FDS, *, early: bool = False) -> ProtocolConfig:
    """`early`: Envoy sends the body without waiting for the headers' reply."""
    return ProtocolConfig(request, response, early)


def headers(told: ProtocolConfig | None = None, *, end: bool = False, of: RequestHead = HEAD) -> RequestHeaders:
    return RequestHeaders(of, end, told)


def body(data: bytes = b"", *, end: bool = False, subset: tuple[str, ...] | None = None) -> RequestBody:
    return RequestBody(data, end, subset)


def response(status: int = 200, *, end: bool = False, served: str = "") -> ResponseHeaders:
    return ResponseHeaders(status, end, served)


def response_body(data: bytes = b"", *, end: bool = False) -> ResponseBody:
    return ResponseBody(data, end)


def made(outcome: Decision | Reply = DECISION) -> DecisionMade:
    return DecisionMade(outcome)


def failed(error: ExtProcError) -> DecisionFailed:
    return DecisionFailed(error)


def fallback(request: BodyMode, response: BodyMode = FDS, *, early: bool = False) -> StreamLimits:
    """Limits for streams that carry no protocol_config."""
    return StreamLimits(fallback=config(request, response, early=early))


def show(action: Action) -> str:
    """The action as a line, e.g. `request headers with decision`. Equal tuples of two kinds give different lines."""
    if isinstance(action, Decide):
        return f"decide on {_bytes(action.body)}{'' if action.complete else ' so far'}"
    if isinstance(action, Finished):
        return f"finished {action.status}{' complete' if action.complete else ''}"
    if isinstance(action, Answered):
        return f"served by {action.served}"
    if isinstance(action, Withdraw):
        return "withdraw"
    if isinstance(action, AwaitAnswer):
        return f"silence in {action.patience_s:g} s"
    if isinstance(action, LetOnLease):
        return "may be evicted"
    if isinstance(action, ReplyRequestHeaders):
        return f"request headers{'' if action.decision is None else ' with decision'}"
    if isinstance(action, ReplyResponseHeaders):
        return "response headers"
    if isinstance(action, ReplyImmediately):
        answer = action.answer
        return f"answer {answer.status}" + (f" {answer.code}" if isinstance(answer, ExtProcError) else "")
    if isinstance(action, TellNumbers):
        return "with " + ", ".join(f"{namespace} {name} {value:g}" for namespace, name, value in action.numbers)
    side = action.direction.value
    if isinstance(action, ReplyChunk):
        return f"{side} chunk {_bytes(action.body)}{' end' if action.end_of_stream else ''}"
    if isinstance(action, ReplyTrailers):
        return f"{side} trailers" + (" without digests" if action.changed else "")
    if action.replaced is not None:
        return f"{side} body becomes {_bytes(action.replaced)}"
    return f"{side} body{'' if action.decision is None else ' with decision'}"


def _bytes(data: bytes | memoryview | None) -> str:
    if data is None:
        return "nothing"
    return repr(bytes(data).decode()) if len(data) < 32 else f"{len(data)} bytes"


class FakeScanner:
    """Knows once `!` has come by, and can't go on after `#`."""

    def __init__(self) -> None:
        self.known = False
        self.sealed = False
        self._error: ExtProcError | None = None

    def seal(self) -> None:
        self.sealed = True

    def feed(self, piece: bytes | memoryview) -> ExtProcError | None:
        for char in bytes(piece):
            if self._error is None:
                self.known = self.known or char == ord("!")
                self._error = ConflictingModel("two models") if char == ord("#") else None
        return self._error


EARLY = StreamLimits(scanner_of=lambda head: FakeScanner())
"""Early mode for every request."""


class Peer:
    """Feeds a stream, and decides at once when asked, unless `outcome` is None: then the test says when."""

    def __init__(
        self,
        limits: StreamLimits = StreamLimits(),
        *,
        outcome: Decision | Reply | ExtProcError | None = DECISION,
    ) -> None:
        self.stream = ExtProcStream(limits)
        self.asked: list[Decide] = []
        self._outcome = outcome

    def send(self, *events: Event) -> list[str]:
        """What the stream does, as lines; that the picked endpoint answered is left out, as it is the rule."""
        done = self.actions(events)
        return [show(action) for action in done if not isinstance(action, Answered) or action.elsewhere]

    def actions(self, events: Iterable[Event]) -> list[Action]:
        done: list[Action] = []
        for event in events:
            done += self._receive(event)
        return done

    def _receive(self, event: Event) -> Sequence[Action]:
        done: list[Action] = []
        for action in self.stream.receive(event):
            done.append(action)
            if isinstance(action, Decide):
                self.asked.append(action)
                if isinstance(self._outcome, ExtProcError):
                    done += self._receive(DecisionFailed(self._outcome))
                elif self._outcome is not None:
                    done += self._receive(DecisionMade(self._outcome))
        return done


__all__ = [
    "BUFFERED",
    "CLOSED",
    "DEADLINE",
    "DECISION",
    "EARLY",
    "FDS",
    "GIVEN_UP",
    "HEAD",
    "NONE",
    "PARTIAL",
    "RESPONSE_TRAILERS",
    "STREAMED",
    "TRAILERS",
    "FakeScanner",
    "Peer",
    "body",
    "config",
    "failed",
    "fallback",
    "head",
    "headers",
    "made",
    "response",
    "response_body",
    "show",
]
