"""Accepting connections ourselves, so that none is lost when a process stops: what waits is taken, and what is in its TLS
handshake is waited for. `loop.create_server` forgets both when it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

from extproc.observability.logs import peer_logger
from extproc.sockets.listen import BACKLOG, Listener
from extproc.sockets.tls import HANDSHAKE_TIMEOUT_S

_log = peer_logger(__name__)

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S: Final = 0.2
"""Without a file descriptor or memory to accept with, after which it is tried again: the queue keeps who waits."""


class Crowd(Protocol):
    """The connections that are here, of which there may be so many, with those that are on their way."""

    @property
    def most(self) -> int: ...

    def __len__(self) -> int: ...

    def make_room(self, arriving_since_s: float | None = None) -> bool:
        """Send somebody away, if anybody may be; whether there was one.

        `arriving_since_s`: since when, by the loop's clock, the oldest is on its way, who goes before all that have not
        done nothing for longer. None: nobody is.
        """
        ...


class Acceptor:
    """Hands connections on a listener's sockets to the event loop, after the TLS handshake if there is one."""

    def __init__(
        self,
        listener: Listener,
        protocol: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        *,
        shutdown_timeout_s: float,
        settled: Callable[[], None],
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
        crowd: Crowd | None = None,
    ) -> None:
        """`settled` is called whenever no connection is on its way to its protocol any more; `crowd` bounds how many there are,
        handshakes included.
        """
        self._listener = listener
        self._protocol = protocol
        self._settled = settled
        self._loop = asyncio.get_running_loop()
        self._tls: dict[str, Any] = {}
        if tls is not None:
            timeouts = {"ssl_handshake_timeout": handshake_timeout_s, "ssl_shutdown_timeout": shutdown_timeout_s}
            self._tls = {"ssl": tls, **timeouts}
        self._crowd = crowd
        self._arriving: dict[asyncio.Task[None], float] = {}
        """Since when, the oldest first."""
        self._untouched: set[socket.socket] = set()
        """Those of them that nobody has begun with."""
        self._reading: list[socket.socket] = []
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._exhausted = False

    @property
    def arriving(self) -> int:
        """Connections that are accepted and have no protocol yet."""
        return len(self._arriving)

    def open(self) -> None:
        """Let connections come. Raises BindError."""
        self._listener.open()
        for sock in self._listener.sockets:
            self._read(sock)

    def close(self) -> None:
        """Take what waits, and let nothing more come. Harmless when done twice."""
        self._listener.remove()  # from now on nobody finds a Unix socket, so what waits there is all that comes
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        for sock in self._reading:
            self._loop.remove_reader(sock)
            # In one go: what the kernel puts into the queue between the last look and the end is reset.
            self._take(sock)
            sock.close()
        self._reading.clear()
        self._listener.close()

    def abort(self) -> None:
        """Give up on connections that are not there yet."""
        for task in self._arriving:
            task.cancel()

    def _read(self, sock: socket.socket) -> None:
        self._pauses.pop(sock, None)
        if sock not in self._reading:
            self._reading.append(sock)
        self._loop.add_reader(sock, self._come, sock)

    def _come(self, sock: socket.socket) -> None:
        if not self._take(sock):
            self._loop.remove_reader(sock)
            self._pauses[sock] = self._loop.call_later(_PAUSE_S, self._read, sock)

    def _take(self, sock: socket.socket) -> bool:
        """Accept what waits, a backlog at most; whether there was enough of everything to do so."""
        for _ in range(BACKLOG):
            try:
                connection, _ = sock.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    continue  # it was gone before we came to it: accept(2) passes on the errors of the network
                if not self._exhausted:
                    self._exhausted = True
                    _log.warning("connections have to wait: they can't be accepted", error=error.strerror)
                return False
            if not self._admit():
                connection.close()
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._arrive(connection))
            self._arriving[task] = self._loop.time()
            self._untouched.add(connection)
            task.add_done_callback(functools.partial(self._arrived, connection))
        self._exhausted = False
        return True

    def _admit(self) -> bool:
        """Whether there is place for one more, be it that somebody has to go."""
        crowd, arriving = self._crowd, self._arriving
        if crowd is None or len(crowd) + len(arriving) < crowd.most:
            return True
        oldest = next(iter(arriving), None)
        if oldest is None:
            return crowd.make_room()
        if not crowd.make_room(arriving[oldest]):
            del arriving[oldest]
            oldest.cancel()
        return True

    async def _arrive(self, connection: socket.socket) -> None:
        self._untouched.discard(connection)
        if connection.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):  # gone already, which the loop will see
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # whoever came did not become a client; the TLS context knows why
            await self._loop.connect_accepted_socket(self._protocol, connection, **self._tls)

    def _arrived(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._arriving.pop(task, None)
        if connection in self._untouched:  # given up before anything began
            self._untouched.discard(connection)
            connection.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a connection was lost by a fault of ours", exc_info=error)
        if not self._arriving:
            self._settled()
