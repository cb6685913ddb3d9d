"""Accepting on real sockets, on both loops: what is on its way when a listener is closed still arrives."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest

from extproc.sockets import accept
from extproc.sockets.accept import Acceptor, Crowd
from extproc.sockets.listen import Address, Tcp, Unix, listen
from tests.fakes.certificates import Authority, trusting


class Greeter(asyncio.Protocol):
    """Says hi, and ends."""

    def __init__(self, made: list[asyncio.Transport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast(asyncio.Transport, transport)
        self._made.append(made)
        made.write(b"hi")
        made.close()


class Fixture:
    """An acceptor, whom it let in, and how often nobody was on the way any more."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None, crowd: Crowd | None = None) -> None:
        listener = listen(address, "test", wait=True)
        self.made: list[asyncio.Transport] = []
        self.settled = 0
        self.acceptor = Acceptor(
            listener,
            lambda: Greeter(self.made),
            tls,
            shutdown_timeout_s=1.0,
            settled=lambda: setattr(self, "settled", self.settled + 1),
            crowd=crowd,
        )
        self.where: Any = ("127.0.0.1", listener.port) if isinstance(address, Tcp) else address.path

    def connect(self) -> socket.socket:
        """Without the loop: the kernel alone says yes."""
        family = socket.AF_UNIX if isinstance(self.where, str) else socket.AF_INET
        client = socket.socket(family, socket.SOCK_STREAM)
        try:
            client.connect(self.where)
        except OSError:
            client.close()
            raise
        client.setblocking(False)
        return client

    async def until_settled(self) -> None:
        async with asyncio.timeout(5):
            while self.acceptor.arriving:  # noqa: ASYNC110
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def accepting(address: Address, tls: ssl.SSLContext | None = None, crowd: Crowd | None = None) -> AsyncIterator[Fixture]:
    fixture = Fixture(address, tls, crowd)
    fixture.acceptor.open()
    try:
        yield fixture
    finally:
        fixture.acceptor.close()
        fixture.acceptor.abort()
        await fixture.until_settled()


async def heard(client: socket.socket) -> bytes:
    """Everything until the end; raises ConnectionResetError when nobody wanted us."""
    out = b""
    with client:
        async with asyncio.timeout(5):
            while piece := await asyncio.get_running_loop().sock_recv(client, 100):
                out += piece
    return out


@pytest.fixture(params=["tcp", "unix"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    return Tcp("127.0.0.1", 0) if request.param == "tcp" else Unix(str(tmp_path / "s"))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server_tls(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    folder = authority.issue().write(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


async def test_who_waits_is_taken_before_the_end(address: Address) -> None:
    """More than one look at the socket would take."""
    async with accepting(address) as fixture:
        clients = [fixture.connect() for _ in range(50)]
        fixture.acceptor.close()
        with pytest.raises(OSError):
            fixture.connect()
        assert [await heard(client) for client in clients] == [b"hi"] * 50
        assert fixture.settled


async def test_who_is_shaking_hands_may_finish(server_tls: ssl.SSLContext) -> None:
    async with accepting(Tcp("127.0.0.1", 0), server_tls) as fixture:
        client = fixture.connect()
        fixture.acceptor.close()
        assert fixture.acceptor.arriving == 1
        assert fixture.settled == 0
        reader, writer = await asyncio.open_connection(sock=client, ssl=trusting(), server_hostname="x")
        assert await reader.read() == b"hi"
        await fixture.until_settled()
        assert fixture.settled == 1
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_who_never_says_anything_is_given_up(server_tls: ssl.SSLContext) -> None:
    async with accepting(Tcp("127.0.0.1", 0), server_tls) as fixture:
        client = fixture.connect()
        fixture.acceptor.close()
        await asyncio.sleep(0)
        fixture.acceptor.abort()
        await fixture.until_settled()
        with contextlib.suppress(ConnectionResetError):
            assert await heard(client) == b""
        assert fixture.made == []


class Here(list[str]):
    """So many are here, of whom those may be sent away that have been for longer than who is on the way."""

    def __init__(self, most: int, *there: str, since_s: float | None = None) -> None:
        super().__init__(there)
        self.most = most
        self._since_s = since_s

    def make_room(self, arriving_since_s: float | None = None) -> bool:
        if not self or self._since_s is None or (arriving_since_s is not None and self._since_s > arriving_since_s):
            return False
        del self[0]
        return True


async def test_handshakes_are_bounded(server_tls: ssl.SSLContext) -> None:
    """The oldest goes, whether anything has begun with it or not."""
    before = files()
    async with accepting(Tcp("127.0.0.1", 0), server_tls, Here(3, "one")) as fixture:
        clients = [fixture.connect() for _ in range(10)]  # the loop sees all at once
        for client in clients[:4]:
            with contextlib.suppress(ConnectionResetError):
                assert await heard(client) == b""
        clients.append(fixture.connect())
        for client in clients[4:9]:
            with contextlib.suppress(ConnectionResetError):
                assert await heard(client) == b""
        assert fixture.acceptor.arriving == 2
        reader, writer = await asyncio.open_connection(sock=clients[-1], ssl=trusting(), server_hostname="x")
        assert await reader.read() == b"hi"
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        clients[9].close()
    async with asyncio.timeout(5):
        while files() > before + 5:  # noqa: ASYNC110  # a loop keeps some of its own
            await asyncio.sleep(0)


@pytest.mark.parametrize(("since_s", "goes"), [(0.0, "who is here"), (float("inf"), "who arrives")])
async def test_whoever_has_said_nothing_for_longer_goes_first(server_tls: ssl.SSLContext, since_s: float, goes: str) -> None:
    here = Here(2, "one", since_s=since_s)
    async with accepting(Tcp("127.0.0.1", 0), server_tls, here) as fixture:
        first, second = fixture.connect(), fixture.connect()
        async with asyncio.timeout(5):
            while fixture.acceptor.arriving != (2 if goes == "who is here" else 1):  # noqa: ASYNC110
                await asyncio.sleep(0)
        if goes == "who arrives":
            with contextlib.suppress(ConnectionResetError):
                assert await heard(first) == b""
        assert len(here) == (0 if goes == "who is here" else 1)
        first.close()
        second.close()


async def test_who_finds_no_place_is_refused(address: Address) -> None:
    async with accepting(address, None, Here(1, "one")) as fixture:
        with contextlib.suppress(ConnectionResetError):
            assert await heard(fixture.connect()) == b""
        assert fixture.made == []


async def test_a_failed_handshake_leaves_nothing(server_tls: ssl.SSLContext) -> None:
    async with accepting(Tcp("127.0.0.1", 0), server_tls) as fixture:
        before = 0
        for first in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03"):
            client = fixture.connect()
            client.send(first)
            client.close()
            async with asyncio.timeout(5):
                while not fixture.settled:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                fixture.settled = 0
                before = before or files()  # a loop keeps some of its own from the first one on
                while files() > before:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        assert fixture.made == []


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_without_files_connections_wait(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "_PAUSE_S", 0.01)
    async with accepting(address) as fixture:
        (sock,) = fixture.acceptor._reading
        full = mock.Mock(wraps=sock)
        full.accept.side_effect = [OSError(errno.EMFILE, "too many")] * 3 + [OSError(errno.ECONNABORTED, "gone"), sock.accept]
        looks: list[bool] = []

        def take(original: Any = fixture.acceptor._take) -> bool:
            looks.append(bool(original(full if len(looks) < 3 else sock)))
            return looks[-1]

        monkeypatch.setattr(fixture.acceptor, "_take", lambda _: take())
        assert await heard(fixture.connect()) == b"hi"
        assert looks[:4] == [False, False, False, True]


async def test_it_waits_with_letting_in(address: Address) -> None:
    fixture = Fixture(address, None)
    with pytest.raises(OSError):
        fixture.connect()
    fixture.acceptor.open()
    assert await heard(fixture.connect()) == b"hi"
    fixture.acceptor.close()
    fixture.acceptor.close()
    await fixture.until_settled()


async def test_closed_before_it_was_open(address: Address) -> None:
    fixture = Fixture(address, None)
    fixture.acceptor.close()
    with pytest.raises(OSError):
        fixture.connect()
