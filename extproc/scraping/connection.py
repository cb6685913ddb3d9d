"""A kept-alive HTTP/1.1 connection that asks for one page again and again.

A socket of our own on the event loop's selector, without transports, streams or tasks: no pool, no redirects, no cookies, one
request at a time. So an attempt that is refused costs 20 µs, where `create_connection` needs ten times that, and all work on
a page happens in calls of ours, which `spent` is told the cost of.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from time import thread_time
from typing import Final, NamedTuple, Protocol

from extproc.scraping.answer import AnswerReader
from extproc.scraping.reasons import FetchError, Reason, classify, detail_of

_BUFFER: Final = bytearray(256 * 1024)
"""What was received, for as long as it takes to copy it: one for all connections of the process."""
_VIEW: Final = memoryview(_BUFFER)
_UNDER_WAY: Final = (errno.EINPROGRESS, errno.EAGAIN)


_open = 0


def open_sockets() -> int:
    """Sockets of this process that pages are asked on now."""
    return _open


class Listener(Protocol):
    """Who asked. Hears `page` or `no_page` once for each question, maybe before `ask` returns, unless it closes first."""

    def reached(self) -> None:
        """For a question on a new connection: it is made, so that what is still waited for is the endpoint's own time."""
        ...

    def page(self, data: bytes) -> None: ...

    def no_page(self, error: FetchError) -> None: ...


class Target(NamedTuple):
    """Where a page is, and how it is asked for."""

    host: str
    """An IP address: names are not resolved here."""
    port: int
    request: bytes
    context: ssl.SSLContext | None
    max_page_bytes: int


class PageConnection:
    """Connects when it is asked first, and again when the server has closed. One user: `Listener`."""

    __slots__ = (
        "_begin_s",
        "_fd",
        "_fresh",
        "_listener",
        "_loop",
        "_out",
        "_reader",
        "_socket",
        "_spent",
        "_target",
        "_tls",
        "asking",
        "connected",
        "writing",
    )

    def __init__(self, target: Target, listener: Listener, spent: Callable[[float], None]) -> None:
        self._target = target
        self._listener = listener
        self._spent = spent
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: socket.socket | None = None
        self._fd = -1
        self._reader: AnswerReader | None = None
        self._tls: _Tls | None = None
        self._out = b""
        self._fresh = False
        """Nothing was answered on this connection yet."""
        self._begin_s = 0.0
        self.asking = False
        self.connected = False
        """With TLS: its handshake is done."""
        self.writing = False

    def __repr__(self) -> str:
        state = "asking" if self.asking else "idle" if self.connected else "closed"
        return f"<PageConnection {self._target.host}:{self._target.port} {state}>"

    def ask(self) -> None:
        """Ask for the page. One question at a time."""
        assert not self.asking
        self._begin_s = thread_time()
        self.asking = True
        if self.connected:
            self._question()
        else:
            self._connect()
        self._spent(thread_time() - self._begin_s)

    def expire(self) -> None:
        """The time for an answer is over."""
        if self.connected:
            self._fail(FetchError(Reason.TIMEOUT, "the page was not complete in time"))
        else:
            self._fail(FetchError(Reason.CONNECT_TIMEOUT, "no connection in time"))

    def close(self) -> None:
        """At once; whoever asked hears nothing."""
        self.asking = False
        self.connected = False
        sock = self._socket
        if sock is None:
            return
        loop = self._loop
        assert loop is not None
        loop.remove_reader(self._fd)
        if self.writing:
            loop.remove_writer(self._fd)
            self.writing = False
        self._socket = self._reader = self._tls = None
        self._out = b""
        sock.close()
        _count(-1)

    # -- connecting --------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        target = self._target
        loop = self._loop = self._loop or asyncio.get_running_loop()
        try:
            family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
            sock = self._socket = socket.socket(family, socket.SOCK_STREAM)
            _count(1)
            sock.setblocking(False)
            self._fd = sock.fileno()
            code = sock.connect_ex((target.host, target.port))
        except (OSError, ValueError) as error:
            self._fail(FetchError(classify(error, connecting=True), detail_of(error)))
            return
        if code in _UNDER_WAY:
            loop.add_writer(self._fd, self._connecting)
            self.writing = True
        elif code:
            self._not_connected(code)
        else:
            self._connection_made()

    def _connecting(self) -> None:
        begin_s = thread_time()
        assert self._socket is not None
        assert self._loop is not None
        self._loop.remove_writer(self._fd)
        self.writing = False
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._not_connected(code)
        else:
            self._connection_made()
        self._spent(thread_time() - begin_s)

    def _not_connected(self, code: int) -> None:
        error = OSError(code, errno.errorcode.get(code, str(code)))
        self._fail(FetchError(classify(error, connecting=True), detail_of(error)))

    def _connection_made(self) -> None:
        assert self._socket is not None
        assert self._loop is not None
        sock, target = self._socket, self._target
        try:
            itself = sock.getsockname() == sock.getpeername()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            self._fail(FetchError(classify(error), detail_of(error)))
            return
        if itself:  # nobody listens, and the kernel chose that very port for us
            self._not_connected(errno.ECONNREFUSED)
            return
        self._loop.add_reader(self._fd, self._readable)
        self._reader = AnswerReader(target.max_page_bytes)
        self._fresh = True
        self._listener.reached()
        if target.context is None:
            self.connected = True
            self._question()
            return
        try:
            self._tls = _Tls(target.context, target.host)
            self._shake_hands()
        except (OSError, ValueError) as error:
            self._fail(FetchError(classify(error, connecting=True), detail_of(error)))

    def _shake_hands(self) -> None:
        assert self._tls is not None
        done = self._tls.handshake()
        self._send(self._tls.outgoing())
        if done:
            self.connected = True
            self._question()

    # -- asking ------------------------------------------------------------------------------------------------------

    def _question(self) -> None:
        assert self._reader is not None
        self._reader.begin()
        request = self._target.request
        self._send(request if self._tls is None else self._tls.encrypt(request))

    def _send(self, data: bytes) -> None:
        if self._socket is None or not (data or self._out):
            return
        data = self._out + data
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._broken(error)
            return
        self._out = data[sent:]
        assert self._loop is not None
        if self._out and not self.writing:
            self._loop.add_writer(self._fd, self._writable)
            self.writing = True
        elif not self._out and self.writing:
            self._loop.remove_writer(self._fd)
            self.writing = False

    def _writable(self) -> None:
        self._send(b"")

    # -- reading -----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        begin_s = thread_time()
        assert self._socket is not None
        try:
            count = self._socket.recv_into(_BUFFER)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._broken(error)
            return
        if not count:
            self._ended()
        elif self._tls is not None:
            self._encrypted(bytes(_VIEW[:count]))
        else:
            self._received(bytes(_VIEW[:count]))
        self._spent(thread_time() - begin_s)

    def _encrypted(self, data: bytes) -> None:
        tls = self._tls
        assert tls is not None
        try:
            tls.feed(data)
            if not self.connected:
                self._shake_hands()
            while self._tls is tls and self.connected:
                plain = tls.read()
                if plain is None:
                    self._send(tls.outgoing())
                    return
                if not plain:
                    self._ended()
                    return
                self._received(plain)
        except (OSError, ValueError) as error:
            self._fail(FetchError(classify(error, connecting=True), detail_of(error)))

    def _received(self, data: bytes) -> None:
        reader = self._reader
        assert reader is not None
        if not self.asking:
            self.close()  # an answer that nobody asked for
            return
        try:
            page = reader.feed(data)
        except FetchError as error:
            self._fail(error)
            return
        if page is not None:
            self._answered(page, reader.reusable)

    def _ended(self) -> None:
        """The server has closed the connection, which is its right between two pages."""
        reader = self._reader
        if not self.asking or reader is None:
            if self.asking:
                self._fail(FetchError(Reason.CLOSED, "closed without an answer"))
            else:
                self.close()
            return
        try:
            page = reader.ended()
        except FetchError as error:
            self._lost(error)
            return
        self._answered(page, False)

    def _broken(self, error: OSError) -> None:
        reader = self._reader
        reason = classify(error)
        if reason is Reason.RESET and reader is not None and reader.begun:
            reason = Reason.TRUNCATED
        if self.asking:
            self._lost(FetchError(reason, detail_of(error)))
        else:
            self.close()

    def _lost(self, error: FetchError) -> None:
        """A kept connection that is gone before anything was answered is no failure: ask on a new one."""
        reader = self._reader
        again = not self._fresh and reader is not None and not reader.received
        if again and error.reason in (Reason.CLOSED, Reason.RESET):
            self.close()
            self.asking = True
            self._connect()
        else:
            self._fail(error)

    def _answered(self, page: bytes, reusable: bool) -> None:
        self.asking = False
        self._fresh = False
        if not reusable:
            self.close()
        self._listener.page(page)

    def _fail(self, error: FetchError) -> None:
        asked = self.asking
        self.close()
        if asked:
            self._listener.no_page(error)


def _count(change: int) -> None:
    global _open
    _open += change


class _Tls:
    """TLS over memory: what came in, what is to be sent, and the plain bytes."""

    __slots__ = ("_incoming", "_object", "_outgoing")

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def handshake(self) -> bool:
        """Whether it is done."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def feed(self, data: bytes) -> None:
        self._incoming.write(data)

    def encrypt(self, data: bytes) -> bytes:
        self._object.write(data)
        return self._outgoing.read()

    def outgoing(self) -> bytes:
        return self._outgoing.read()

    def read(self) -> bytes | None:
        """None: more has to come; b'': the end."""
        try:
            return self._object.read(256 * 1024)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""
