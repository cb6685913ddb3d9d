"""What bounds a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from extproc.domain import NO_MUTATION, HeaderMutation, RequestHead
from extproc.protocol.early import ScannerOf
from extproc.protocol.events import BodyMode, ProtocolConfig


class OnHeaders(NamedTuple):
    """Requests whose body tells nothing, or never ends: they are decided on their headers in every mode, and their body goes
    on as it comes. It is neither held nor bounded then."""

    are_enough: Callable[[RequestHead], bool]
    marks: tuple[bytes, ...]
    """The headers' message of such a request holds one of these: so others are told apart without reading it."""


EVERY_REQUEST: Final = OnHeaders(lambda head: True, (b"",))


class StreamLimits(NamedTuple):
    """What bounds a stream, and what holds when Envoy does not say."""

    max_body_bytes: int = 64 * 2**20
    """A larger request body is answered with 413 `body_too_large`."""
    streamed_hold_bytes: int = 512 * 2**10
    """STREAMED without waiting for the headers' reply: the decision is made on this much, before Envoy's own buffer (1 MiB
    unless set) is full and it stops reading. Early mode: a body whose model has not come by then is collected whole."""
    fallback: ProtocolConfig = ProtocolConfig(BodyMode.FULL_DUPLEX_STREAMED, BodyMode.FULL_DUPLEX_STREAMED)
    """For streams that carry no `protocol_config`."""
    on_response_headers: HeaderMutation = NO_MUTATION
    """Changes to the headers of every response, before those of its decision."""
    request_timeout_s: float = 300.0
    """The transport says `Deadline` this long after the stream's start: a request that is undecided then is answered with
    408 `request_timeout`, or 504 `decision_timeout` when it is the director that takes so long. 0: never."""
    large_body_bytes: int = 2**20
    """Decisions on larger bodies have turns, one at a time, so that everything else goes on between them."""
    on_headers: OnHeaders | None = None
    """Which requests are decided on their headers alone, None for those without a body only."""
    scanner_of: ScannerOf | None = None
    """Early mode in full duplex (`early.py`), for the bodies that it gives a scanner for. None: every body is read whole."""
