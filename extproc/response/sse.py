"""Server-Sent Events out of pieces that may be cut anywhere.

https://html.spec.whatwg.org/multipage/server-sent-events.html, sections 9.2.5 and 9.2.6: lines end with LF, CRLF or CR, a
blank line ends an event, a colon begins a comment, and an event that the stream ends in is dropped.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_EVENT_BYTES: Final = 1 << 20
"""A longer event that comes in pieces is passed over."""

_BOM: Final = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """One event. `kind` is its `event` field, `data` its data lines joined with LF; `id` and `retry` are not kept."""

    kind: bytes
    data: bytes


class EventStream:
    """Feed it the pieces of one stream in order. What is not a whole event yet is carried over, at most `max_event_bytes`."""

    __slots__ = ("_after_cr", "_at_start", "_held_bytes", "_max_event_bytes", "_parts", "_skipping", "skipped")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._after_cr = False
        self._at_start = True
        self._skipping = False
        self.skipped = 0
        """Events that were passed over because they were too long."""

    def feed(self, piece: bytes, wanted: bytes = b"") -> list[ServerSentEvent]:
        """The events that this piece ends. With `wanted` only those that hold these bytes, which must not contain a line end:
        pieces without them are looked through but not taken apart.
        """
        if self._after_cr or b"\r" in piece:
            piece = self._with_line_feeds(piece)
        if self._skipping:
            piece = self._skip(piece)
        if not piece:
            return []
        parts = self._parts
        end = piece.rfind(b"\n\n") + 2
        if end == 1:
            # Nothing ends inside this piece; the blank line may lie on the border to the last one.
            if not (parts and piece[0] == 0x0A and parts[-1][-1] == 0x0A):
                self._hold(piece)
                return []
            end = 1
        whole = piece if end == len(piece) else piece[:end]
        if parts:
            whole = b"".join((*parts, whole))
            parts.clear()
        self._held_bytes = 0
        if self._at_start:
            self._at_start = False
            whole = whole.removeprefix(_BOM)
        if end < len(piece):
            self._hold(piece[end:])
        if wanted and wanted not in whole:
            return []
        return [
            event for block in whole.split(b"\n\n") if (not wanted or wanted in block) and (event := _event(block)) is not None
        ]

    def _hold(self, piece: bytes) -> None:
        self._held_bytes += len(piece)
        if self._held_bytes <= self._max_event_bytes:
            self._parts.append(piece)
            return
        self._skipping = True
        self._at_start = False
        self._parts[:] = [piece[-1:]]

    def _skip(self, piece: bytes) -> bytes:
        """What follows the event that is being passed over."""
        if not piece:
            return piece
        if piece[0] == 0x0A and self._parts[0] == b"\n":
            end = 1
        else:
            end = piece.find(b"\n\n") + 2
            if end == 1:
                self._parts[0] = piece[-1:]
                return b""
        self._skipping = False
        self._parts.clear()
        self._held_bytes = 0
        self.skipped += 1
        return piece[end:]

    def _with_line_feeds(self, piece: bytes) -> bytes:
        """The piece with every kind of line end as LF. A CR at the end counts at once; an LF after it belongs to it."""
        if self._after_cr and piece:
            self._after_cr = False
            if piece[0] == 0x0A:
                piece = piece[1:]
        if piece:
            self._after_cr = piece[-1] == 0x0D
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _event(block: bytes) -> ServerSentEvent | None:
    """The event in these lines, None when they have no data."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return ServerSentEvent(b"message", block[6:])
    kind = b""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
    return ServerSentEvent(kind or b"message", b"\n".join(data)) if data else None
