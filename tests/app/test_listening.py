"""Services by TLS and on sockets, asked by gRPC's own client."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any, Literal, TypeAlias

import grpc
import pytest
from grpc import aio

from extproc.app import build
from extproc.names import EXT_PROC_METHOD
from extproc.pb import external_processor_pb2 as pb
from extproc.settings.commands import BbrSettings
from tests.app.running import chat, headers_of, running, until
from tests.fakes.certificates import RSA, Authority, Signed

Transport: TypeAlias = Literal["h2", "grpcio"]
HERE: dict[str, Any] = {"host": "127.0.0.1", "grpc_port": 0, "grpc_health_port": 0, "metrics_port": 0, "drain_timeout": "1s"}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def replace(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.rename(path)


async def ask(target: str, credentials: grpc.ChannelCredentials | None) -> str:
    """The model that the router sets, by gRPC's own client."""
    channel = aio.insecure_channel(target) if credentials is None else aio.secure_channel(target, credentials)
    async with channel:
        call: Any = channel.stream_stream(
            EXT_PROC_METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )(iter(chat(b'{"model": "llama"}')), timeout=5)
        answers = [message async for message in call]
    return headers_of(answers[0])["x-gateway-model-name"]


async def test_a_service_with_tls(authority: Authority, tmp_path: Path, transport: Transport) -> None:
    folder = authority.issue("router").write(tmp_path / "tls")
    trust = grpc.ssl_channel_credentials(authority.pem)
    async with running(build(BbrSettings(**HERE, transport=transport, cert_path=str(folder)))) as ports:
        assert await ask(f"localhost:{ports.grpc}", trust) == "llama"
        with pytest.raises(aio.AioRpcError):
            await ask(f"localhost:{ports.grpc}", grpc.ssl_channel_credentials(Authority().pem))
        with pytest.raises(aio.AioRpcError):
            await ask(f"localhost:{ports.grpc}", None)


async def test_a_service_with_mutual_tls_that_changes(authority: Authority, tmp_path: Path, transport: Transport) -> None:
    folder = authority.issue("one", key=RSA).write(tmp_path / "tls")
    one, two = Authority("clients"), Authority("more clients")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(one.pem)
    flags: dict[str, Any] = {
        "cert_path": str(folder),
        "client_ca_file": str(ca),
        "enable_cert_reload": True,
        "transport": transport,
    }

    def client(signed: Signed, trusted: bytes = authority.pem) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(trusted, signed.key, signed.chain)

    async with running(build(BbrSettings(**HERE, **flags))) as ports:
        target = f"localhost:{ports.grpc}"

        async def works(credentials: grpc.ChannelCredentials) -> bool:
            try:
                return await ask(target, credentials) == "llama"
            except aio.AioRpcError:
                return False

        assert await works(client(one.issue("envoy")))
        assert not await works(client(two.issue("envoy")))
        assert not await works(grpc.ssl_channel_credentials(authority.pem))
        other = Authority("another")
        changed = other.issue("two")
        replace(folder / "tls.crt", changed.chain)
        replace(folder / "tls.key", changed.key)
        replace(ca, two.pem)
        known = client(two.issue("envoy"), other.pem)
        await until(lambda: works(known))
        assert not await works(client(one.issue("envoy"), other.pem))


async def test_a_service_on_a_socket(tmp_path: Path, transport: Transport) -> None:
    path = tmp_path / "grpc.sock"
    async with running(build(BbrSettings(**HERE, transport=transport, grpc_socket=str(path), grpc_socket_mode=0o600))) as ports:
        assert ports.grpc == 0
        assert path.stat().st_mode & 0o777 == 0o600
        assert await ask(f"unix:{path}", None) == "llama"
    assert not path.exists()


async def test_a_service_is_replaced(tmp_path: Path, transport: Transport) -> None:
    """The second listens while the first one still does, on all ports; or on the file."""
    flags: dict[str, Any] = {**HERE, "reuse_port": True, "secure_serving": False, "transport": transport}
    async with running(build(BbrSettings(**flags))) as first:
        same = {**flags, "grpc_port": first.grpc, "grpc_health_port": first.health, "metrics_port": first.metrics}
        async with running(build(BbrSettings(**same))) as second:
            assert second == first
            assert await ask(f"127.0.0.1:{second.grpc}", None) == "llama"
    path = tmp_path / "grpc.sock"
    old, new = (build(BbrSettings(**flags, grpc_socket=str(path))) for _ in range(2))
    async with contextlib.AsyncExitStack() as stack:
        async with running(old):
            await stack.enter_async_context(running(new))
        assert await ask(f"unix:{path}", None) == "llama"
    assert not path.exists()


async def test_alpn(authority: Authority, tmp_path: Path, transport: Transport) -> None:
    """grpcio refuses clients without ALPN, where our own transport takes them."""
    folder = authority.issue("router").write(tmp_path / "tls")
    async with running(build(BbrSettings(**HERE, transport=transport, cert_path=str(folder)))) as ports:
        for offered, served in ((["h2"], True), (["http/1.1"], False), ([], transport == "h2")):
            context = ssl.create_default_context(cadata=authority.pem.decode())
            if offered:
                context.set_alpn_protocols(offered)
            got = b""
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("localhost", ports.grpc, ssl=context)
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
                got = await reader.read(9)
                writer.transport.abort()  # grpcio need not answer a goodbye
            assert bool(got) is served
