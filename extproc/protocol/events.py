"""What can happen to a stream. Envoy's messages and what comes back from inside arrive the same way."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from extproc.domain import Decision, Reply, RequestHead
from extproc.errors import ExtProcError


class BodyMode(IntEnum):
    """How Envoy sends bodies: `ProcessingMode.BodySendMode`, with its numbers."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX_STREAMED = 4


class Direction(Enum):
    """The half of the HTTP exchange a message speaks of."""

    REQUEST = "request"
    RESPONSE = "response"

    __hash__ = object.__hash__  # members are single; Enum's own is written in Python


class Told:
    """What every request brings or causes. A class where others are NamedTuples, because a compiled one is made at a fifth of a
    tuple's cost. Immutable by convention, equal by its parts."""

    __slots__ = ()

    def parts(self) -> tuple[object, ...]:
        """Its fields, in order."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Told) and other.__class__ is self.__class__ and self.parts() == other.parts()

    def __hash__(self) -> int:
        return hash(self.parts())

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}{self.parts()!r}"


class ProtocolConfig(NamedTuple):
    """The first message's `protocol_config`: what Envoy is configured to send."""

    request_body: BodyMode
    response_body: BodyMode
    body_without_headers_reply: bool = False
    """`send_body_without_waiting_for_header_response`."""


class RequestHeaders(Told):
    """The request's headers; `config` is None when the stream carries no `protocol_config`."""

    __slots__ = ("config", "end_of_stream", "head")

    def __init__(self, head: RequestHead, end_of_stream: bool, config: ProtocolConfig | None = None) -> None:
        self.head = head
        self.end_of_stream = end_of_stream
        self.config = config

    def parts(self) -> tuple[object, ...]:
        return (self.head, self.end_of_stream, self.config)


Bytes: TypeAlias = bytes | memoryview
Pieces: TypeAlias = list[Bytes]
"""Of something large, in order, as they came."""


class RequestBody(Told):
    """A part of the request body, of `size` bytes, in one or several `pieces`. `subset` as in RequestHead: some proxies send
    the hint with the body."""

    __slots__ = ("end_of_stream", "pieces", "size", "subset")

    def __init__(self, body: Bytes | Pieces, end_of_stream: bool, subset: tuple[str, ...] | None = None) -> None:
        if isinstance(body, list):
            self.pieces = body
            self.size = sum([len(piece) for piece in body])
        else:
            self.pieces = [body]
            self.size = len(body)
        self.end_of_stream = end_of_stream
        self.subset = subset

    @property
    def body(self) -> Bytes:
        """All of it; of several pieces a copy."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)

    def parts(self) -> tuple[object, ...]:
        return (self.body, self.end_of_stream, self.subset)


class RequestTrailers(NamedTuple):
    """The request's trailers: they end a body whose pieces did not say so."""


NO_HEADERS: Final[Mapping[str, bytes]] = MappingProxyType({})


class ResponseHeaders(NamedTuple):
    """The response's headers. `status` is 0 when `:status` is absent or no number."""

    status: int
    end_of_stream: bool
    served: str = ""
    """The endpoint that answered, as the proxy tells it (proposal 004), '' when it does not."""
    headers: Mapping[str, bytes] = NO_HEADERS
    """As in RequestHead."""
    config: ProtocolConfig | None = None
    """As in RequestHeaders: it is here when the request was not sent to us, as this is the stream's first message then."""
    of_balancer: bool = False
    """The proxy told something of its load balancer, be it who answered or not."""


class ResponseBody(NamedTuple):
    """A piece of the response body; `config` as in ResponseHeaders."""

    body: bytes | memoryview
    end_of_stream: bool
    config: ProtocolConfig | None = None


class ResponseTrailers(NamedTuple):
    """The response's trailers: the response is over. `config` as in ResponseHeaders."""

    config: ProtocolConfig | None = None


class DecisionMade(Told):
    """What `Decide` asked for: changes to the request, or an answer of our own."""

    __slots__ = ("outcome",)

    def __init__(self, outcome: Decision | Reply) -> None:
        self.outcome = outcome

    def parts(self) -> tuple[object, ...]:
        return (self.outcome,)


class DecisionFailed(NamedTuple):
    """What `Decide` asked for can't be had."""

    error: ExtProcError


class Deadline(NamedTuple):
    """The request has had its time (StreamLimits.request_timeout_s): it is answered if it is still undecided."""


class GivenUp(NamedTuple):
    """There is no room for the request: it is answered with the error if it is still undecided."""

    error: ExtProcError


class Silence(NamedTuple):
    """The answer has had its time to begin (Decision.patience_s): the client gets 504 if nothing of its body came."""


class Evicted(NamedTuple):
    """Somebody more important needs the place (Decision.lease): the client gets 429 if nothing of its answer came."""

    retry_after_s: int
    """After how many seconds the client may come again."""


class PeerClosed(NamedTuple):
    """The stream is over: Envoy ended or reset it, or the connection is gone. Nothing can be sent any more."""


Event: TypeAlias = (
    RequestHeaders
    | RequestBody
    | RequestTrailers
    | ResponseHeaders
    | ResponseBody
    | ResponseTrailers
    | DecisionMade
    | DecisionFailed
    | Deadline
    | GivenUp
    | Silence
    | Evicted
    | PeerClosed
)
