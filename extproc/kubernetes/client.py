"""Requests to the API server: JSON in, JSON out, and watches."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp
import orjson

from extproc.kubernetes.api import DEFAULT_SILENCE_S, Api, Json
from extproc.kubernetes.credentials import Credentials, load_credentials
from extproc.kubernetes.errors import ApiError, ApiUnreachable, KubeConfigError

MAX_EVENT_BYTES: Final = 16 * 2**20
"""Of one event of a watch. etcd takes objects of 1.5 MiB."""
_RELOAD_AT_MOST_EVERY_S: Final = 10.0
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))
"""So that a server whose machine is gone is noticed in 30 s, although a watch never sends."""


class KubeClient(Api):
    """One per process: its connections are shared by everything that asks. Usable between `open` and `close`.

    Credentials that are refused (401) or do not match the server's certificate any more are read again, so that a rotated
    token, client certificate or CA needs no restart.
    """

    def __init__(self, load: Callable[[], Awaitable[Credentials]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._open: tuple[Credentials, aiohttp.ClientSession] | None = None
        self._loaded_at_s = 0.0

    def __repr__(self) -> str:
        return f"<KubeClient {self._open[0] if self._open else 'not open'}>"

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> KubeClient:
        """One that is open. Raises KubeConfigError with one clear line."""
        client = cls(lambda: load_credentials(kubeconfig))
        await client.open()
        return client

    async def open(self) -> None:
        """Read the credentials, once; ask nothing yet. Raises KubeConfigError with one clear line."""
        if self._open is None:
            credentials = await self._load()
            self._loaded_at_s = self._clock()
            self._open = (credentials, _session(credentials))

    @property
    def namespace(self) -> str:
        """Of the service account or the context, else "default". Only while it is open."""
        assert self._open is not None, "open comes first"
        return self._open[0].namespace

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = {},
        body: object = None,
        content_type: str = "application/json",
        timeout_s: float = 10.0,
    ) -> Any:
        headers = {"content-type": content_type} if body is not None else {}
        data = None if body is None else orjson.dumps(body)
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            response = await self._send(method, path, query, headers, data, timeout)
            async with response:
                return _decoded(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiUnreachable(_why(error, timeout_s)) from error

    async def watch(self, path: str, query: Mapping[str, str], *, silence_s: float = DEFAULT_SILENCE_S) -> AsyncIterator[Json]:
        """As `watch_batches`, event by event."""
        async for batch in self.watch_batches(path, query, silence_s=silence_s):
            for event in batch:
                yield event

    async def watch_batches(
        self, path: str, query: Mapping[str, str], *, silence_s: float = DEFAULT_SILENCE_S
    ) -> AsyncIterator[list[Json]]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=silence_s)
        try:
            response = await self._send("GET", path, {**query, "watch": "1"}, {}, None, timeout)
            async with response:
                yield []
                rest = b""
                async for data in response.content.iter_any():
                    lines = (rest + data).split(b"\n")
                    rest = lines.pop()
                    if len(rest) > MAX_EVENT_BYTES:
                        raise ApiUnreachable(f"an event of more than {MAX_EVENT_BYTES} bytes")
                    if batch := [_event(line) for line in lines if line.strip()]:
                        yield batch
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiUnreachable(_why(error, silence_s)) from error

    async def close(self) -> None:
        held, self._open = self._open, None
        if held is not None:
            await held[1].close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        data: bytes | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """A response with a status below 400."""
        for attempt in (1, 2):
            try:
                response = await self._send_once(method, path, query, headers, data, timeout)
            except aiohttp.ClientConnectorCertificateError:
                if attempt == 1 and await self._reload():
                    continue
                raise
            if response.status < 400:
                return response
            async with response:
                error = _api_error(response.status, response.reason or "", await response.read())
            if response.status != 401 or attempt == 2 or not await self._reload():
                raise error
        raise AssertionError("unreachable")

    async def _send_once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        data: bytes | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        if self._open is None:
            raise ApiUnreachable("not connected")
        credentials, session = self._open
        sent = {"accept": "application/json", **headers}
        try:
            authorization = await credentials.authorization()
        except Exception as error:  # an exec plugin may fail in any way
            raise ApiUnreachable(f"no token from {credentials.source}: {' '.join(str(error).split())}") from error
        if authorization:
            sent["authorization"] = authorization
        return await session.request(
            method,
            credentials.host + path,
            params=query,
            headers=sent,
            data=data,
            timeout=timeout,
            proxy=credentials.proxy,
            server_hostname=credentials.server_hostname,
            allow_redirects=False,
        )

    async def _reload(self) -> bool:
        """Read the credentials again; False when that was just done or can't be."""
        now_s = self._clock()
        if now_s - self._loaded_at_s < _RELOAD_AT_MOST_EVERY_S:
            return False
        self._loaded_at_s = now_s
        try:
            credentials = await self._load()
            session = _session(credentials)
        except KubeConfigError:
            return False
        old, self._open = self._open, (credentials, session)
        if old is None:  # closed meanwhile
            await self.close()
            return False
        await old[1].close()  # its watches break and are begun again
        return True


def _session(credentials: Credentials) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, ssl=credentials.tls(), socket_factory=_socket)
    return aiohttp.ClientSession(connector=connector, trust_env=True, read_bufsize=2**20)


def _socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    if family in (socket.AF_INET, socket.AF_INET6):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if (option := getattr(socket, name, None)) is not None:  # not every system has all of them
                made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _decoded(data: bytes) -> Any:
    try:
        return orjson.loads(data) if data else None
    except orjson.JSONDecodeError:
        raise ApiUnreachable(f"an answer that is not JSON ({len(data)} bytes)") from None


def _event(line: bytes) -> Json:
    event = _decoded(line)
    if not isinstance(event, dict):
        raise ApiUnreachable("an event of a watch that is not an object")
    return event


def _api_error(status: int, phrase: str, data: bytes) -> ApiError:
    """From a `Status` object; proxies in front of the API server answer with anything."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        return ApiError(status, phrase or str(status), data[:200].decode(errors="replace").strip())
    return ApiError(status, str(body.get("reason") or phrase or status), str(body.get("message") or ""))


def _why(error: BaseException, seconds: float) -> str:
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return f"no answer in {seconds:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno  # the loops word it differently
        return os.strerror(number).lower() if number and number > 0 else str(error.os_error)
    return " ".join(str(error).split()) or type(error).__name__
