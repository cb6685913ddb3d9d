"""A server that listens, and clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from extproc.domain import Decision
from extproc.sockets.listen import Tcp
from extproc.transport.h2.call import Services
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.server import H2Server
from tests.fakes import messages
from tests.fakes.decider import FakeDecider
from tests.fakes.hyper import HyperClient
from tests.fakes.sockets import HandClient, Socket
from tests.fakes.wire import counted, services_of

REQUEST = messages.request_headers(modes=(0, 0), end=True)


class Running:
    """A server that listens, and what it says of itself."""

    def __init__(self, server: H2Server, port: int) -> None:
        self.server = server
        self.port = port

    @property
    def services(self) -> Services:
        return self.server.services

    @property
    def connections(self) -> tuple[int, int]:
        """Open now, and accepted so far."""
        metrics = self.services.transport
        return int(metrics.connections.value), int(metrics.accepted.value)

    @property
    def ended(self) -> dict[str, int]:
        return counted(self.services.streams.streams)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the server work until the condition holds."""
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0)  # the condition is what the server makes of its sockets


@asynccontextmanager
async def serving(limits: H2Limits = H2Limits(), *, decider: FakeDecider | None = None) -> AsyncIterator[Running]:
    services = services_of(decider or FakeDecider(Decision(ticket=object())))
    server = H2Server(services, limits)
    running = Running(server, await server.start(Tcp("127.0.0.1", 0)))
    try:
        yield running
    finally:
        async with asyncio.timeout(5):
            await server.stop(0)
    assert running.connections[0] == 0
    assert services.streams.open.value == 0
    assert services.health.watchers == 0


@asynccontextmanager
async def connected(running: Running, *, window: int = 65_535) -> AsyncIterator[Socket[HyperClient]]:
    sock = await Socket.connect(HyperClient(window=window), running.port)
    try:
        yield sock
    finally:
        await sock.close()


@asynccontextmanager
async def by_hand(running: Running) -> AsyncIterator[tuple[Socket[HandClient], list[str]]]:
    """A client by hand, and what it hears."""
    sock = await Socket.connect(HandClient(), running.port)
    try:
        await sock.until(lambda: "SETTINGS ack" in sock.client.heard)
        yield sock, sock.client.heard
    finally:
        await sock.close()


async def answered(sock: Socket[HyperClient], *raws: bytes) -> int:
    """Open a call and get its answers; its stream."""
    client = sock.client
    stream = client.open()
    for raw in raws:
        client.send(stream, raw)
    await sock.until(lambda: len(client.calls[stream].data) > 0)
    return stream
