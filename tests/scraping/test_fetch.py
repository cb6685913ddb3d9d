from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import itertools
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from extproc.domain import Endpoint
from extproc.scraping.fetch import FetchError, HttpFetcher, Reason, tls_context
from extproc.scraping.reasons import classify
from extproc.settings.base import SettingsError
from extproc.settings.engines import MetricsSourceSettings

from .servers import Answer, reply, serving

PAGE = b"vllm:num_requests_waiting 3\n"
CERTIFICATE = Path(__file__).parent / "data" / "localhost.pem"


def fetcher(*, max_page_bytes: int = 100_000, settings: MetricsSourceSettings | None = None) -> HttpFetcher:
    return HttpFetcher(settings or MetricsSourceSettings(), max_page_bytes=max_page_bytes)


class Ask:
    """A line to an endpoint, to be awaited: `page` is the next page, or raises FetchError."""

    def __init__(self, client: HttpFetcher, endpoint: Endpoint, timeout_s: float = 2.0) -> None:
        self.spent_s = 0.0
        self.line = client.line(endpoint, self, self._spent)
        self._timeout_s = timeout_s
        self._answer: asyncio.Future[bytes] | None = None
        self.reaches = 0

    async def __call__(self) -> bytes:
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        timer = loop.call_later(self._timeout_s, self.line.expire)
        self.line.ask()
        try:
            return await self._answer
        finally:
            timer.cancel()

    def reached(self) -> None:
        self.reaches += 1

    def page(self, data: bytes) -> None:
        assert self._answer is not None
        self._answer.set_result(data)

    def no_page(self, error: FetchError) -> None:
        assert self._answer is not None
        self._answer.set_exception(error)

    def _spent(self, cpu_s: float) -> None:
        self.spent_s += cpu_s


@contextlib.contextmanager
def asking(client: HttpFetcher, endpoint: Endpoint, timeout_s: float = 2.0) -> Iterator[Ask]:
    ask = Ask(client, endpoint, timeout_s)
    try:
        yield ask
    finally:
        ask.line.close()


async def fetch(answer: Answer | bytes, *, timeout_s: float = 2.0, max_page_bytes: int = 100_000) -> bytes:
    async with serving(answer) as server:
        with asking(fetcher(max_page_bytes=max_page_bytes), server.endpoint, timeout_s) as ask:
            return await ask()


async def failure(answer: Answer | bytes, *, timeout_s: float = 2.0, max_page_bytes: int = 100_000) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetch(answer, timeout_s=timeout_s, max_page_bytes=max_page_bytes)
    return caught.value


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the client goes."""
    await reader.read()
    writer.close()


async def test_a_page() -> None:
    assert await fetch(reply(PAGE)) == PAGE


async def test_what_is_asked() -> None:
    async with serving(reply(PAGE)) as server:
        endpoint = server.endpoint
        with asking(fetcher(), endpoint) as ask:
            await ask()
        (head,) = server.heads

    lines = head.lower().split("\r\n")
    assert lines[0] == "get /metrics http/1.1"
    assert "accept-encoding: identity" in lines
    assert f"host: {endpoint.key}" in lines
    assert not any(line.startswith("cookie:") for line in lines)


async def test_one_connection_for_many_pages_and_no_cookies() -> None:
    async with serving(reply(PAGE, "set-cookie: a=b")) as server, AsyncExitStack() as stack:
        ask = stack.enter_context(asking(fetcher(), server.endpoint))
        for _ in range(5):
            assert await ask() == PAGE

        assert (server.connections, len(server.heads)) == (1, 5)
        assert "cookie" not in server.heads[-1].lower()


async def test_a_connection_that_the_server_closed_between_pages() -> None:
    async def once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(PAGE))
        writer.close()

    async with serving(once) as server, AsyncExitStack() as stack:
        ask = stack.enter_context(asking(fetcher(), server.endpoint))
        for _ in range(3):
            assert await ask() == PAGE

        assert server.connections == 3


async def test_chunks() -> None:
    body = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nvllm:\r\n3\r\nm 1\r\n0\r\n\r\n"

    assert await fetch(body) == b"vllm:m 1"


async def test_a_page_that_ends_with_the_connection() -> None:
    async def until_closed(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + PAGE)
        writer.close()

    assert await fetch(until_closed) == PAGE


async def test_a_page_as_large_as_allowed() -> None:
    assert await fetch(reply(b"x" * 100_000)) == b"x" * 100_000


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        (reply(b"oops", status="500 Internal Server Error"), Reason.HTTP_STATUS, "status 500"),
        (reply(b"", status="204 No Content"), Reason.HTTP_STATUS, "status 204"),
        (reply(b"", "location: /elsewhere", status="302 Found"), Reason.HTTP_STATUS, "status 302"),
        (reply(gzip.compress(PAGE), "content-encoding: gzip"), Reason.ENCODED, "content-encoding 'gzip'"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Reason.NOT_HTTP, ""),
        (b"\x15\x03\x01\x00\x02\x02\x16", Reason.NOT_HTTP, ""),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", Reason.NOT_HTTP, ""),
        (reply(b"", length=100_001), Reason.TOO_LARGE, "100001 bytes, more than 100000"),
    ],
    ids=itertools.count(),
)
async def test_answers_that_are_no_page(answer: bytes, reason: Reason, detail: str) -> None:
    error = await failure(answer)

    assert error.reason is reason
    assert detail in error.detail
    assert not reason.down


async def test_a_redirect_is_not_followed() -> None:
    async with serving(reply(b"", "location: /elsewhere", status="302 Found")) as server:
        with asking(fetcher(), server.endpoint) as ask, pytest.raises(FetchError):
            await ask()

        assert len(server.heads) == 1


async def test_a_flood_is_cut_off() -> None:
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _chunk in range(1600):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536

    error = await failure(flood)

    assert error.reason is Reason.TOO_LARGE
    assert sent < 32 * 2**20  # of 100 MiB; most of it is in the sockets' buffers


async def test_a_server_that_hangs() -> None:
    error = await failure(hang, timeout_s=0.05)

    assert error.reason is Reason.TIMEOUT


async def test_a_page_that_drips() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + PAGE)
        await hang(reader, writer)

    error = await failure(drip, timeout_s=0.05)

    assert error.reason is Reason.TIMEOUT


async def test_a_connection_closed_without_an_answer() -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    error = await failure(close)

    assert error.reason is Reason.CLOSED
    assert error.reason.down


async def test_a_connection_closed_in_the_middle_of_the_page() -> None:
    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(PAGE, length=1000))
        writer.close()

    error = await failure(half)

    assert error.reason is Reason.TRUNCATED
    assert not error.reason.down


async def test_a_connection_that_is_reset() -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    error = await failure(reset)

    assert error.reason is Reason.RESET
    assert error.reason.down


async def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = Endpoint("127.0.0.1", unused.getsockname()[1])
        with asking(fetcher(), nobody) as ask, pytest.raises(FetchError) as caught:
            await ask()

    assert caught.value.reason is Reason.REFUSED
    assert caught.value.reason.down


async def test_a_line_that_is_closed_lets_go_of_its_connection_and_says_nothing() -> None:
    async with serving(hang) as server:
        ask = Ask(fetcher(), server.endpoint)
        task = asyncio.create_task(ask())
        await server.until(lambda: len(server.heads) == 1)
        ask.line.close()

        await server.until(lambda: server.open == 0)
        assert not task.done()
        task.cancel()


async def test_no_answer_to_the_connection_is_down() -> None:
    with socket.socket() as full:  # nobody accepts, and there is no room for one more
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        endpoint = Endpoint("127.0.0.1", full.getsockname()[1])
        others = [socket.socket() for _ in range(2)]
        try:
            for other in others:
                other.setblocking(False)
                other.connect_ex((endpoint.address, endpoint.port))
            with asking(fetcher(), endpoint, timeout_s=0.05) as ask, pytest.raises(FetchError) as caught:
                await ask()
        finally:
            for other in others:
                other.close()

    assert caught.value.reason is Reason.CONNECT_TIMEOUT
    assert caught.value.reason.down


async def test_answers_between_two_questions_cost_the_connection() -> None:
    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(PAGE) + reply(b"more"))

    async with serving(twice) as server, AsyncExitStack() as stack:
        ask = stack.enter_context(asking(fetcher(), server.endpoint))
        assert [await ask(), await ask()] == [PAGE, PAGE]
        assert server.connections == 2


async def test_a_page_larger_than_the_socket_takes_at_once() -> None:
    page = b"# " + b"x" * 3_000_000 + b"\n" + PAGE
    async with serving(reply(page)) as server:
        with asking(fetcher(max_page_bytes=4_000_000), server.endpoint) as ask:
            assert await ask() == page
            assert ask.spent_s > 0.0


@pytest.mark.parametrize(
    ("values", "endpoint", "url"),
    [
        ({}, Endpoint("10.0.0.1", 8000), "http://10.0.0.1:8000/metrics"),
        ({"port": 9400}, Endpoint("10.0.0.1", 8000), "http://10.0.0.1:9400/metrics"),
        ({"port": 9400}, Endpoint("10.0.0.1", 8000, metrics_port=9500), "http://10.0.0.1:9500/metrics"),
        ({"path": "/a/b?c=d"}, Endpoint("10.0.0.1", 8000), "http://10.0.0.1:8000/a/b?c=d"),
        ({"scheme": "https"}, Endpoint("fd00::1", 8000), "https://[fd00::1]:8000/metrics"),
    ],
)
def test_where_pages_are(values: dict[str, object], endpoint: Endpoint, url: str) -> None:
    target = fetcher(settings=MetricsSourceSettings.model_validate(values)).target(endpoint)
    first, host = target.request.decode().split("\r\n")[:2]

    scheme = "http" if target.context is None else "https"
    assert f"{scheme}://{host.removeprefix('Host: ')}{first.split(' ')[1]}" == url
    assert f"{endpoint.address}:{target.port}" == host.removeprefix("Host: ").replace("[", "").replace("]", "")


@pytest.mark.parametrize(
    ("error", "connecting", "reason"),
    [
        (TimeoutError(), True, Reason.CONNECT_TIMEOUT),
        (TimeoutError(), False, Reason.TIMEOUT),
        (ConnectionRefusedError(errno.ECONNREFUSED, "no"), True, Reason.REFUSED),
        (OSError(errno.EHOSTUNREACH, "no"), True, Reason.UNREACHABLE),
        (OSError(errno.ENETUNREACH, "no"), True, Reason.UNREACHABLE),
        (OSError(errno.ETIMEDOUT, "no"), True, Reason.CONNECT_TIMEOUT),
        (ConnectionResetError(errno.ECONNRESET, "no"), True, Reason.RESET),
        (OSError(errno.EMFILE, "no"), True, Reason.INTERNAL),
        (OSError(errno.EADDRNOTAVAIL, "no"), True, Reason.INTERNAL),
        (ConnectionResetError(errno.ECONNRESET, "no"), False, Reason.RESET),
        (BrokenPipeError(errno.EPIPE, "no"), False, Reason.RESET),
        (ssl.SSLError(), True, Reason.TLS),
        (ssl.SSLCertVerificationError(), True, Reason.TLS),
        (ValueError(), False, Reason.INTERNAL),
    ],
    ids=repr,
)
def test_classes_of_errors(error: Exception, connecting: bool, reason: Reason) -> None:
    assert classify(error, connecting=connecting) is reason


def test_which_reasons_mean_down_and_which_are_costly() -> None:
    assert {reason.value for reason in Reason if reason.down} == {
        "refused",
        "reset",
        "closed",
        "unreachable",
        "connect_timeout",
    }
    assert {reason.value for reason in Reason if reason.costly} == {
        "connect_timeout",
        "timeout",
        "tls",
        "too_large",
        "internal",
    }


class TestTls:
    """The certificate in data/ is for localhost and 127.0.0.1, signed by itself."""

    @staticmethod
    async def fetch(**values: object) -> bytes:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE)
        closed = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(reply(PAGE))
                await reader.readuntil(b"\r\n\r\n")
                writer.write(reply(PAGE))
                await reader.read()
                writer.close()
            finally:
                closed.set()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        settings = MetricsSourceSettings.model_validate({"scheme": "https", **values})
        try:
            with asking(fetcher(settings=settings), Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])) as ask:
                page = await ask()
                assert await ask() == page  # on the same connection
            async with asyncio.timeout(5):
                await closed.wait()
            return page
        finally:
            server.close()

    async def test_any_certificate(self) -> None:
        assert await self.fetch() == PAGE

    async def test_a_certificate_of_a_known_authority(self) -> None:
        assert await self.fetch(caCertPath=str(CERTIFICATE)) == PAGE

    async def test_a_certificate_of_nobody_known(self) -> None:
        with pytest.raises(FetchError) as caught:
            await self.fetch(insecureSkipVerify=False)

        assert caught.value.reason is Reason.TLS
        assert not caught.value.reason.down

    async def test_no_tls_there(self) -> None:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(reply(b"", status="400 Bad Request"))
            await reader.read()
            writer.close()

        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        settings = MetricsSourceSettings.model_validate({"scheme": "https"})
        endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            with asking(fetcher(settings=settings), endpoint) as ask, pytest.raises(FetchError) as caught:
                await ask()
        finally:
            server.close()

        assert caught.value.reason is Reason.TLS

    def test_certificates_need_no_more_than_other_clients_ask_for(self) -> None:
        """Python 3.13 refuses private authorities without an Authority Key Identifier, unless told otherwise."""
        context = tls_context(MetricsSourceSettings.model_validate({"scheme": "https", "insecureSkipVerify": False}))
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert not context.verify_flags & ssl.VERIFY_X509_STRICT

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty.pem"
        empty.write_text("")
        settings = MetricsSourceSettings.model_validate(
            {"scheme": "https", "caCertPath": str(empty), "clientCertPath": str(empty), "clientKeyPath": str(empty)}
        )

        with pytest.raises(SettingsError) as caught:
            tls_context(settings)

        first, second = caught.value.problems
        assert first.startswith("caCertPath: expected a PEM file of certificates: ")
        assert second.startswith("clientCertPath, clientKeyPath: expected a PEM certificate and its key: ")

    def test_what_is_no_file_is_not_waited_for(self) -> None:
        settings = MetricsSourceSettings.model_validate(
            {"scheme": "https", "caCertPath": "/nowhere/ca.pem", "clientCertPath": "/dev/zero", "clientKeyPath": "/"}
        )

        with pytest.raises(SettingsError) as caught:
            tls_context(settings)

        assert caught.value.problems == [
            "caCertPath: /nowhere/ca.pem: No such file or directory",
            "clientCertPath: /dev/zero: expected a regular file, this is a device",
            "clientKeyPath: /: expected a regular file, this is a directory",
        ]
