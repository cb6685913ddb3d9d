"""What a connection tells the layer above."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from extproc.transport.h2.frames import ErrorCode
from extproc.transport.h2.headers import Fields
from extproc.transport.h2.outbox import Stream


class RequestReceived(NamedTuple):
    """A stream was opened."""

    stream: Stream
    fields: Fields
    ended: bool


class DataReceived(NamedTuple):
    """A piece of a stream's body, in any size; empty ones come only with `ended`."""

    stream: Stream
    data: bytes | memoryview
    ended: bool


class StreamReset(NamedTuple):
    """A stream is over before its time: the peer reset it, or broke a rule and we did (`by_us`)."""

    stream: Stream
    code: int
    reason: str
    by_us: bool


class PeerLeaves(NamedTuple):
    """GOAWAY from the peer: it opens no more streams."""

    code: int


class PingAnswered(NamedTuple):
    """Our PING came back."""

    payload: bytes


class ConnectionEnded(NamedTuple):
    """The peer broke a rule: GOAWAY is in the outbox, the connection is to be closed once that is written."""

    code: ErrorCode
    reason: str
    message: str


Event: TypeAlias = RequestReceived | DataReceived | StreamReset | PeerLeaves | PingAnswered | ConnectionEnded
