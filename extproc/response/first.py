"""When an answer begins, as far as that can be seen.

| answer | begins with |
|---|---|
| its body comes by us | the first piece of it that is not empty, or its end |
| its body does not, and it is a stream (events, lines of JSON) | unknown: engines send such headers before they have computed anything |
| its body does not, and it is no stream; it has no body; it is an error | its headers |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from extproc.domain import BodyPath
from extproc.media import NDJSON, media_type

_STREAMS: Final = (b"text/event-stream", NDJSON)


class FirstPiece:
    """Waits for it."""

    __slots__ = ("_begins", "at_headers", "comes")

    def __init__(self, begins: Callable[[], None]) -> None:
        """`begins` is said when the first piece comes, once; never of an answer that begins with its headers."""
        self._begins: Callable[[], None] | None = begins
        self.comes = False
        """Known after `headers`: the body will come by here."""
        self.at_headers = False
        """Known after `headers`: it began with them."""

    def headers(self, status: int, headers: Mapping[str, bytes], path: BodyPath) -> bool:
        """Whether `piece` is to be told of the body."""
        if path is BodyPath.FREE or path is BodyPath.PIECEWISE:
            self.comes = True
            return True
        is_stream = path is BodyPath.UNSEEN and 200 <= status < 300
        self.at_headers = not (is_stream and media_type(headers.get("content-type", b"")) in _STREAMS)
        return False

    def piece(self, piece: bytes, last: bool) -> bool:
        """A piece of the body came; whether the next one is wanted still."""
        begins = self._begins
        if begins is None or not (piece or last):
            return begins is not None
        self._begins = None
        begins()
        return False
