"""A decider behind a real server, in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Literal, TypeAlias

from extproc.observability.instruments import Instruments
from extproc.observability.metrics import StreamMetrics, TransportMetrics
from extproc.protocol import StreamLimits
from extproc.sockets.listen import Tcp
from extproc.transport.codec import Encoder
from extproc.transport.grpcio import ExtProcServer
from extproc.transport.h2.call import Services
from extproc.transport.h2.headers import KnownBlocks
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.server import H2Server
from extproc.transport.health import Health
from extproc.transport.held import Held
from extproc.transport.session import Decider

TransportName: TypeAlias = Literal["h2", "grpcio"]


@contextlib.asynccontextmanager
async def serving(
    decider: Decider,
    transport: TransportName = "h2",
    *,
    port: int = 0,
    limits: StreamLimits = StreamLimits(),
    h2_limits: H2Limits = H2Limits(),
) -> AsyncIterator[int]:
    """The port of a plaintext server."""
    instruments = Instruments()
    streams, most = StreamMetrics(instruments), limits.max_body_bytes + 2**20
    server: H2Server | ExtProcServer
    if transport == "h2":
        services = Services(
            decider, limits, Encoder(), Health(), streams, TransportMetrics(instruments), KnownBlocks(), most, Held()
        )
        server = H2Server(services, h2_limits)
    else:
        server = ExtProcServer(decider, limits, streams, Health(), max_message_bytes=most)
    try:
        yield await server.start(Tcp("127.0.0.1", port))
    finally:
        await server.stop(0)
