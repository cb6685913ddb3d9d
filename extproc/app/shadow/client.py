"""Asks model servers, on connections that are kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from extproc.app.shadow.connection import CUT, NO_CONNECTION, AskFailed, Connection, Sink

CONNECT_TIMEOUT_S: Final = 2.0
IDLE_S: Final = 10.0
"""After which a connection is not used again; servers close theirs after 5 s (uvicorn) to minutes."""
MOST_IDLE: Final = 64
"""Connections that are kept, over all servers."""


class Client:
    """One for a service. Connections are bounded by who asks: one each, and `MOST_IDLE` that are kept."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._idle: defaultdict[tuple[str, int], list[Connection]] = defaultdict(list)

    async def ask(self, address: str, port: int, request: bytes, sink: Sink, max_bytes: int) -> None:
        """As Connection.ask. A kept connection that is gone before anything was answered is no failure: another is made."""
        kept = self._take((address, port))
        if kept is not None:
            try:
                await self._ask_on(kept, (address, port), request, sink, max_bytes)
                return
            except AskFailed as error:
                if error.outcome != CUT or kept.answered:
                    raise
        await self._ask_on(await self._connected(address, port), (address, port), request, sink, max_bytes)

    async def _ask_on(self, connection: Connection, where: tuple[str, int], request: bytes, sink: Sink, max_bytes: int) -> None:
        await connection.ask(request, sink, max_bytes)
        if connection.reusable:
            self._keep(where, connection)

    async def _connected(self, address: str, port: int) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await asyncio.get_running_loop().create_connection(Connection, address, port)
        except (OSError, TimeoutError):
            raise AskFailed(NO_CONNECTION) from None
        return connection

    def _take(self, where: tuple[str, int]) -> Connection | None:
        there = self._idle.get(where)
        while there:
            connection = there.pop()
            if connection.is_open and self._clock() - connection.idle_since_s < IDLE_S:
                return connection
            connection.abort()
        return None

    def _keep(self, where: tuple[str, int], connection: Connection) -> None:
        if sum(map(len, self._idle.values())) >= MOST_IDLE:
            connection.abort()
            return
        connection.idle_since_s = self._clock()
        self._idle[where].append(connection)

    def sweep(self) -> None:
        """Let go of connections that were not used for long, or are closed."""
        now_s = self._clock()
        for where, there in list(self._idle.items()):
            for connection in there:
                if now_s - connection.idle_since_s >= IDLE_S:
                    connection.abort()
            left = [connection for connection in there if connection.is_open]
            if left:
                self._idle[where] = left
            else:
                del self._idle[where]

    def close(self) -> None:
        """At once."""
        for there in self._idle.values():
            for connection in there:
                connection.abort()
        self._idle.clear()
