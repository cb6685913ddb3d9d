"""The transport on asyncio: listening sockets, the clock of all connections, drain."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from extproc.observability.logs import logger
from extproc.sockets.accept import Acceptor
from extproc.sockets.listen import Address, listen
from extproc.transport.h2.call import Services
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.peer import Peer, over

_log = logger(__name__)

_TICK_S: Final = 1.0
_LEAVE_S: Final = 1.0


class H2Server:
    """Connections on any number of listening sockets. One event loop."""

    def __init__(self, services: Services, limits: H2Limits = H2Limits(), *, name: str = "ext_proc") -> None:
        self._name = name
        self.services = services
        self.limits = limits
        self.request_timeout_s = services.limits.request_timeout_s
        """How long a request may take to be decided; 0 is for ever."""
        timeouts = [
            *(limits.preface_timeout_s, limits.settings_timeout_s, limits.keepalive_s, limits.keepalive_timeout_s),
            *(limits.window_timeout_s, limits.held_timeout_s, limits.read_timeout_s, limits.idle_timeout_s),
            self.request_timeout_s,
        ]
        self.tick_s = min([_TICK_S, *(timeout / 4 for timeout in timeouts if timeout)])
        self._peers: set[Peer] = set()
        self._listeners: list[Acceptor] = []
        self._closed: list[Acceptor] = []
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False
        self._stalled = 0
        """Ticks since large bodies wait and none was let go on."""
        self._let_on = 0
        self._loop = asyncio.get_running_loop()

    async def start(self, address: Address, tls: ssl.SSLContext | None = None, *, wait: bool = False) -> int:
        """Listen; return the port, 0 for a Unix socket. With `wait` nobody can connect before `open`. Raises BindError."""
        listener = listen(address, self._name, wait=True)
        acceptor = Acceptor(listener, lambda: Peer(self), tls, shutdown_timeout_s=_LEAVE_S, settled=self._look_if_empty)
        self._listeners.append(acceptor)
        if not wait:
            acceptor.open()
        return listener.port

    def open(self) -> None:
        """Let connections come to where `start` was told to wait. Raises BindError."""
        for acceptor in self._listeners:
            acceptor.open()

    async def stop(self, grace_s: float) -> None:
        """Take no new connections and streams, and let the open streams end by themselves for `grace_s` seconds.

        Connections that the kernel has accepted for us are taken, and drained as the others are. After `grace_s`, streams that
        need nothing more from us end well, and the others are UNAVAILABLE.
        """
        for acceptor in self._listeners:
            acceptor.close()
            self._closed.append(acceptor)
        self._listeners.clear()
        self._draining = True
        for peer in list(self._peers):
            peer.drain()
        self._look_if_empty()
        if grace_s > 0 and not await self._gone_within(grace_s):
            _log.warning("drain timeout", timeout_s=grace_s, streams=self.services.streams.open.value)
        await asyncio.sleep(0)  # what was accepted just now has begun, so that it can be ended
        for acceptor in self._closed:
            acceptor.abort()
        for peer in list(self._peers):
            peer.leave()
        if not await self._gone_within(_LEAVE_S):
            for peer in list(self._peers):
                peer.abort()
            await self._gone_within(_LEAVE_S)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _gone_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def joined(self, peer: Peer) -> None:
        """A connection was made."""
        self._peers.add(peer)
        self._empty.clear()
        metrics = self.services.transport
        metrics.accepted.value += 1
        metrics.connections.value += 1
        if self._timer is None:
            self._timer = self._loop.call_later(self.tick_s, self._tick)
        if self._draining:
            peer.drain()

    def left(self, peer: Peer) -> None:
        """A connection is gone."""
        self._peers.discard(peer)
        self.services.transport.connections.value -= 1
        self._look_if_empty()

    def _look_if_empty(self) -> None:
        if self._peers or any(acceptor.arriving for acceptor in self._closed):
            self._empty.clear()
        else:
            self._empty.set()

    def _tick(self) -> None:
        for peer in list(self._peers):
            peer.tick()
        self.look_at_held()
        self._timer = self._loop.call_later(self.tick_s, self._tick) if self._peers else None

    def look_at_held(self) -> None:
        """Bodies that wait although nobody is let go on: what is held belongs to peers who are slow, or gone."""
        if self.services.decider is None:
            return  # only health: the other server looks
        held = self.services.held
        if held.waiting:
            held.ease()
        self._stalled = self._stalled + 1 if held.waiting and held.let_on == self._let_on else 0
        self._let_on = held.let_on
        if over(self._stalled, self.tick_s, self.limits.held_timeout_s):
            held.give_up_most(True)
