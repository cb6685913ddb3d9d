"""Early mode: deciding as soon as the model is known, and watching the rest of the body as it goes on.

In FULL_DUPLEX_STREAMED the headers' reply may go out before the body's end; Envoy then sends the request on at once, and each
piece behind it. What was decided on must stay true to the end: a body that turns out to name another model, or that can't be
followed any more, is stopped before the piece that shows it goes on, so the upstream never has the whole request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from extproc.domain import RequestHead
from extproc.errors import BodyTooLarge, ExtProcError
from extproc.protocol.events import Pieces


class Scanner(Protocol):
    """Reads one body as it comes, in pieces of any size."""

    @property
    def known(self) -> bool:
        """What the decision needs has been read; it never becomes false again."""
        ...

    def feed(self, piece: bytes | memoryview) -> ExtProcError | None:
        """Read on. An error is final: before `known` the body has to be read whole, after it nothing more may pass."""
        ...

    def seal(self) -> None:
        """What has been read was changed on its way: nothing of it may come again, not even the same."""
        ...


ScannerOf: TypeAlias = Callable[[RequestHead], Scanner | None]
"""A scanner for the body of a request; None when only the whole body can tell."""


class Watch:
    """One body and its scanner."""

    __slots__ = ("_limit_bytes", "_scanner", "_seen_bytes", "error")

    def __init__(self, scanner: Scanner, limit_bytes: int) -> None:
        self._scanner = scanner
        self._limit_bytes = limit_bytes
        self._seen_bytes = 0
        self.error: ExtProcError | None = None
        """Why nothing more may pass."""

    @property
    def known(self) -> bool:
        """It can be decided now."""
        return self.error is None and self._scanner.known

    def seal(self) -> None:
        """The body's beginning goes on changed."""
        self._scanner.seal()

    def read(self, pieces: Pieces, size: int) -> None:
        """Look at the next part of the body, once; of `size` bytes in all."""
        self._seen_bytes += size
        if self._seen_bytes > self._limit_bytes:
            self.error = too_large(self._limit_bytes)
            return
        for piece in pieces:
            self.error = self._scanner.feed(piece)
            if self.error is not None:
                return


def watch(scanner_of: ScannerOf, head: RequestHead, limit_bytes: int) -> Watch | None:
    """A watch over the body that `head` announces; None when it has to be read whole."""
    scanner = scanner_of(head)
    return None if scanner is None else Watch(scanner, limit_bytes)


def too_large(limit_bytes: int) -> BodyTooLarge:
    """The error for a body over the limit."""
    return BodyTooLarge(f"request body is larger than the limit of {limit_bytes} bytes")
