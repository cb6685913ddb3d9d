"""Real handshakes: asyncio's and uvloop's TLS on our context, with Python's client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from extproc.settings.base import SettingsError
from extproc.settings.tls import DEFAULT_SUITES, SUITES
from extproc.sockets.certificates import Identity, paired, read_chain, read_key, self_signed
from extproc.sockets.tls import ExchangeableContext, Policy, read_authorities, server_context, unfit_suites
from tests.fakes.certificates import RSA, Authority, Signed, common_name, trusting


class Server:
    """Echoes, over TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.failures: list[tuple[str, str]] = []
        self.context = ExchangeableContext(context, lambda why, more: self.failures.append((why, more)))
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._echo, "127.0.0.1", 0, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(100):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.tls: ssl.SSLObject = writer.get_extra_info("ssl_object")

    async def echo(self, text: bytes = b"hello") -> bytes:
        self._writer.write(text)
        return await self._reader.read(100)

    @property
    def server(self) -> str:
        return common_name(self.tls.getpeercert(binary_form=True) or b"")


@contextlib.asynccontextmanager
async def connected(server: Server, context: ssl.SSLContext, name: str = "localhost") -> AsyncIterator[Client]:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname=name)
        try:
            client = Client(reader, writer)
            assert await client.echo() == b"hello"
            yield client
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def refused(server: Server, context: ssl.SSLContext) -> str:
    """What the client hears."""
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)) as caught:
        async with connected(server, context):
            pass
    return str(caught.value).lower()


def identity(signed: Signed) -> Identity:
    return paired(read_chain(signed.chain), read_key(signed.key))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def serving(signed: Signed, policy: Policy = Policy(), authorities: bytes | None = None) -> Server:
    return Server(server_context(identity(signed), policy, authorities))


async def test_a_certificate_of_our_own() -> None:
    made = self_signed(["localhost", "127.0.0.1"], time.time())
    async with Server(server_context(made, Policy())).listening() as server, connected(server, trusting()) as client:
        assert client.server == "extproc"
        assert client.tls.selected_alpn_protocol() == "h2"
        assert client.tls.version() == "TLSv1.3"
    assert server.failures == []


async def test_our_own_certificate_can_be_pinned() -> None:
    made = self_signed(["localhost"], time.time())
    pinned = ssl.create_default_context(cadata=made.chain.pem.decode())
    async with Server(server_context(made, Policy())).listening() as server, connected(server, pinned) as client:
        assert client.server == "extproc"


async def test_a_chain_with_an_intermediate(authority: Authority) -> None:
    middle = Authority("middle", authority)
    signed = middle.issue("deep", intermediates=middle.pem)
    async with serving(signed).listening() as server, connected(server, authority.client()) as client:
        assert client.server == "deep"


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(["h2"], "h2"), (["http/1.1", "h2"], "h2"), (["grpc-exp", "h2"], "h2"), ([], None)],
)
async def test_alpn(authority: Authority, offered: list[str], agreed: str | None) -> None:
    client_context = ssl.create_default_context(cadata=authority.pem.decode())
    if offered:
        client_context.set_alpn_protocols(offered)
    async with serving(authority.issue()).listening() as server, connected(server, client_context) as client:
        assert client.tls.selected_alpn_protocol() == agreed


@pytest.mark.parametrize("tls12", [False, True])
async def test_alpn_without_h2_is_refused(authority: Authority, tls12: bool) -> None:
    client = authority.client()
    client.set_alpn_protocols(["http/1.1", "http/1.0"])
    if tls12:
        client.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(authority.issue()).listening() as server:
        assert "no application protocol" in (await refused(server, client)).replace("_", " ")
        assert server.failures == [("no_application_protocol", "")]
        async with connected(server, authority.client()):
            pass


async def test_a_clienthello_in_pieces(authority: Authority) -> None:
    """Each byte in a read of its own: what is refused is refused, and what is not, gets its answer."""
    for protocols, kind in ((["h2"], 22), (["http/1.1"], 21)):
        client = authority.client()
        client.set_alpn_protocols(protocols)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        server_in, server_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = serving(authority.issue()).context.wrap_bio(server_in, server_out, server_side=True)
        for byte in outgoing.read():
            assert server_out.pending == 0
            server_in.write(bytes([byte]))
            with pytest.raises(ssl.SSLWantReadError):
                made.do_handshake()
        assert server_out.read()[0] == kind


async def test_mutual_tls(authority: Authority, tmp_path: Path) -> None:
    clients, others = Authority("clients"), Authority("others")
    server_certificate = authority.issue()
    async with serving(server_certificate, authorities=clients.pem).listening() as server:
        known = authority.client(clients.issue("envoy"), tmp_path / "known")
        async with connected(server, known) as client:
            assert client.server == "server"
        assert server.failures == []
        stranger = authority.client(others.issue("envoy"), tmp_path / "stranger")
        assert "unknown ca" in await refused(server, stranger)
        assert "certificate required" in await refused(server, authority.client())
        expired = authority.client(clients.issue("envoy", days=(-9, -1)), tmp_path / "expired")
        assert "certificate expired" in await refused(server, expired)
    reasons = [why for why, _ in server.failures]
    assert reasons == ["certificate_verify_failed", "peer_did_not_return_a_certificate", "certificate_verify_failed"]
    assert "self-signed" in server.failures[0][1] or "issuer" in server.failures[0][1]
    assert server.failures[2][1] == "certificate has expired"


async def test_an_intermediate_may_be_the_authority(authority: Authority, tmp_path: Path) -> None:
    middle = Authority("middle", Authority("root"))
    client = authority.client(middle.issue("envoy"), tmp_path / "one")
    async with serving(authority.issue(), authorities=middle.pem).listening() as server, connected(server, client):
        pass


async def test_min_version(authority: Authority) -> None:
    old = authority.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(authority.issue()).listening() as server, connected(server, old) as client:
        assert client.tls.version() == "TLSv1.2"
    async with serving(authority.issue(), Policy("VersionTLS13")).listening() as server:
        assert "protocol version" in await refused(server, old)
        assert server.failures == [("unsupported_protocol", "")]
        async with connected(server, authority.client()) as client:
            assert client.tls.version() == "TLSv1.3"


async def test_cipher_suites(authority: Authority) -> None:
    wanted = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
    old = authority.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(authority.issue(), Policy(cipher_suites=(wanted,))).listening() as server:
        async with connected(server, old) as client:
            assert client.tls.cipher() == (SUITES[wanted].openssl, "TLSv1.2", 256)
        old.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        assert "handshake failure" in await refused(server, old)
        assert server.failures == [("no_shared_cipher", "")]


def names_of(context: ssl.SSLContext) -> list[str]:
    return [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]


def test_default_suites_and_options(authority: Authority) -> None:
    context = server_context(identity(authority.issue()), Policy())
    assert names_of(context) == list(DEFAULT_SUITES)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION


def test_suites_of_tls13_alone_leave_nothing_for_tls12(authority: Authority) -> None:
    context = server_context(identity(authority.issue()), Policy(cipher_suites=("TLS_AES_128_GCM_SHA256",)))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("suites", "rsa_key", "unfit"),
    [
        ((), False, False),
        (("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",), False, True),
        (("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",), True, False),
        (("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"), False, False),
        (("TLS_AES_128_GCM_SHA256",), False, False),
    ],
)
def test_suites_that_do_not_fit_the_key(authority: Authority, suites: Sequence[str], rsa_key: bool, unfit: bool) -> None:
    assert unfit_suites(identity(authority.issue(key=RSA if rsa_key else None)), suites) is unfit


async def test_exchange_while_a_connection_is_open(authority: Authority) -> None:
    async with serving(authority.issue("one")).listening() as server, connected(server, authority.client()) as before:
        server.context.current = server_context(identity(authority.issue("two")), Policy())
        async with connected(server, authority.client()) as after:
            assert await before.echo(b"still here") == b"still here"
            assert (before.server, after.server) == ("one", "two")


async def test_an_authority_that_is_gone_lets_nobody_in(authority: Authority, tmp_path: Path) -> None:
    """Nor does a session of TLS that it once let in."""
    one, two = Authority("one"), Authority("two")
    signed = authority.issue()
    context = authority.client(one.issue("envoy"), tmp_path / "client")
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where a client has the session at once
    async with serving(signed, authorities=one.pem).listening() as server:
        async with connected(server, context) as client:
            session = client.tls.session
        assert session is not None
        assert resumed(server, context, session)
        server.context.current = server_context(identity(signed), Policy(), two.pem)
        assert not resumed(server, context, session)
        assert "unknown ca" in await refused(server, context)


def resumed(server: Server, context: ssl.SSLContext, session: ssl.SSLSession) -> bool:
    """Whether a handshake in memory gets in by the session."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.context.wrap_bio(to_server, to_client, server_side=True)
    ours = context.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    for _ in range(4):
        for side in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                try:
                    side.do_handshake()
                except ssl.SSLError as error:
                    if isinstance(error, ssl.SSLWantReadError):
                        raise
                    return False
    return bool(ours.session_reused)


async def test_plaintext_to_the_tls_port(authority: Authority) -> None:
    async with serving(authority.issue()).listening() as server, asyncio.timeout(5):
        for first in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(first)
            writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert [why for why, _ in server.failures] == ["wrong_version_number", "http_request"]


def test_what_openssl_does_not_take(authority: Authority) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    with pytest.raises(SettingsError, match=r"OpenSSL does not take it: ee_key_too_small"):
        server_context(identity(authority.issue(key=weak)), Policy())
    with pytest.raises(SettingsError, match="expected a certificate in PEM"):
        read_authorities(b"")


def test_the_key_is_in_no_file(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system with memfd needs no disk; one without gets a file that is gone at once, and that only its user can read."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    load = ssl.SSLContext.load_cert_chain
    seen: list[tuple[str, int]] = []

    def loaded(context: ssl.SSLContext, path: str, *more: Any) -> None:
        seen.append((path, os.stat(path).st_mode & 0o777))
        load(context, path, *more)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", loaded)
    server_context(identity(authority.issue()), Policy())
    assert seen.pop()[0].startswith("/proc/self/fd/")
    monkeypatch.setattr(os, "memfd_create", None)
    monkeypatch.delattr(os, "memfd_create")
    server_context(identity(authority.issue()), Policy())
    path, mode = seen.pop()
    assert path.startswith(str(tmp_path))
    assert mode == 0o600
    assert list(tmp_path.iterdir()) == []
