"""The server's TLS: --cert-path, --client-ca-file and what goes with them; metrics and log lines of what becomes of it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from extproc.app.component import Component
from extproc.app.watching import FileErrors
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.settings.server import TlsSettings
from extproc.settings.tls import tls12_suites
from extproc.sockets.certificates import Identity, KeyKind, self_signed
from extproc.sockets.served import ServedTls, TlsFiles
from extproc.sockets.tls import ExchangeableContext, Policy, server_context, unfit_suites

if TYPE_CHECKING:
    import grpc

_log = logger(__name__)

_PLAINTEXT: Final = ("http_request", "wrong_version_number", "record_layer_failure")
"""What OpenSSL calls a client that does not speak TLS."""

_UNUSED_WITHOUT_TLS: Final = ("cert_path", "enable_cert_reload", "tls_min_version", "tls_cipher_suites")


def server_tls(settings: TlsSettings, instruments: Instruments, files: FileErrors, problems: list[str]) -> ServerTls | None:
    """The TLS that these settings ask for, None for plaintext. What is wrong is added to `problems`."""
    if not settings.tls:
        why = "--secure-serving is false" if settings.grpc_socket is None else "--grpc-socket is plaintext"
        for field in _UNUSED_WITHOUT_TLS:
            if getattr(settings, field) != type(settings).model_fields[field].default:
                _log.warning("config", warning=f"--{field.replace('_', '-')} has no effect: {why}")
        return None
    if settings.enable_cert_reload and settings.cert_path is None and settings.client_ca_file is None:
        _log.warning("config", warning="--enable-cert-reload has no effect: neither --cert-path nor --client-ca-file is set")
    try:
        return ServerTls(settings, instruments, files)
    except SettingsError as error:
        problems += error.problems
        return None


class ServerTls(Component):
    """What a server presents and whom it lets in.

    `context()` and `grpc_credentials()` are for the transports, `run()` watches the files. A connection keeps what was in force
    when it was made. What is wrong with a file is logged once and counted, and what was good stays in force.
    """

    def __init__(
        self,
        settings: TlsSettings,
        instruments: Instruments,
        files: FileErrors,
        *,
        now_s: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Read or make everything. Raises SettingsError with every problem, each with its flag."""
        super().__init__("TLS")
        self._files = files
        self._now_s = now_s
        self._policy = Policy(settings.tls_min_version, settings.tls_cipher_suites)
        self._reload = settings.enable_cert_reload
        self._failures_seen: set[str] = set()
        self._metrics = _Metrics(instruments)

        def own() -> tuple[Identity, str]:
            return self_signed(_own_names(settings.host), now_s(), _key_for(settings.tls_cipher_suites)), "--secure-serving"

        def make(identity: Identity, authorities: bytes | None) -> ssl.SSLContext:
            return server_context(identity, self._policy, authorities)

        where = TlsFiles(settings.cert_path, "--cert-path", settings.client_ca_file, "--client-ca-file")
        self._served = ServedTls(where, make, self, otherwise=own, sleep=sleep)
        self._context = ExchangeableContext(self._served.context, self._handshake_failed)
        self._metrics.expiry.value = self._served.identity.not_after_s

    @property
    def identity(self) -> Identity:
        """Who new connections are told that we are."""
        return self._served.identity

    def context(self) -> ssl.SSLContext:
        """For `loop.create_server(ssl=)`. One object for as long as the server lives."""
        return self._context

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For grpcio's `add_secure_port`. Raises SettingsError for what grpcio has no way to do."""
        from extproc.transport.grpcio import tls_credentials  # who does not use grpcio does not load it

        if self._context.current.minimum_version is not ssl.TLSVersion.TLSv1_2:
            raise SettingsError(["--tls-min-version: on grpcio only VersionTLS12 works"])
        if self._policy.cipher_suites:
            raise SettingsError(["--tls-cipher-suites: grpcio takes no choice"])
        return tls_credentials(lambda: (self._served.identity, self._served.authorities))

    async def run(self, ready: asyncio.Event) -> None:
        """Say what is served; then, with --enable-cert-reload, watch the files until cancelled."""
        self._announce("serving TLS")
        if self._reload:
            await self._served.run()

    async def reload(self) -> list[str]:
        """Look at the files now, also without --enable-cert-reload; the paths that were looked at."""
        if not self._reload:  # else they are watched
            await self._served.look()
        return [str(path) for path in self._served.paths]

    # -- as what hears of the files ----------------------------------------------------------------------------------

    def broken(self, path: Path, problems: Sequence[str]) -> None:
        self._files.broken(str(path), problems)
        self._metrics.reloads.child("failure").value += 1

    def good(self, path: Path) -> None:
        self._files.good(str(path))

    def exchanged(self, served: ServedTls) -> None:
        self._context.current = served.context
        self._metrics.expiry.value = served.identity.not_after_s
        self._metrics.reloads.child("success").value += 1
        self._announce("TLS files changed")

    def _announce(self, event: str) -> None:
        identity = self._served.identity
        facts = identity.describe()
        _log.info(event, **facts, client_certificates=self._served.authorities is not None)
        now_s = self._now_s()
        if identity.not_after_s <= now_s:
            _log.warning("the certificate has expired: clients that verify it will refuse it", not_after=facts["not_after"])
        elif identity.not_before_s > now_s:
            _log.warning("the certificate is not valid yet", not_before=facts["not_before"])
        if unfit_suites(identity, self._policy.cipher_suites):
            _log.warning(f"none of --tls-cipher-suites goes with an {identity.key_kind} key: clients need TLS 1.3")

    def _handshake_failed(self, why: str, more: str) -> None:
        self._metrics.failures.child(why).value += 1
        hint = {"hint": "the client speaks plaintext, but --secure-serving is true"} if why in _PLAINTEXT else {}
        if why not in self._failures_seen:
            self._failures_seen.add(why)
            _log.warning("TLS handshake failed; more of this reason are only counted", reason=why, detail=more, **hint)


class _Metrics:
    def __init__(self, instruments: Instruments) -> None:
        self.expiry = instruments.gauge(
            "extproc_tls_certificate_expiration_timestamp_seconds",
            "When the certificate of the ExtProc port, or one of its intermediates, expires: seconds since 1970.",
        ).child()
        self.reloads = instruments.counter(
            "extproc_tls_reloads_total", "Changes of the TLS files, by what became of them.", ["result"]
        )
        self.failures = instruments.counter(
            "extproc_tls_handshake_failures_total", "TLS handshakes that failed, by OpenSSL's reason.", ["reason"]
        )


def _own_names(host: str) -> list[str]:
    """Names and addresses that this server may be reached by, as far as it knows."""
    names = ["localhost", socket.gethostname(), "127.0.0.1", "::1"]
    try:
        if ipaddress.ip_address(host).is_unspecified:
            return names
    except ValueError:
        pass
    return [*names, host] if host else names


def _key_for(suites: Sequence[str]) -> KeyKind:
    """Upstream's own certificate has an RSA key, so a list of suites made for it may have none for ECDSA."""
    chosen = tls12_suites(suites)
    return "RSA" if chosen and all(suite.key == "RSA" for suite in chosen) else "ECDSA"
