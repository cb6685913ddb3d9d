"""One page over HTTP: `HttpFetcher.fetch(url)` gives its bytes, or a `FetchError` whose reason is one of a small set.

A page is a GET on a kept-alive connection, never compressed, never redirected, and bounded in time and size: a server
that hangs, lies or floods costs one timeout or `max_page_bytes`, and its connection.
"""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Final, Protocol, Self

from yarl import URL

from extproc.domain import Endpoint
from extproc.scraping.connection import PageConnection, connect
from extproc.scraping.reasons import FetchError, Reason, classify, detail_of
from extproc.settings.base import SettingsError
from extproc.settings.engines import MetricsSourceSettings

DEFAULT_TIMEOUT_S: Final = 1.0
DEFAULT_MAX_PAGE_BYTES: Final = 4 * 2**20

_CONNECT_SHARE: Final = 0.9
"""Share of the timeout for connecting: what takes longer never got a connection, so the two can be told apart."""
_IDLE_S: Final = 15.0
"""An unused connection is closed after this: that of an endpoint that left."""
_SWEEP_S: Final = 5.0


class Fetcher(Protocol):
    """Where pages come from. Entered once, before the first fetch; leaving it closes what it holds."""

    def url(self, endpoint: Endpoint) -> URL:
        """Where the endpoint's page is; asked for each endpoint that comes, or comes anew with other labels or ports."""
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
        self._timeout_s = timeout_s
        self._max_page_bytes = max_page_bytes
        self._open = False
        self._idle: dict[URL, list[tuple[PageConnection, float]]] = {}
        self._busy: set[PageConnection] = set()
        self._requests: dict[URL, bytes] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def url(self, endpoint: Endpoint) -> URL:
        host = endpoint.key.rpartition(":")[0]
        port = endpoint.metrics_port or self._settings.port or endpoint.port
        return URL(f"{self._settings.scheme}://{host}:{port}{self._settings.path}")

    async def __aenter__(self) -> Self:
        self._open = True
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in [*self._busy, *(idle for kept in self._idle.values() for idle, _ in kept)]:
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # lets the transports close

    async def fetch(self, url: URL) -> bytes:
        if not self._open:
            raise FetchError(Reason.INTERNAL, "fetch outside of 'async with'")
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._timeout_s
        try:
            connection = self._kept(url)
            if connection is not None:
                try:
                    return await self._ask(connection, url, due_s)
                except FetchError as error:
                    # The server closed the connection between two pages: that is its right, and not the page's failure.
                    if connection.answered or error.reason not in (Reason.CLOSED, Reason.RESET):
                        raise
            return await self._ask(await self._connect(url), url, due_s)
        except FetchError:
            raise
        except Exception as error:  # whatever the loop raises, the loop over an endpoint goes on
            raise FetchError(classify(error), detail_of(error)) from error

    def _kept(self, url: URL) -> PageConnection | None:
        kept = self._idle.get(url)
        while kept:
            connection, _ = kept.pop()
            if connection.reusable:
                return connection
            connection.close()
        return None

    async def _connect(self, url: URL) -> PageConnection:
        try:
            async with asyncio.timeout(self._timeout_s * _CONNECT_SHARE):
                return await connect(url.host or "", url.port or 0, self._ssl, self._max_page_bytes)
        except (OSError, ssl.SSLError) as error:
            raise FetchError(classify(error, connecting=True), detail_of(error)) from error

    async def _ask(self, connection: PageConnection, url: URL, due_s: float) -> bytes:
        loop = asyncio.get_running_loop()
        answer = connection.ask(self._request(url))
        timer = loop.call_at(due_s, _expire, answer)
        self._busy.add(connection)
        try:
            page = await answer
        except BaseException:
            connection.close()
            raise
        finally:
            timer.cancel()
            self._busy.discard(connection)
        if connection.reusable and self._open:
            self._idle.setdefault(url, []).append((connection, loop.time()))
        return page

    def _request(self, url: URL) -> bytes:
        found = self._requests.get(url)
        if found is None:
            host = url.raw_authority
            head = f"GET {url.raw_path_qs} HTTP/1.1\r\nHost: {host}\r\n"
            headers = "Accept: text/plain;version=0.0.4\r\nAccept-Encoding: identity\r\nUser-Agent: extproc\r\n\r\n"
            found = self._requests[url] = (head + headers).encode("ascii")
        return found

    def _sweep(self) -> None:
        """Close what was not used for long, and forget it."""
        loop = asyncio.get_running_loop()
        oldest_s = loop.time() - _IDLE_S
        for url in list(self._idle):
            kept = []
            for connection, since_s in self._idle[url]:
                if since_s < oldest_s or not connection.reusable:
                    connection.close()
                else:
                    kept.append((connection, since_s))
            if kept:
                self._idle[url] = kept
            else:
                del self._idle[url]
                self._requests.pop(url, None)
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)


def _expire(answer: asyncio.Future[bytes]) -> None:
    if not answer.done():
        answer.set_exception(FetchError(Reason.TIMEOUT, "the page was not complete in time"))


def tls_context(settings: MetricsSourceSettings) -> ssl.SSLContext:
    """Read the certificates. Raises SettingsError naming the keys of those that can't be read."""
    problems: list[str] = []
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # on from Python 3.13; private CAs often lack an Authority Key Identifier
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
            problems.append(f"clientCertPath, clientKeyPath: expected a PEM certificate and its key: {error} (got {given})")
    if problems:
        raise SettingsError(problems)
    return context


__all__ = ["DEFAULT_MAX_PAGE_BYTES", "DEFAULT_TIMEOUT_S", "FetchError", "Fetcher", "HttpFetcher", "Reason", "tls_context"]
