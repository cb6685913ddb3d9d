"""What bounds a connection. Every bound has a reason in the metrics, a log line, and a code that the peer is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from extproc.transport.h2.frames import ConnectionFault, ErrorCode


class Allowance(NamedTuple):
    """So many at once, and so many more each second."""

    burst: int
    per_s: float


class H2Limits(NamedTuple):
    """The bounds of one connection. Times are in seconds, 0 is off."""

    max_streams: int = 10_000
    """Streams at once; more are refused (REFUSED_STREAM). A stream lasts as long as its HTTP response."""
    max_header_bytes: int = 32 * 2**10
    """A request's header list, as RFC 9113 counts it (32 bytes extra a field), and its block."""
    max_continuations: int = 16
    """CONTINUATION frames for one block."""
    stream_window: int = 2**20
    """What a peer may send on a stream before it hears from us."""
    connection_window: int = 16 * 2**20
    """The same for all its streams together."""
    max_stream_unsent: int = 2**20
    """With so much waiting for the peer's window, a stream's own window opens no further."""
    preface_timeout_s: float = 10.0
    """From the connection to its first SETTINGS frame; TLS handshake included."""
    settings_timeout_s: float = 30.0
    """From our SETTINGS to the peer's acknowledgement."""
    idle_timeout_s: float = 3600.0
    """Without a stream, after which the connection is ended gracefully."""
    keepalive_s: float = 60.0
    """Of silence, after which the peer is pinged."""
    keepalive_timeout_s: float = 20.0
    """Without a sign of life after the ping, after which the connection is dropped."""
    window_timeout_s: float = 300.0
    """Of waiting for a window with something to send, after which the stream is reset. Long: behind a proxy the window is as
    slow as the slowest client."""
    held_timeout_s: float = 5.0
    """Of large bodies that wait for room (`held.Held`) while none is let go on, after which the call that holds most is given
    up: it may belong to a peer that sends nothing more."""
    read_timeout_s: float = 60.0
    """Of waiting for the peer to read from its socket, after which the connection is dropped."""
    resets: Allowance = Allowance(10_000, 1000)
    """Streams that the peer resets before it heard anything: rapid reset (CVE-2023-44487). Many, because a proxy passes on the
    aborts of all its clients, and little, because such a stream costs us little."""
    settings: Allowance = Allowance(100, 10)
    pings: Allowance = Allowance(200, 20)
    empty_data: Allowance = Allowance(1000, 100)
    """DATA frames with nothing in them, which cost no window."""
    other: Allowance = Allowance(10_000, 1000)
    """PRIORITY, unknown frames, and frames on streams that are over."""


class Meter:
    """Counts one kind of frame against its allowance, as a token bucket."""

    __slots__ = ("_allowance", "_at_s", "_clock", "_left", "_reason")

    def __init__(self, reason: str, allowance: Allowance, clock: Callable[[], float]) -> None:
        self._reason = reason
        self._allowance = allowance
        self._clock = clock
        self._left = float(allowance.burst)
        self._at_s = clock()

    def count(self) -> None:
        """One more. Raises ConnectionFault with ENHANCE_YOUR_CALM when it is one too many."""
        self._left -= 1
        if self._left >= 0:
            return
        # The clock is asked only when the bucket looks empty.
        now_s = self._clock()
        allowed = self._allowance
        self._left = min(allowed.burst, self._left + (now_s - self._at_s) * allowed.per_s)
        self._at_s = now_s
        if self._left < 0:
            text = f"more than {allowed.burst} at once or {allowed.per_s:g} a second"
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, self._reason, f"{self._reason.replace('_', ' ')}: {text}")
