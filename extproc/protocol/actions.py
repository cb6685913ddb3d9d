"""What a stream wants done, in this order. The session turns replies into bytes and asks the director for decisions."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from extproc.domain import Decision, Reply, RequestHead
from extproc.errors import ExtProcError
from extproc.protocol.events import Direction


class Decide(NamedTuple):
    """Decide on the request; the outcome comes back as DecisionMade or DecisionFailed.

    `body` is None when the body mode gives none before the headers must go on; `complete` is False when `body` is only the
    beginning.
    """

    head: RequestHead
    body: bytes | None
    complete: bool = True


class ReplyHeaders(NamedTuple):
    """A HeadersResponse; `decision` None leaves the headers as they are."""

    direction: Direction
    decision: Decision | None = None


class ReplyChunk(NamedTuple):
    """A BodyResponse with a `streamed_response`: this piece of body goes on (FULL_DUPLEX_STREAMED)."""

    direction: Direction
    body: bytes | memoryview
    end_of_stream: bool


class ReplyBody(NamedTuple):
    """A BodyResponse outside full duplex; header changes ride on it in the buffered modes."""

    direction: Direction
    decision: Decision | None = None
    replaced: bytes | None = None
    """What goes on instead of the piece; None leaves it as it is."""


class ReplyTrailers(NamedTuple):
    """A TrailersResponse that leaves the trailers as they are."""

    direction: Direction


class ReplyImmediately(NamedTuple):
    """An ImmediateResponse: Envoy answers the client with it and ends the stream."""

    answer: Reply | ExtProcError


class ServedElsewhere(NamedTuple):
    """Another endpoint than the picked one answers (a retry, a fallback); said at most once, before Finished."""

    decision: Decision
    served: str


class Finished(NamedTuple):
    """The request is over, said exactly once for each stream that had a Decision.

    `status` is the response's status, 0 when there was none; `complete` tells whether the end of the response was seen
    (when Envoy doesn't send the body's end, the end of the stream is the end of the response and `complete` is False).
    """

    decision: Decision
    status: int
    complete: bool


Action: TypeAlias = (
    Decide | ReplyHeaders | ReplyChunk | ReplyBody | ReplyTrailers | ReplyImmediately | ServedElsewhere | Finished
)
Actions: TypeAlias = list[Action]
