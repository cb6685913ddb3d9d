"""One page over HTTP: a `Line` to an endpoint gives its bytes, or a `FetchError` whose reason is one of a small set.

A page is a GET on a kept-alive connection, never compressed, never redirected, and bounded in time and size: a server
that hangs, lies or floods costs one timeout or `max_page_bytes`, and its connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final, Protocol

from extproc.domain import Endpoint
from extproc.files.problems import Unusable
from extproc.files.read import read_file
from extproc.scraping.connection import Listener, PageConnection, Target
from extproc.scraping.reasons import FetchError, Reason
from extproc.settings.base import SettingsError
from extproc.settings.engines import GpuSourceSettings, PageSettings

DEFAULT_MAX_PAGE_BYTES: Final = 4 * 2**20


class Line(Protocol):
    """The way to one endpoint's page. `ask` is followed by one call of its listener, unless it is closed before."""

    connected: bool
    """False: `ask` will have to connect first."""

    def ask(self) -> None: ...

    def expire(self) -> None:
        """The time for an answer is over: the listener hears of it now."""
        ...

    def close(self) -> None:
        """At once, and for good."""
        ...


class Fetcher(Protocol):
    """Where pages come from."""

    def line(self, endpoint: Endpoint, listener: Listener, spent: Callable[[float], None]) -> Line:
        """A new line, which nothing was asked on. `spent` is told the CPU of each piece of work, in seconds."""
        ...


class HttpFetcher:
    """Pages over HTTP or HTTPS. Raises SettingsError when the certificates of its settings can't be read."""

    def __init__(
        self,
        settings: PageSettings,
        *,
        max_page_bytes: int = DEFAULT_MAX_PAGE_BYTES,
    ) -> None:
        self._settings = settings
        self._ssl = tls_context(settings) if settings.scheme == "https" else None
        self._max_page_bytes = max_page_bytes

    def line(self, endpoint: Endpoint, listener: Listener, spent: Callable[[float], None]) -> PageConnection:
        return PageConnection(self.target(endpoint), listener, spent)

    def target(self, endpoint: Endpoint) -> Target:
        """Where the endpoint's page is, and the request for it."""
        settings = self._settings
        address, port = endpoint.address, endpoint.metrics_port or settings.port or endpoint.port
        if isinstance(settings, GpuSourceSettings):
            port = settings.port
            if settings.use_node_address and endpoint.node_address:
                address = endpoint.node_address
        host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        head = f"GET {settings.path} HTTP/1.1\r\nHost: {host}\r\n"
        headers = "Accept: text/plain;version=0.0.4\r\nAccept-Encoding: identity\r\nUser-Agent: extproc\r\n\r\n"
        return Target(address, port, (head + headers).encode("ascii"), self._ssl, self._max_page_bytes)


def tls_context(settings: PageSettings) -> ssl.SSLContext:
    """Read the certificates. Raises SettingsError naming the keys of those that can't be read."""
    problems: list[str] = []
    for key, path in (
        ("caCertPath", settings.ca_cert_path),
        ("clientCertPath", settings.client_cert_path),
        ("clientKeyPath", settings.client_key_path),
    ):
        try:
            if path:
                read_file(path)  # OpenSSL would wait for a pipe, and read a device for ever
        except Unusable as error:
            problems += [f"{key}: {problem}" for problem in error.problems]
    if problems:
        raise SettingsError(problems)
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


__all__ = [
    "DEFAULT_MAX_PAGE_BYTES",
    "FetchError",
    "Fetcher",
    "HttpFetcher",
    "Line",
    "Reason",
    "tls_context",
]
