"""A kept-alive HTTP/1.1 connection to a model server for copies: one request at a time, its answer told piece by piece.

A protocol of our own over httptools: no pool of threads, redirects, cookies, proxies or decompression, and a tenth of the time
on the event loop that a client for everything takes. It trusts nobody: what it reads is bounded in bytes, and in its share of
the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

import httptools

MAX_HEAD_BYTES: Final = 64 * 2**10
"""Of an answer's status line and headers."""
_LONG_S: Final = 0.0005
"""Reading that took longer is followed by a pause, so that a server that sends much holds up nobody."""
_PAUSE: Final = 3.0
"""Times as long."""

NO_CONNECTION: Final = "no connection"
CUT: Final = "cut"
TOO_LARGE: Final = "too large"
MALFORMED: Final = "malformed"


class AskFailed(Exception):
    """There is no whole answer; `outcome` says why in a word or two."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Sink(Protocol):
    """Who is told of an answer."""

    def head(self, status: int, headers: dict[str, bytes]) -> None: ...

    def piece(self, piece: bytes) -> None: ...


class Connection(asyncio.Protocol):
    """`ask` when nobody else does; `reusable` afterwards says whether it may be asked again."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._done: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._max_bytes = 0
        self._received = 0
        self._body_bytes = 0
        self._headers: dict[str, bytes] = {}
        self._in_body = False
        self._resuming: asyncio.TimerHandle | None = None
        self.reusable = False
        self.idle_since_s = 0.0

    async def ask(self, request: bytes, sink: Sink, max_bytes: int) -> None:
        """The whole answer goes to `sink`. Raises AskFailed; an answer's body of more than `max_bytes` is TOO_LARGE."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise AskFailed(CUT)
        self.reusable = False
        self._sink, self._max_bytes, self._received, self._body_bytes = sink, max_bytes, 0, 0
        self._headers, self._in_body = {}, False
        self._parser = httptools.HttpResponseParser(self)
        self._done = self._loop.create_future()
        transport.write(request)
        try:
            await self._done
        finally:
            self._done = self._sink = None
            if not self.reusable:
                self.abort()

    @property
    def answered(self) -> bool:
        """Something came since it was asked last."""
        return self._received > 0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """At once."""
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # -- of the transport --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of asyncio's

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done() or self._parser is None:
            self.abort()  # nobody asked
            return
        began_s = self._clock()
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(MALFORMED)
            return
        if not self._in_body and self._received > MAX_HEAD_BYTES:
            self._fail(MALFORMED)
        elif self._received > self._max_bytes * 2 + MAX_HEAD_BYTES:
            self._fail(TOO_LARGE)  # most of it is no body: chunks of a byte, extensions, trailers
        else:
            self._breathe(self._clock() - began_s)

    def eof_received(self) -> None:
        """The transport closes by itself."""

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._done is None or self._done.done():
            return
        until_close = self._in_body and "content-length" not in self._headers and "transfer-encoding" not in self._headers
        if until_close and error is None:
            self._done.set_result(None)
        else:
            self._fail(CUT)

    def _breathe(self, took_s: float) -> None:
        transport = self._transport
        if took_s > _LONG_S and transport is not None and not transport.is_closing() and self._resuming is None:
            transport.pause_reading()
            self._resuming = self._loop.call_later(took_s * _PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._resuming = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- of the parser -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._in_body:
            self.reusable = False  # a second answer, to what nobody asked

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status >= 200 and self._sink is not None and not self._in_body:
            self._in_body = True
            self._sink.head(status, self._headers)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._max_bytes:
            self._fail(TOO_LARGE)
        elif self._sink is not None and self._done is not None and not self._done.done():
            self._sink.piece(body)

    def on_message_complete(self) -> None:
        if not self._in_body:
            self._headers = {}  # of a 1xx: the answer is still to come
            return
        assert self._parser is not None
        if self._done is not None and not self._done.done():
            self.reusable = self._parser.should_keep_alive()
            self._done.set_result(None)

    def _fail(self, outcome: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(AskFailed(outcome))
        self.abort()
