"""A service's TLS: handshakes by gRPC's own client, files that change while it runs, and what is said of bad ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import rsa

from extproc.app import Service, build
from extproc.app.tls import ServerTls, server_tls
from extproc.app.watching import FileErrors
from extproc.files import watch
from extproc.observability.instruments import Instruments
from extproc.settings.base import SettingsError
from extproc.settings.commands import BbrSettings, EppSettings, GatewaySettings
from tests.app.running import until
from tests.fakes.certificates import Authority, Signed, common_name, trusting

HERE: dict[str, Any] = {"host": "127.0.0.1", "grpc_port": 0, "grpc_health_port": 0, "metrics_port": 0, "drain_timeout": "1s"}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than by default."""
    monkeypatch.setattr(watch.FileWatcher.__init__, "__kwdefaults__", {**_KWDEFAULTS, "interval_s": 0.01, "settle_s": 0.01})
    monkeypatch.setattr("extproc.sockets.served._SETTLE_S", 0.05)


_KWDEFAULTS: dict[str, Any] = dict(watch.FileWatcher.__init__.__kwdefaults__ or {})


def replace(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.rename(path)


class Running:
    """A ServerTls that watches, a server that uses its context, and what is counted and logged."""

    def __init__(self, **flags: Any) -> None:
        self.instruments = Instruments()
        settings = BbrSettings(**HERE, **flags)
        self.tls = ServerTls(settings, self.instruments, FileErrors(self.instruments))
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Running]:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(100):
                    writer.write(data)
                writer.close()
                await writer.wait_closed()

        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=self.tls.context())
        self.port = server.sockets[0].getsockname()[1]
        watching = asyncio.create_task(self.tls.run(asyncio.Event()))
        async with server:
            yield self
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    async def server(self, context: ssl.SSLContext | None = None) -> str:
        """The common name of the certificate that a new connection gets; "" when it is refused."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context or trusting())
            writer.write(b"x")
            answer = await reader.read(1)
            name = common_name(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
            writer.close()
            await writer.wait_closed()
        except OSError:
            return ""
        return name if answer else ""

    async def serves(self, name: str, context: ssl.SSLContext | None = None) -> None:
        async def look() -> bool:
            return await self.server(context) == name

        await until(look)

    def metric(self, name: str, *labels: str) -> float:
        for family in self.instruments.collect():
            for sample in family.samples:
                if sample.name == name and tuple(sample.labels.values()) == labels:
                    return sample.value
        return 0.0

    async def counted(self, name: str, value: float, *labels: str) -> None:
        async def look() -> bool:
            return self.metric(name, *labels) == value

        await until(look)


def logged(logs: list[Any], event: str) -> list[Any]:
    return [line for line in logs if line["event"] == event]


BROKEN = "watched file is broken, its last good content stays"


async def test_a_new_certificate_while_a_connection_is_open(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue("one").write(tmp_path / "tls")
    async with Running(cert_path=str(folder), enable_cert_reload=True).listening() as running_tls:
        reader, writer = await asyncio.open_connection("127.0.0.1", running_tls.port, ssl=trusting())
        two = authority.issue("two", days=(-1, 90))
        replace(folder / "tls.crt", two.chain)
        replace(folder / "tls.key", two.key)
        await running_tls.serves("two")
        writer.write(b"old")
        assert await reader.read(10) == b"old"
        assert common_name(writer.get_extra_info("ssl_object").getpeercert(binary_form=True)) == "one"
        writer.close()
        await writer.wait_closed()
        expires_s = running_tls.metric("extproc_tls_certificate_expiration_timestamp_seconds")
        assert abs(expires_s - time.time() - 90 * 86400) < 60
        assert running_tls.metric("extproc_tls_reloads_total", "success") == 1
        assert running_tls.metric("extproc_tls_reloads_total", "failure") == 0


async def test_the_folder_of_a_kubernetes_secret(authority: Authority, tmp_path: Path) -> None:
    """Files are links into ..data, which is itself a link that is swapped."""
    authority.issue("one").write(tmp_path / "..first")
    (tmp_path / "..data").symlink_to("..first")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    async with Running(cert_path=str(tmp_path), enable_cert_reload=True).listening() as running_tls:
        assert await running_tls.server() == "one"
        for turn in ("two", "three"):
            authority.issue(turn).write(tmp_path / f"..{turn}")
            (tmp_path / "..data_tmp").symlink_to(f"..{turn}")
            os.rename(tmp_path / "..data_tmp", tmp_path / "..data")
            await running_tls.serves(turn)
        assert running_tls.metric("extproc_tls_reloads_total", "success") == 2


async def test_without_the_flag_nothing_is_watched(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue("one").write(tmp_path / "tls")
    tls = Running(cert_path=str(folder)).tls
    async with asyncio.timeout(5):
        await tls.run(asyncio.Event())  # returns


async def test_a_pair_that_does_not_match_then_heals(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue("one").write(tmp_path / "tls")
    two = authority.issue("two")
    key = str(folder / "tls.key")
    with structlog.testing.capture_logs() as logs:
        async with Running(cert_path=str(folder), enable_cert_reload=True).listening() as running_tls:
            replace(folder / "tls.crt", two.chain)
            await running_tls.counted("extproc_file_errors", 1, key)
            assert await running_tls.server() == "one"
            replace(folder / "tls.crt", authority.issue("three").chain)  # no better, and nothing new to say
            replace(folder / "tls.crt", two.chain)
            replace(folder / "tls.key", two.key)
            await running_tls.serves("two")
            await running_tls.counted("extproc_file_errors", 0, key)
            assert running_tls.metric("extproc_tls_reloads_total", "failure") == 1
    (line,) = logged(logs, BROKEN)
    assert line["file"] == key
    assert line["problems"] == ["the key does not belong to the certificate (the first one in its file)"]
    assert len(logged(logs, "watched file is good again")) == 1


async def test_half_of_a_file_then_the_whole(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue("one").write(tmp_path / "tls")
    two = authority.issue("two")
    with structlog.testing.capture_logs() as logs:
        async with Running(cert_path=str(folder), enable_cert_reload=True).listening() as running_tls:
            (folder / "tls.key").write_bytes(two.key[:60])
            await running_tls.counted("extproc_file_errors", 1, str(folder / "tls.key"))
            replace(folder / "tls.crt", two.chain)
            os.remove(folder / "tls.key")
            await running_tls.counted("extproc_tls_reloads_total", 2, "failure")
            assert await running_tls.server() == "one"
            (folder / "tls.key").write_bytes(two.key)
            await running_tls.serves("two")
            await running_tls.counted("extproc_file_errors", 0, str(folder / "tls.key"))
    said = [line["problems"] for line in logged(logs, BROKEN)]
    assert said == [
        [f"{folder}/tls.key: expected a private key in PEM"],
        [f"{folder}/tls.key: No such file or directory"],
    ]
    assert "PRIVATE KEY" not in str(logs)


async def test_the_pair_of_before_comes_back(authority: Authority, tmp_path: Path) -> None:
    one = authority.issue("one")
    folder = one.write(tmp_path / "tls")
    async with Running(cert_path=str(folder), enable_cert_reload=True).listening() as running_tls:
        replace(folder / "tls.crt", authority.issue("two").chain)
        await running_tls.counted("extproc_file_errors", 1, str(folder / "tls.key"))
        replace(folder / "tls.crt", one.chain)
        await running_tls.counted("extproc_file_errors", 0, str(folder / "tls.key"))
        assert await running_tls.server() == "one"
        assert running_tls.metric("extproc_tls_reloads_total", "success") == 0


async def test_no_files_left_to_open_while_files_change(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays as it is, and goes on to look."""
    folder = authority.issue("one").write(tmp_path / "tls")

    def refuse(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    async with Running(cert_path=str(folder), enable_cert_reload=True).listening() as running_tls:
        with monkeypatch.context() as patch:
            patch.setattr(os, "memfd_create", refuse)
            patch.setattr("tempfile.NamedTemporaryFile", refuse)
            authority.issue("two").write(folder)
            await running_tls.counted("extproc_file_errors", 1, str(folder / "tls.key"))
        assert await running_tls.server() == "one"
        authority.issue("three").write(folder)
        await running_tls.serves("three")


async def test_client_authorities_change(authority: Authority, tmp_path: Path) -> None:
    """Also while the server's own pair is broken."""
    folder = authority.issue("one").write(tmp_path / "tls")
    old, new = Authority("old"), Authority("new")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(old.pem)
    old_client = authority.client(old.issue("a"), tmp_path / "a")
    new_client = authority.client(new.issue("b"), tmp_path / "b")
    flags = {"cert_path": str(folder), "client_ca_file": str(ca), "enable_cert_reload": True}
    async with Running(**flags).listening() as running_tls:
        assert await running_tls.server(old_client) == "one"
        assert await running_tls.server(new_client) == ""
        replace(ca, old.pem + new.pem)
        await running_tls.serves("one", new_client)
        assert await running_tls.server(old_client) == "one"
        replace(folder / "tls.crt", authority.issue("two").chain)
        await running_tls.counted("extproc_file_errors", 1, str(folder / "tls.key"))
        replace(ca, new.pem)
        await running_tls.serves("", old_client)
        assert await running_tls.server(new_client) == "one"
        replace(ca, b"nonsense")
        await running_tls.counted("extproc_file_errors", 1, str(ca))
        assert await running_tls.server(new_client) == "one"
        replace(ca, new.pem)
        await running_tls.counted("extproc_file_errors", 0, str(ca))
        assert running_tls.metric("extproc_file_errors", str(folder / "tls.key")) == 1


async def test_failed_handshakes_are_counted_and_logged_once_a_reason(tmp_path: Path, authority: Authority) -> None:
    with structlog.testing.capture_logs() as logs:
        async with Running().listening() as running_tls:
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", running_tls.port)
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                writer.write_eof()
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                writer.close()
            await running_tls.counted("extproc_tls_handshake_failures_total", 3, "wrong_version_number")
    (line,) = [line for line in logs if line["event"].startswith("TLS handshake failed")]
    assert line["hint"] == "the client speaks plaintext, but --secure-serving is true"


async def test_what_is_said_at_start(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue("gone", days=(-9, -1)).write(tmp_path / "tls")
    with structlog.testing.capture_logs() as logs:
        running_tls = Running(cert_path=str(folder), tls_cipher_suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",))
        await running_tls.tls.run(asyncio.Event())
    (line,) = logged(logs, "serving TLS")
    assert line["subject"] == "CN=gone"
    assert line["sans"] == ["gone", "localhost", "127.0.0.1"]
    assert len(line["sha256"]) == 64
    assert line["client_certificates"] is False
    warnings = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert warnings == [
        "the certificate has expired: clients that verify it will refuse it",
        "none of --tls-cipher-suites goes with an ECDSA key: clients need TLS 1.3",
    ]
    assert "PRIVATE" not in str(logs)


async def test_a_certificate_of_tomorrow(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue("early", days=(1, 9)).write(tmp_path / "tls")
    with structlog.testing.capture_logs() as logs:
        await Running(cert_path=str(folder)).tls.run(asyncio.Event())
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["the certificate is not valid yet"]


@pytest.mark.parametrize(
    ("suites", "kind"),
    [
        ((), "ECDSA"),
        (("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",), "RSA"),
        (("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"), "ECDSA"),
    ],
)
async def test_our_own_certificate_fits_the_suites(suites: tuple[str, ...], kind: str) -> None:
    old = trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with Running(tls_cipher_suites=suites).listening() as running_tls:
        assert await running_tls.server(old) == "extproc"
        assert running_tls.tls.identity.key_kind == kind


def problems_of(build: Callable[[], Service]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        build()
    return caught.value.problems


def test_all_that_is_wrong_is_said_at_once(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_bytes(b"hello")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(b"")
    flags: dict[str, Any] = {**HERE, "cert_path": str(tmp_path), "client_ca_file": str(ca)}
    of_tls = [
        f"--cert-path: {tmp_path}/tls.crt: expected a certificate in PEM, found nothing of PEM",
        f"--cert-path: {tmp_path}/tls.key: No such file or directory",
        f"--client-ca-file: {ca}: expected a certificate in PEM, the file is empty",
    ]
    assert problems_of(lambda: build(BbrSettings(**flags, adapters_file="/none"))) == [
        *of_tls,
        "--adapters-file: /none: No such file or directory",
    ]
    assert problems_of(lambda: build(EppSettings(**flags, config_file="/none")))[:3] == of_tls
    assert problems_of(lambda: build(GatewaySettings(**flags, config_file="/none")))[:3] == of_tls


def test_a_pair_that_does_not_match_or_is_too_weak(authority: Authority, tmp_path: Path) -> None:
    folder = Signed(authority.issue().chain, authority.issue().key).write(tmp_path / "tls")
    why = "the key does not belong to the certificate (the first one in its file)"

    def built() -> Service:
        return build(BbrSettings(**HERE, cert_path=str(folder)))

    assert problems_of(built) == [f"--cert-path: {folder}/tls.key: {why}"]
    authority.issue(key=rsa.generate_private_key(65537, 1024)).write(folder)
    assert problems_of(built) == [f"--cert-path: {folder}/tls.key: OpenSSL does not take it: ee_key_too_small"]


def test_flags_without_effect_are_named(tmp_path: Path) -> None:
    instruments = Instruments()
    problems: list[str] = []

    def warnings(**flags: Any) -> list[str]:
        with structlog.testing.capture_logs() as logs:
            server_tls(BbrSettings(**HERE, **flags), instruments, FileErrors(instruments), problems)
        return [line["warning"] for line in logs]

    off = "has no effect: --secure-serving is false"
    assert warnings(secure_serving=False) == []
    assert warnings(secure_serving=False, cert_path="x", tls_min_version="VersionTLS13") == [
        f"--cert-path {off}",
        f"--tls-min-version {off}",
    ]
    assert warnings(grpc_socket="x", enable_cert_reload=True) == [
        "--enable-cert-reload has no effect: --grpc-socket is plaintext"
    ]
    assert warnings(enable_cert_reload=True) == [
        "--enable-cert-reload has no effect: neither --cert-path nor --client-ca-file is set"
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"tls_min_version": "VersionTLS13"}, "--tls-min-version: on grpcio only VersionTLS12 works"),
        ({"tls_cipher_suites": ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",)}, "--tls-cipher-suites: grpcio takes no choice"),
    ],
)
def test_what_grpcio_can_not_do_is_not_pretended(flags: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Running(**flags).tls.grpc_credentials()
    assert caught.value.problems == [problem]
