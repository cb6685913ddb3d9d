"""Why there is no page: a small set of reasons, and how what asyncio and the system raise maps to them."""

from __future__ import annotations

import errno
import ssl
from enum import StrEnum
from typing import Final

_BROKEN: Final = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
_OUT_OF_OURS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
"""Our own descriptors, memory or ports are used up, which says nothing about the endpoint."""


class Reason(StrEnum):
    """Why there is no page; the value is the label of a counter."""

    REFUSED = "refused"
    """Nobody listens on the port."""
    UNREACHABLE = "unreachable"
    """No way to the address."""
    RESET = "reset"
    """The connection was broken."""
    CLOSED = "closed"
    """The connection was closed without an answer."""
    CONNECT_TIMEOUT = "connect_timeout"
    TIMEOUT = "timeout"
    """Connected, and the page was not complete in time."""
    TLS = "tls"
    """No TLS, or a certificate that was not accepted."""
    HTTP_STATUS = "http_status"
    """Not 200."""
    NOT_HTTP = "not_http"
    TRUNCATED = "truncated"
    """The connection was closed in the middle of the page."""
    TOO_LARGE = "too_large"
    ENCODED = "encoded"
    """Compressed, although that was not asked for."""
    GARBAGE = "garbage"
    """A page, and none of the engine's metrics on it."""
    INTERNAL = "internal"
    """A fault of ours."""

    @property
    def down(self) -> bool:
        """Nothing there that could serve a request either."""
        return self in _DOWN

    @property
    def alive(self) -> bool:
        """An HTTP server answered, so a request may well be served there."""
        return self in _ALIVE

    @property
    def costly(self) -> bool:
        """Finding out took long, or much of either side: not to be repeated within a second."""
        return self in _COSTLY


_DOWN: Final = frozenset((Reason.REFUSED, Reason.UNREACHABLE, Reason.RESET, Reason.CLOSED, Reason.CONNECT_TIMEOUT))
_ALIVE: Final = frozenset((Reason.HTTP_STATUS, Reason.TOO_LARGE, Reason.ENCODED, Reason.GARBAGE))
_COSTLY: Final = frozenset((Reason.CONNECT_TIMEOUT, Reason.TIMEOUT, Reason.TLS, Reason.TOO_LARGE, Reason.INTERNAL))


class FetchError(Exception):
    """No page. `detail` is for the log."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def classify(error: BaseException, *, connecting: bool = False) -> Reason:
    """The reason of what asyncio or the system raised."""
    if isinstance(error, TimeoutError) and getattr(error, "errno", None) is None:
        return Reason.CONNECT_TIMEOUT if connecting else Reason.TIMEOUT
    if isinstance(error, ssl.SSLError):
        return Reason.TLS
    if not isinstance(error, OSError):
        return Reason.INTERNAL
    number = error.errno
    if number in _OUT_OF_OURS:
        return Reason.INTERNAL
    if number == errno.ECONNREFUSED:
        return Reason.REFUSED
    if number == errno.ETIMEDOUT:
        return Reason.CONNECT_TIMEOUT
    if number in _BROKEN or not connecting or isinstance(error, ConnectionError):
        return Reason.RESET
    return Reason.UNREACHABLE


def detail_of(error: BaseException) -> str:
    """One line, bounded: what an endpoint sent may be quoted in it."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
