"""Server TLS for HTTP/2: an `ssl.SSLContext` whose certificate can be exchanged, and the handshake's failures told.

ALPN: `h2` is the only protocol. A client that offers others and not h2 is refused with the alert no_application_protocol
(RFC 7301, 3.2); one that offers nothing is served, for it may speak HTTP/2 all the same (RFC 9113, 3.3, "prior knowledge").
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from extproc.settings.base import SettingsError
from extproc.settings.tls import DEFAULT_SUITES, MinVersion, tls12_suites
from extproc.sockets.certificates import Identity, read_chain
from extproc.sockets.clienthello import offered_protocols

HANDSHAKE_TIMEOUT_S: Final = 10.0
"""For `loop.create_server(ssl_handshake_timeout=)`: how long a client may take to become one."""

ALPN: Final = "h2"

_NO_APPLICATION_PROTOCOL: Final = b"\x15\x03\x03\x00\x02\x02\x78"
"""A fatal alert, before keys are agreed on (RFC 8446, 6)."""


HandshakeFailed = Callable[[str, str], None]
"""Hears why a handshake failed: OpenSSL's reason in lower case, and more about it or ""."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a client must be capable of."""

    min_version: MinVersion = "VersionTLS12"
    cipher_suites: tuple[str, ...] = ()
    """Go's names; empty for the default. Of TLS 1.2 only: those of 1.3 are always on."""


def server_context(identity: Identity, policy: Policy, authorities: bytes | None = None, *, alpn: str = ALPN) -> ssl.SSLContext:
    """A context with this certificate. With `authorities` (PEM) clients must have a certificate which one of them signed.

    Raises SettingsError for what OpenSSL does not take, such as a key that is too short, and when there is nothing to hand it
    over by.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    suites = tls12_suites(policy.cipher_suites)
    tls13_only = policy.min_version == "VersionTLS13" or (policy.cipher_suites and not suites)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls13_only else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION  # RFC 9113, 9.2.1
    context.set_alpn_protocols([alpn])
    try:
        context.set_ciphers(":".join([suite.openssl for suite in suites] or DEFAULT_SUITES))
        with _as_file(identity.key.pem + b"\n" + identity.chain.pem) as path:
            context.load_cert_chain(path)
        if authorities is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            # As in Go, an authority is trusted because it is listed, also when it is an intermediate.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise SettingsError([f"OpenSSL does not take it: {reason(error)}"]) from None
    except OSError as error:  # no file is left to open, or no memory
        raise SettingsError([f"can't be handed to OpenSSL: {error.strerror or error}"]) from None
    return context


def read_authorities(data: bytes) -> bytes:
    """Certificates that clients' certificates may be signed by, in PEM. Raises SettingsError."""
    pem = read_chain(data).pem
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise SettingsError([f"OpenSSL does not take it: {reason(error)}"]) from None
    return pem


def reason(error: ssl.SSLError) -> str:
    """Why, in OpenSSL's few words: a label of bounded variety, without addresses or names in it."""
    return (getattr(error, "reason", None) or type(error).__name__).lower().replace(" ", "_")


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path with these bytes behind it: load_cert_chain wants one. They stay in memory where the system can do that; else
    they are on disk for as long as the call takes, for this user only.
    """
    try:
        number = os.memfd_create("tls", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        with tempfile.NamedTemporaryFile(prefix="extproc-tls-") as file:
            file.write(data)
            file.flush()
            yield file.name
        return
    with os.fdopen(number, "wb") as file_in_memory:
        file_in_memory.write(data)
        file_in_memory.flush()
        yield f"/proc/self/fd/{number}"


class PlainExchangeableContext(ssl.SSLContext):
    """As ExchangeableContext, for servers that take clients with any ALPN."""

    current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> PlainExchangeableContext:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, current: ssl.SSLContext) -> None:
        self.current = current

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self.current.wrap_bio(*args, **kwargs)


class ExchangeableContext(ssl.SSLContext):
    """The context to listen with: each connection gets the `current` one, and keeps it when that is exchanged.

    Exchanging the whole context, and not the certificate in it, also forgets authorities that are trusted no more and the
    sessions that they let in. asyncio and uvloop make a connection's TLS by `wrap_bio`, and only that is handed on.
    """

    current: ssl.SSLContext
    _on_failure: HandshakeFailed

    def __new__(cls, current: ssl.SSLContext, on_failure: HandshakeFailed) -> ExchangeableContext:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, current: ssl.SSLContext, on_failure: HandshakeFailed) -> None:
        self.current = current
        self._on_failure = on_failure

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        self.current.sslobject_class = _Connection
        made = cast(_Connection, self.current.wrap_bio(incoming, outgoing, server_side, cast(Any, server_hostname), session))
        made.watch(incoming, outgoing, self._on_failure)
        return made

    def wrap_socket(self, *_: Any, **__: Any) -> Any:
        """Not for blocking sockets."""
        raise NotImplementedError("wrap_bio is what asyncio uses")


class _Connection(ssl.SSLObject):
    """One connection: refuses what can't become HTTP/2, and lets the peer know why a handshake failed."""

    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO
    _on_failure: HandshakeFailed
    _hello: bytes | None
    """What the client has sent, until its ClientHello is whole."""
    _failure: ssl.SSLError | None

    def watch(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, on_failure: HandshakeFailed) -> None:
        """Comes before the first handshake step, because an SSLObject can't be constructed."""
        self._incoming = incoming
        self._outgoing = outgoing
        self._on_failure = on_failure
        self._hello = b""
        self._failure = None

    def do_handshake(self) -> None:
        """One step. Raises SSLWantReadError until done, and SSLError when it can't be done."""
        if self._failure is not None:
            raise self._failure
        if self._hello is not None and not self._may_go_on():
            self._outgoing.write(_NO_APPLICATION_PROTOCOL)
            self._fail(ssl.SSLError(1, "the client offers protocols, but not h2"), "no_application_protocol")
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._fail(error, reason(error))

    def _may_go_on(self) -> bool:
        assert self._hello is not None
        pending = self._incoming.read()
        self._incoming.write(pending)
        self._hello += pending
        offered = offered_protocols(self._hello)
        if offered is None:
            return True
        self._hello = None
        return not offered or ALPN.encode() in offered

    def _fail(self, error: ssl.SSLError, why: str) -> NoReturn:
        """The loops drop what OpenSSL has to say when a handshake fails. They send it when there is to be another step: so the
        failure comes with the next one, which is when the peer answers or leaves, or the handshake's timeout.
        """
        self._on_failure(why, getattr(error, "verify_message", ""))
        if self._outgoing.pending:
            self._failure = error
            raise ssl.SSLWantReadError(error.errno, "the alert is on its way") from error
        raise error


def unfit_suites(identity: Identity, suites: Sequence[str]) -> bool:
    """Whether none of these suites can use the certificate's key, so that no client gets in by TLS 1.2."""
    chosen = tls12_suites(suites)
    return bool(chosen) and all(suite.key != identity.key_kind for suite in chosen)
