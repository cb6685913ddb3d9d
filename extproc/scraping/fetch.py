"""One page over HTTP: `HttpFetcher.fetch(url)` gives its bytes, or a `FetchError` whose reason is one of a small set.

A page is a GET on a kept-alive connection, never compressed, never redirected, and bounded in time and size: a server
that hangs, lies or floods costs one timeout or `max_page_bytes`, and its connection.
"""

from __future__ import annotations

import errno
import ssl
from enum import StrEnum
from types import TracebackType
from typing import Final, Protocol, Self

import aiohttp
from yarl import URL

from extproc.domain import Endpoint
from extproc.settings.base import SettingsError
from extproc.settings.engines import MetricsSourceSettings

DEFAULT_TIMEOUT_S: Final = 1.0
DEFAULT_MAX_PAGE_BYTES: Final = 4 * 2**20

_CONNECT_SHARE: Final = 0.9
"""Share of the timeout for connecting: what takes longer never got a connection, so the two can be told apart."""
_READ_BUFFER_BYTES: Final = 2**18
"""More than a page, so that reading is not paused in the middle of one."""
_IDLE_S: Final = 15.0
"""An unused connection is closed after this: that of an endpoint that left."""
_HEADERS: Final = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity", "User-Agent": "extproc"}
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
    def costly(self) -> bool:
        """Finding out took long, or much of either side: not to be repeated at once."""
        return self in _COSTLY


_DOWN: Final = frozenset((Reason.REFUSED, Reason.UNREACHABLE, Reason.RESET, Reason.CLOSED, Reason.CONNECT_TIMEOUT))
_COSTLY: Final = frozenset((Reason.CONNECT_TIMEOUT, Reason.TIMEOUT, Reason.TLS, Reason.TOO_LARGE, Reason.INTERNAL))


class FetchError(Exception):
    """No page. `detail` is for the log."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Fetcher(Protocol):
    """Where pages come from. Entered once, before the first fetch; leaving it closes what it holds."""

    def url(self, endpoint: Endpoint) -> URL:
        """Where the endpoint's page is; asked once for each endpoint."""
        ...

    async def fetch(self, url: URL) -> bytes:
        """The page. Raises FetchError and nothing else."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class HttpFetcher:
    """Pages over HTTP or HTTPS. Raises SettingsError when the certificates of its settings can't be read.

    Its callers bound the connections: there are never more than fetches at a time.
    """

    def __init__(
        self,
        settings: MetricsSourceSettings,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_page_bytes: int = DEFAULT_MAX_PAGE_BYTES,
    ) -> None:
        self._settings = settings
        self._ssl = tls_context(settings) if settings.scheme == "https" else None
        self._timeout = aiohttp.ClientTimeout(
            total=timeout_s, sock_connect=timeout_s * _CONNECT_SHARE, ceil_threshold=60
        )
        self._max_page_bytes = max_page_bytes
        self._session: aiohttp.ClientSession | None = None

    def url(self, endpoint: Endpoint) -> URL:
        host = endpoint.key.rpartition(":")[0]
        return URL(f"{self._settings.scheme}://{host}:{self._settings.port or endpoint.port}{self._settings.path}")

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=0, ssl=self._ssl or True, happy_eyeballs_delay=None, keepalive_timeout=_IDLE_S, use_dns_cache=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            read_bufsize=_READ_BUFFER_BYTES,
            timeout=self._timeout,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(self, url: URL) -> bytes:
        if self._session is None:
            raise FetchError(Reason.INTERNAL, "fetch outside of 'async with'")
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                return await self._page(response)
        except FetchError:
            raise
        except Exception as error:  # the one edge to aiohttp: whatever it raises, the loop over an endpoint goes on
            raise FetchError(classify(error), _detail(error)) from error

    async def _page(self, response: aiohttp.ClientResponse) -> bytes:
        """Read no further than the limit: what is left unread closes the connection."""
        if response.status != 200:
            raise FetchError(Reason.HTTP_STATUS, f"status {response.status}")
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise FetchError(Reason.ENCODED, f"content-encoding {encoding[:64]!r}")
        if (response.content_length or 0) > self._max_page_bytes:
            raise FetchError(Reason.TOO_LARGE, f"{response.content_length} bytes, more than {self._max_page_bytes}")
        chunks: list[bytes] = []
        size = 0
        while chunk := await response.content.readany():
            size += len(chunk)
            if size > self._max_page_bytes:
                raise FetchError(Reason.TOO_LARGE, f"more than {self._max_page_bytes} bytes")
            chunks.append(chunk)
        return b"".join(chunks)


def classify(error: BaseException) -> Reason:
    """The reason of what aiohttp, asyncio or the system raised."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Reason.CONNECT_TIMEOUT
        case TimeoutError():
            return Reason.TIMEOUT
        case aiohttp.ClientSSLError() | ssl.SSLError() | aiohttp.ServerFingerprintMismatch():
            return Reason.TLS
        case aiohttp.ServerDisconnectedError():
            return Reason.CLOSED
        case aiohttp.ClientPayloadError():
            return Reason.TRUNCATED
        case aiohttp.ClientResponseError():
            return Reason.NOT_HTTP
        case OSError():
            return _classify_os_error(error)
        case aiohttp.ClientConnectionError():
            return Reason.CLOSED
    return Reason.INTERNAL


def _classify_os_error(error: OSError) -> Reason:
    number = error.errno
    if number in _OUT_OF_OURS:
        return Reason.INTERNAL
    if number == errno.ECONNREFUSED:
        return Reason.REFUSED
    if number == errno.ETIMEDOUT:
        return Reason.CONNECT_TIMEOUT
    if number in _BROKEN or not isinstance(error, aiohttp.ClientConnectorError):
        return Reason.RESET
    return Reason.UNREACHABLE


def _detail(error: BaseException) -> str:
    """One line, bounded: what an endpoint sent may be quoted in it."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


def tls_context(settings: MetricsSourceSettings) -> ssl.SSLContext:
    """Read the certificates. Raises SettingsError naming the keys of those that can't be read."""
    problems: list[str] = []
    context = ssl.create_default_context()
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.ca_cert_path:
        try:
            context.load_verify_locations(cafile=settings.ca_cert_path)
        except OSError as error:
            problems.append(f"caCertPath: expected a PEM file of certificates: {error} (got {settings.ca_cert_path!r})")
    if settings.client_cert_path:
        try:
            context.load_cert_chain(settings.client_cert_path, settings.client_key_path, password="")
        except OSError as error:
            given = f"{settings.client_cert_path!r}, {settings.client_key_path!r}"
            problems.append(
                f"clientCertPath, clientKeyPath: expected a PEM certificate and its key: {error} (got {given})"
            )
    if problems:
        raise SettingsError(problems)
    return context
