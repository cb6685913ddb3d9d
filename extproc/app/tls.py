"""The server's TLS: certificate, key and client authorities, read at start, watched, and exchanged as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from extproc.app.watching import FileErrors
from extproc.files.problems import Unusable
from extproc.files.watch import FileWatcher
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.settings.server import TlsSettings
from extproc.settings.tls import tls12_suites
from extproc.sockets.certificates import Chain, Identity, Key, KeyKind, paired, read_chain, read_key, self_signed
from extproc.sockets.tls import ExchangeableContext, Policy, read_authorities, server_context, unfit_suites

if TYPE_CHECKING:
    import grpc

_log = logger(__name__)

_SETTLE_S: Final = 1.0
"""Longer than a watcher's interval: certificate and key are two files, and the second is seen a little after the first."""

_PLAINTEXT: Final = ("http_request", "wrong_version_number", "record_layer_failure")
"""What OpenSSL calls a client that does not speak TLS."""

_UNUSED_WITHOUT_TLS: Final = ("cert_path", "enable_cert_reload", "tls_min_version", "tls_cipher_suites")

Part = TypeVar("Part")


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


class ServerTls:
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
        self._files = files
        self._now_s = now_s
        self._sleep = sleep
        self._policy = Policy(settings.tls_min_version, settings.tls_cipher_suites)
        self._reload = settings.enable_cert_reload
        self._changed = asyncio.Event()
        self._told: tuple[str, ...] = ()
        """What was last said to be wrong with certificate and key as a pair."""
        self._failures_seen: set[str] = set()
        self._metrics = _Metrics(instruments)
        problems: list[str] = []
        self._authorities: _File[bytes] | None = None
        if settings.client_ca_file is not None:
            file = Path(settings.client_ca_file)
            self._authorities = _File(file, "--client-ca-file", read_authorities, self._changed, self._broken, problems)
        self._chain: _File[Chain] | None = None
        self._key: _File[Key] | None = None
        if settings.cert_path is not None:
            folder = Path(settings.cert_path)
            self._chain = _File(folder / "tls.crt", "--cert-path", read_chain, self._changed, self._broken, problems)
            self._key = _File(folder / "tls.key", "--cert-path", read_key, self._changed, self._broken, problems)
        if problems:
            raise SettingsError(problems)
        if self._chain is not None and self._key is not None:
            label = f"--cert-path: {self._key.path}: "
        else:
            label = "--secure-serving: "
            self._identity = self_signed(_own_names(settings.host), now_s(), _key_for(settings.tls_cipher_suites))
        self._trusted = self._wanted_authorities()
        try:
            self._identity = self._wanted_identity()
            context = server_context(self._identity, self._policy, self._trusted)
        except SettingsError as error:
            raise SettingsError([label + problem for problem in error.problems]) from None
        self._context = ExchangeableContext(context, self._handshake_failed)
        self._metrics.expiry.value = self._identity.not_after_s
        for each in self._all():
            files.good(str(each.path))

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
        return tls_credentials(lambda: (self._identity, self._trusted))

    async def run(self) -> None:
        """Say what is served; then, with --enable-cert-reload, watch the files until cancelled."""
        self._announce("serving TLS")
        watched = self._all()
        if not self._reload or not watched:
            return
        async with asyncio.TaskGroup() as group:
            for each in watched:
                group.create_task(each.watcher.run(), name=f"watch {each.path}")
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._exchange()

    async def _exchange(self) -> None:
        """Put into force what the files say, as far as it is good."""
        problems: tuple[str, ...] = ()
        context: ssl.SSLContext | None = None
        trusted = self._wanted_authorities()
        try:
            identity = self._wanted_identity()
            context = server_context(identity, self._policy, trusted)
        except SettingsError as error:
            problems = tuple(error.problems)
            await self._sleep(_SETTLE_S)
            if self._changed.is_set():
                return  # the other half of the pair: look again
            identity = self._identity
            with contextlib.suppress(SettingsError):
                context = server_context(identity, self._policy, trusted)
        if context is not None and (identity, trusted) != (self._identity, self._trusted):
            self._identity, self._trusted = identity, trusted
            self._context.current = context
            self._metrics.expiry.value = identity.not_after_s
            self._metrics.reloads.child("success").value += 1
            self._announce("TLS files changed")
        self._tell(problems)

    def _wanted_identity(self) -> Identity:
        """Who the files say we are. As before when one of them is broken, which is told elsewhere. Raises SettingsError."""
        if self._chain is None or self._key is None or self._chain.watcher.problems or self._key.watcher.problems:
            return self._identity
        return paired(self._chain.good, self._key.good)

    def _wanted_authorities(self) -> bytes | None:
        return None if self._authorities is None else self._authorities.good

    def _tell(self, problems: tuple[str, ...]) -> None:
        """Say once what is wrong with the pair, under the name of the key's file; and of the other files that they are good."""
        if problems and problems != self._told and self._key is not None:
            self._broken(self._key.path, problems)
        self._told = problems
        for each in self._all():
            if not each.watcher.problems and not (problems and each is self._key):
                self._files.good(str(each.path))

    def _broken(self, path: Path, problems: Sequence[str]) -> None:
        self._files.broken(str(path), problems)
        self._metrics.reloads.child("failure").value += 1

    def _all(self) -> list[_File[Any]]:
        return [each for each in (self._authorities, self._chain, self._key) if each is not None]

    def _announce(self, event: str) -> None:
        facts = self._identity.describe()
        _log.info(event, **facts, client_certificates=self._trusted is not None)
        now_s = self._now_s()
        if self._identity.not_after_s <= now_s:
            _log.warning("the certificate has expired: clients that verify it will refuse it", not_after=facts["not_after"])
        elif self._identity.not_before_s > now_s:
            _log.warning("the certificate is not valid yet", not_before=facts["not_before"])
        if unfit_suites(self._identity, self._policy.cipher_suites):
            kind = self._identity.key_kind
            _log.warning(f"none of --tls-cipher-suites goes with an {kind} key: clients need TLS 1.3")

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


class _File(Generic[Part]):
    """A watched file and what was last good in it."""

    good: Part

    def __init__(
        self,
        path: Path,
        label: str,
        parse: Callable[[bytes], Part],
        changed: asyncio.Event,
        broken: Callable[[Path, Sequence[str]], None],
        problems: list[str],
    ) -> None:
        """Read it for the first time. What is wrong is added to `problems`, under `label`."""
        self.path = path
        self._changed = changed
        self.watcher: FileWatcher[Part] = FileWatcher(
            path, parse, on_change=self._take, on_error=lambda found: broken(path, found), on_heal=changed.set
        )
        try:
            self.good = self.watcher.load()
        except Unusable as error:
            problems += [f"{label}: {problem}" for problem in error.problems]

    def _take(self, part: Part) -> None:
        self.good = part
        self._changed.set()


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
