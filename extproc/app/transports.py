"""Which transport carries the ExtProc streams: our own HTTP/2 (`h2`), or `grpcio`, the reference and the fallback."""

from __future__ import annotations

from typing import Protocol

from extproc.observability.metrics import StreamMetrics, TransportMetrics
from extproc.protocol import StreamLimits
from extproc.settings.server import ServerSettings
from extproc.transport.codec import Encoder
from extproc.transport.h2.calls import Services
from extproc.transport.h2.headers import KnownBlocks
from extproc.transport.h2.server import H2Server
from extproc.transport.health import Health
from extproc.transport.session import Decider

_MESSAGE_OVERHEAD = 1 << 20
"""A message holds a piece of body and headers; with BUFFERED it holds the whole body."""


class Serving(Protocol):
    """A gRPC server on one port."""

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port. Raises BindError."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Take no new streams, and let the open ones end by themselves for `grace_s` seconds."""
        ...


def servers_of(
    settings: ServerSettings,
    decider: Decider,
    limits: StreamLimits,
    streams: StreamMetrics,
    transport: TransportMetrics,
    health: Health,
) -> tuple[Serving, Serving]:
    """The ExtProc server, and the health server on a port of its own, which is plaintext as upstream's probes want it."""
    most = limits.max_body_bytes + _MESSAGE_OVERHEAD
    if settings.transport == "grpcio":
        # Imported when it is wanted: it takes 20 MB and starts threads.
        from extproc.transport.grpcio import ExtProcServer, HealthServer

        return ExtProcServer(decider, limits, streams, health, most), HealthServer(health)
    services = Services(decider, limits, Encoder(), health, streams, transport, KnownBlocks(), most)
    return H2Server(services, name="ext_proc"), H2Server(services._replace(decider=None), name="health")
