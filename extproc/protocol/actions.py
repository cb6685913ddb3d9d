"""What a stream wants done, in this order. The session turns replies into bytes and asks the director for decisions."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from extproc.domain import NO_MUTATION, Decision, HeaderMutation, Lease, Numbers, Reply, RequestHead
from extproc.errors import ExtProcError
from extproc.protocol.events import Direction, Told


class Decide(Told):
    """Decide on the request; the outcome comes back as DecisionMade or DecisionFailed.

    `body` is None when the body mode gives none before the headers must go on; `complete` is False when `body` is only the
    beginning. `answer_is_seen`: the answer's body will come by here, too.
    """

    __slots__ = ("answer_is_seen", "body", "complete", "head")

    def __init__(self, head: RequestHead, body: bytes | None, complete: bool = True, answer_is_seen: bool = True) -> None:
        self.head = head
        self.body = body
        self.complete = complete
        self.answer_is_seen = answer_is_seen

    def parts(self) -> tuple[object, ...]:
        return (self.head, self.body, self.complete, self.answer_is_seen)


class Withdraw(NamedTuple):
    """The decision that was asked for is not wanted any more; said at most once. If it comes all the same it is given back."""


class ReplyRequestHeaders(Told):
    """A HeadersResponse to the request's headers; `decision` None leaves them as they are."""

    __slots__ = ("decision",)

    def __init__(self, decision: Decision | None = None) -> None:
        self.decision = decision

    def parts(self) -> tuple[object, ...]:
        return (self.decision,)


class AwaitAnswer(NamedTuple):
    """Say Silence in so many seconds; it is for the upstream to speak."""

    patience_s: float


class LetOnLease(NamedTuple):
    """The decision may be taken back: `lease.revoke` is to say Evicted."""

    lease: Lease


class ReplyResponseHeaders(NamedTuple):
    """A HeadersResponse to the response's headers."""

    mutation: HeaderMutation = NO_MUTATION


class ReplyChunk(Told):
    """A BodyResponse with a `streamed_response`: this piece of body goes on (FULL_DUPLEX_STREAMED)."""

    __slots__ = ("body", "direction", "end_of_stream")

    def __init__(self, direction: Direction, body: bytes | memoryview, end_of_stream: bool) -> None:
        self.direction = direction
        self.body = body
        self.end_of_stream = end_of_stream

    def parts(self) -> tuple[object, ...]:
        return (self.direction, self.body, self.end_of_stream)


class ReplyBody(NamedTuple):
    """A BodyResponse outside full duplex; header changes ride on it in the buffered modes."""

    direction: Direction
    decision: Decision | None = None
    replaced: bytes | None = None
    """What goes on instead of the piece; None leaves it as it is."""


class ReplyTrailers(NamedTuple):
    """A TrailersResponse."""

    direction: Direction
    changed: bool = False
    """The body before them is not the one that came: digests of it go. Else the trailers stay as they are."""


class TellNumbers(NamedTuple):
    """Dynamic metadata that ride on the reply before this action."""

    numbers: Numbers


class ReplyImmediately(NamedTuple):
    """An ImmediateResponse: Envoy answers the client with it and ends the stream."""

    answer: Reply | ExtProcError


class Answered:
    """The response's headers are here; said at most once, before Finished.

    No tuple like the others, because it comes with every request: a class of its own is made at a fifth of the cost.
    """

    __slots__ = ("decision", "served", "status")

    def __init__(self, decision: Decision, status: int, served: str) -> None:
        self.decision = decision
        self.status = status
        """0 when `:status` is absent or no number."""
        self.served = served
        """The endpoint that answers, as the proxy tells it; '' when it does not."""

    def __repr__(self) -> str:
        return f"<Answered {self.status} by {self.served or 'unknown'}>"

    @property
    def elsewhere(self) -> bool:
        """Another endpoint than the picked one answers (a retry, a fallback)."""
        return bool(self.served and self.decision.destination) and self.served != self.decision.destination


class Finished(Told):
    """The request is over, said exactly once for each stream that had a Decision.

    `status` is the response's status, 0 when there was none; `complete` tells whether the end of the response was seen
    (when Envoy doesn't send the body's end, the end of the stream is the end of the response and `complete` is False).
    """

    __slots__ = ("complete", "decision", "status")

    def __init__(self, decision: Decision, status: int, complete: bool) -> None:
        self.decision = decision
        self.status = status
        self.complete = complete

    def parts(self) -> tuple[object, ...]:
        return (self.decision, self.status, self.complete)


Action: TypeAlias = (
    Decide
    | Withdraw
    | ReplyRequestHeaders
    | AwaitAnswer
    | LetOnLease
    | ReplyResponseHeaders
    | ReplyChunk
    | ReplyBody
    | ReplyTrailers
    | TellNumbers
    | ReplyImmediately
    | Answered
    | Finished
)
Actions: TypeAlias = list[Action]
