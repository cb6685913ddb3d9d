"""What a connection tells the layer above, and who hears it."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from extproc.transport.h2.frames import ErrorCode
from extproc.transport.h2.headers import Fields
from extproc.transport.h2.outbox import Stream


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


Event: TypeAlias = StreamReset | PeerLeaves | PingAnswered | ConnectionEnded
"""What happens seldom."""


class Listener(Protocol):
    """The layer above. It hears of each frame before the next one is read, so that a frame that follows an answer finds the
    stream as the answer left it, however the bytes came. It may answer at once, and end streams."""

    def opened(self, stream: Stream, fields: Fields, ended: bool) -> None:
        """A stream was opened; `ended`: the peer sends nothing more on it."""
        ...

    def data(self, stream: Stream, data: bytes | memoryview, ended: bool) -> None:
        """A piece of a stream's body, in any size; empty ones come only with `ended`."""
        ...

    def event(self, event: Event) -> None:
        """Anything else."""
        ...
