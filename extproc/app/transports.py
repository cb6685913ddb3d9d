"""Which transport carries the ExtProc streams: our own HTTP/2 (`h2`), or `grpcio`, the reference and the fallback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from extproc.app.memory import keep_freed, memory_limit_bytes
from extproc.app.tls import ServerTls
from extproc.observability.metrics import StreamMetrics, TransportMetrics
from extproc.protocol import StreamLimits
from extproc.settings.server import Http2Settings, ListenSettings, TransportSettings
from extproc.sockets.listen import Address, Tcp, Unix
from extproc.transport.codec import Encoder
from extproc.transport.h2.call import Services
from extproc.transport.h2.headers import KnownBlocks
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.server import H2Server
from extproc.transport.health import Health
from extproc.transport.held import MOST, Held
from extproc.transport.session import Decider
from extproc.transport.turns import Turns

_MESSAGE_OVERHEAD = 1 << 20
"""A message holds a piece of body and headers; with BUFFERED it holds the whole body."""


@dataclass(frozen=True)
class GrpcServer:
    """A gRPC server on one port or socket."""

    start: Callable[[], Awaitable[int]]
    """Take the port or path; the port, 0 for a Unix socket. Raises BindError."""
    open: Callable[[], None]
    """Let connections come. Without --reuse-port they come since `start`. Raises BindError."""
    stop: Callable[[float], Awaitable[None]]
    """Take no new streams, and let the open ones end by themselves for so many seconds."""


def grpc_servers(
    settings: TransportSettings,
    tls: ServerTls | None,
    decider: Decider,
    limits: StreamLimits,
    streams: StreamMetrics,
    transport: TransportMetrics,
    health: Health,
) -> tuple[GrpcServer, GrpcServer]:
    """The ExtProc server, and the health server on a port of its own, which is plaintext as upstream's probes want it."""
    keep_freed()
    most = limits.max_body_bytes + _MESSAGE_OVERHEAD
    address, reuse_port = grpc_address(settings), settings.reuse_port
    probed = Tcp(settings.host, settings.grpc_health_port, reuse_port)
    held = Held(most_held(settings))
    transport.show_held(lambda: held.bytes, held.most)
    turns = Turns(asyncio.get_running_loop().call_later, time.monotonic)
    if settings.transport == "grpcio":
        # Imported when it is wanted: it takes 20 MB and starts threads.
        from extproc.transport.grpcio import ExtProcServer, HealthServer

        credentials = None if tls is None else tls.grpc_credentials()
        reference = ExtProcServer(decider, limits, streams, health, most, reuse_port=reuse_port, held=held, turns=turns)
        probe = HealthServer(health, reuse_port=reuse_port)
        return (
            GrpcServer(lambda: reference.start(address, credentials), _open_already, reference.stop),
            GrpcServer(lambda: probe.start(probed), _open_already, probe.stop),
        )
    services = Services(decider, limits, Encoder(), health, streams, transport, KnownBlocks(), most, held, turns)
    ours, alive = H2Server(services, _h2_limits(settings)), H2Server(services._replace(decider=None), name="health")
    context = None if tls is None else tls.context()
    # Who shares a port gets no connections before it is ready for them.
    return (
        GrpcServer(lambda: ours.start(address, context, wait=reuse_port), ours.open, ours.stop),
        GrpcServer(lambda: alive.start(probed, wait=reuse_port), alive.open, alive.stop),
    )


def _open_already() -> None:
    """grpcio listens when it binds."""


def most_held(settings: Http2Settings) -> int:
    """What a process may hold: a quarter of the memory that it may have, because a body that is decided on is there three times
    (its pieces, the whole, what was read of it) and what is freed is not at once the kernel's again."""
    if settings.max_held_bytes is not None:
        return settings.max_held_bytes
    limit = memory_limit_bytes()
    return MOST if limit is None else min(MOST, limit // 4)


def _h2_limits(settings: Http2Settings) -> H2Limits:
    return H2Limits(
        max_streams=settings.max_concurrent_streams,
        stream_window=settings.initial_stream_window_size,
        connection_window=settings.initial_connection_window_size,
        keepalive_s=settings.keepalive_interval,
        keepalive_timeout_s=settings.keepalive_timeout,
        idle_timeout_s=settings.connection_idle_timeout,
    )


def grpc_address(settings: ListenSettings) -> Address:
    """Where the ExtProc service listens."""
    if settings.grpc_socket is not None:
        return Unix(settings.grpc_socket, settings.grpc_socket_mode, settings.reuse_port)
    return Tcp(settings.host, settings.grpc_port, settings.reuse_port)
