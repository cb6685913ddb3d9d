"""TLS and clients' certificates on the metrics port."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest

from extproc.app import build
from extproc.app.metrics_tls import MetricsTls
from extproc.app.watching import FileErrors
from extproc.files import watch
from extproc.observability.instruments import Instruments
from extproc.settings.base import SettingsError
from extproc.settings.commands import BbrSettings
from tests.app.running import running, until
from tests.fakes.certificates import Authority, Signed, common_name

HERE: dict[str, Any] = {
    "host": "127.0.0.1",
    "grpc_port": 0,
    "grpc_health_port": 0,
    "metrics_port": 0,
    "drain_timeout": "1s",
    "secure_serving": False,
}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than by default."""
    defaults = dict(watch.FileWatcher.__init__.__kwdefaults__ or {})
    monkeypatch.setattr(watch.FileWatcher.__init__, "__kwdefaults__", {**defaults, "interval_s": 0.01, "settle_s": 0.01})
    monkeypatch.setattr("extproc.sockets.served._SETTLE_S", 0.02)


def client(authority: Authority, own: Signed | None = None, folder: Path | None = None) -> ssl.SSLContext:
    context = authority.client(own, folder)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def get(port: int, context: ssl.SSLContext) -> tuple[int, str]:
    """The status, and the common name of the server's certificate."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        tls = writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "http/1.1"
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        line = await reader.readline()
        return int(line.split()[1]), common_name(tls.getpeercert(binary_form=True))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_tls_and_a_new_certificate(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue("one").write(tmp_path / "certificates")
    service = build(BbrSettings(**HERE, metrics_cert_dir=str(folder)))
    async with running(service) as ports:
        assert await get(ports.metrics, client(authority)) == (200, "one")
        authority.issue("two").write(folder)

        async def changed() -> bool:
            return (await get(ports.metrics, client(authority)))[1] == "two"

        await until(changed)


async def test_scrapers_must_have_a_certificate(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue("one").write(tmp_path / "certificates")
    file = tmp_path / "ca.crt"
    file.write_bytes(authority.pem)
    service = build(BbrSettings(**HERE, metrics_cert_dir=str(folder), metrics_client_ca_file=str(file)))
    async with running(service) as ports:
        own = client(authority, authority.issue("scraper"), tmp_path / "client")
        assert (await get(ports.metrics, own))[0] == 200
        with pytest.raises((OSError, IndexError)):
            await get(ports.metrics, client(authority))


def test_what_is_wrong_is_said_before_anything_listens(tmp_path: Path) -> None:
    instruments = Instruments()
    with pytest.raises(SettingsError) as caught:
        MetricsTls(str(tmp_path), str(tmp_path / "ca"), FileErrors(instruments))
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "--metrics-cert-dir",
        "--metrics-cert-dir",
        "--metrics-client-ca-file",
    ]


def test_a_pair_that_is_none(authority: Authority, tmp_path: Path) -> None:
    Signed(authority.issue("one").chain, authority.issue("two").key).write(tmp_path)
    with pytest.raises(SettingsError, match=r"--metrics-cert-dir: .*the key does not belong to the certificate"):
        MetricsTls(str(tmp_path), None, FileErrors(Instruments()))


def test_authorities_need_a_certificate() -> None:
    with pytest.raises(ValueError, match="--metrics-client-ca-file: no scraper can be verified without --metrics-cert-dir"):
        BbrSettings(**HERE, metrics_client_ca_file="x")
