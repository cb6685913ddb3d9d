"""HTTP/1.1 by uvicorn, within bounds that it has not: headers in number and size. And with errors in the API's shape."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, cast

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from extproc.sockets.bounds import Connections

MAX_FIELDS: Final = 128
MAX_HEADER_BYTES: Final = 32 * 2**10
"""Of the request line and all fields of a request: a token of Kubernetes has about 2 KB, and may have 16."""


class ApiProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self, config: Config, state: ServerState, app: ASGIApp, connections: Callable[[], Connections], linger_s: float
    ) -> None:
        super().__init__(config, state, {})
        self.logger = _LOGGER
        self._bytes = 0
        self._half_read = False
        """Whether the client may still be sending a request."""
        self._deaf = False
        """Whether what still comes is dropped."""
        self._lingers = False
        self._let_go = False
        """Whether nobody waits for what is still made: the client is gone, or the server ends."""
        self._linger_s = linger_s
        self._inner = app
        self._served_by = connections
        self.app = self._answer

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.cycle.transport = _Lingering(self)

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            super().data_received(data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """As of the transport; nothing comes behind what was the last answer, or to a client that is gone."""
        if not self._lingers and not self.transport.is_closing():
            self.transport.write(data)

    def linger(self) -> None:
        """Close, but read for a while what the client still sends: else it would be reset before it has seen the answer."""
        if self._lingers or self.transport.is_closing():
            return
        if not self._half_read or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._lingers = self._deaf = True
        self.transport.write_eof()
        self.loop.call_later(self._linger_s, self.transport.close)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and self._half_read and self.cycle.scope is scope:
                # A proxy must not put another request behind a body that is dropped, on a connection that may hear no more.
                self.cycle.keep_alive = False
            await send(message)

        with self._served_by().answering(self):
            try:
                await self._inner(scope, receive, sending)
            except asyncio.CancelledError:
                if not self._let_go:
                    raise
            if self._let_go:
                # uvicorn's way to know it. Else it tells of an answer that was cut, with a traceback.
                cast(RequestResponseCycle, cast(Any, send).__self__).disconnected = True

    def let_go(self) -> None:
        """Cut it now, with whatever is under way."""
        self._let_go = True
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go = True
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._bytes = 0
        self._half_read = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._half_read = False
        super().on_message_complete()

    def on_url(self, url: bytes) -> None:
        self._take(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._take(len(name) + len(value))
        if len(self.headers) >= MAX_FIELDS:
            raise ValueError("too many header fields")
        super().on_header(name, value)

    def _take(self, size: int) -> None:
        self._bytes += size
        if self._bytes > MAX_HEADER_BYTES:
            raise ValueError("headers are too large")

    def send_400_response(self, msg: str) -> None:
        """What comes is no HTTP, or too much of it: nothing more is heard. What was asked before gets its answers first."""
        self._half_read = self._deaf = True
        last: RequestResponseCycle | None = self.cycle
        if last is not None and not last.response_complete:
            if not last.more_body:
                last.keep_alive = False
                return
            last.disconnected = True  # its body will not come
            last.message_event.set()
            if self.pipeline:
                return
            if last.response_started:
                self.linger()
                return
        body = orjson.dumps({"error_code": "MALFORMED_REQUEST", "message": _NO_HTTP})
        self.transport.write(_BAD_REQUEST % len(body) + body)
        self.linger()


_NO_HTTP: Final = "This is no HTTP/1.1 request, or one with too many headers"
_BAD_REQUEST: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
)


class _Lingering(asyncio.Transport):
    """The connection, as one request and its answer have it."""

    def __init__(self, protocol: ApiProtocol) -> None:
        super().__init__()
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._protocol.write(data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.linger()


def config_of(app: ASGIApp, idle_timeout_s: float) -> Config:
    """uvicorn's settings for connections that others accept."""
    quiet: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False, "proxy_headers": False}
    config = Config(
        app,
        http=HttpToolsProtocol,
        ws="none",
        loop="none",
        lifespan="off",
        interface="asgi3",
        timeout_keep_alive=max(1, round(idle_timeout_s)),
        **quiet,
    )
    config.load()
    return config


def _logger() -> logging.Logger:
    """Of uvicorn, without requests that are no HTTP: they are a client's affair."""
    logger = logging.getLogger("extproc.api.http")
    logger.filters[:] = [lambda record: record.levelno >= logging.ERROR]
    return logger


_LOGGER: Final = _logger()
