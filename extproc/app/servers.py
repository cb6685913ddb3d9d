"""The three servers of a service: ExtProc, health, and the pages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from extproc.admin import AdminServer, Inside, RegistryShape, ShadowShapes
from extproc.admin.plugins import PluginsOfPool
from extproc.app.guard import MetricsGuard, debug_pages
from extproc.app.metrics_tls import MetricsTls
from extproc.app.telemetry import Telemetry
from extproc.app.tls import ServerTls
from extproc.app.transports import grpc_servers
from extproc.director import Director
from extproc.observability.decisions import DecisionLog
from extproc.pool import PoolStore
from extproc.protocol import StreamLimits
from extproc.settings.server import ServerSettings
from extproc.transport.health import Health


class Ports(NamedTuple):
    """Where a service listens."""

    grpc: int
    """0 for a Unix socket."""
    health: int
    metrics: int


class PortsTaken(Exception):
    """Ports that can't be listened on. `problems` name each, its number and why."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass
class Serving:
    """What is served, and how."""

    settings: ServerSettings
    director: Director
    limits: StreamLimits
    tls: ServerTls | None = None
    """None for plaintext."""
    metrics_tls: MetricsTls | None = None
    """Of the metrics port; None for plaintext."""
    guard: MetricsGuard | None = None
    """Who may read the pages; None: everybody."""
    stores: dict[str, PoolStore] = field(default_factory=dict)
    """What the pages show of each pool."""
    decisions: DecisionLog | None = None
    plugins: dict[str, PluginsOfPool] = field(default_factory=dict)
    shadows: ShadowShapes | None = None
    registry: RegistryShape | None = None


class Servers:
    """The servers of one run."""

    def __init__(self, serving: Serving, telemetry: Telemetry, health: Health, unready: Callable[[], str | None]) -> None:
        self._settings = settings = serving.settings
        self._metrics_tls = serving.metrics_tls
        self._ext_proc, self._health = grpc_servers(
            settings, serving.tls, serving.director, serving.limits, telemetry.streams, telemetry.transport, health
        )
        inside = Inside(
            telemetry.metrics,
            unready,
            serving.stores,
            serving.decisions,
            serving.director.explain,
            serving.plugins,
            serving.shadows,
            serving.registry,
        )
        self._admin = AdminServer(inside, serving.guard, debug=debug_pages(settings, guarded=serving.guard is not None))

    async def start(self, stack: contextlib.AsyncExitStack) -> Ports:
        """Listen on all ports; raise PortsTaken with every one that can't be had. `stack` stops them."""
        problems: list[str] = []

        async def bind(starting: Awaitable[int]) -> int:
            try:
                return await starting
            except OSError as error:
                problems.append(error.strerror or str(error))
                return 0

        stack.push_async_callback(self._ext_proc.stop, 0)
        stack.push_async_callback(self._health.stop, 0)
        stack.push_async_callback(self._admin.stop)
        settings, tls = self._settings, None if self._metrics_tls is None else self._metrics_tls.context
        ports = Ports(
            await bind(self._ext_proc.start()),
            await bind(self._health.start()),
            await bind(self._admin.start(settings.host, settings.metrics_port, reuse_port=settings.reuse_port, tls=tls)),
        )
        if problems:
            raise PortsTaken(problems)
        return ports

    def open(self) -> None:
        """Let connections come where they had to wait for us to be ready. Raises PortsTaken."""
        problems = []
        for each in (self._ext_proc, self._health):
            try:
                each.open()
            except OSError as error:
                problems.append(error.strerror or str(error))
        if problems:
            raise PortsTaken(problems)

    async def drain(self) -> None:
        """Go on for --shutdown-delay, then take nothing new and let what is open end within --drain-timeout."""
        settings = self._settings
        await asyncio.sleep(settings.shutdown_delay)
        stopping = [self._ext_proc.stop(settings.drain_timeout)]
        if settings.reuse_port:
            stopping.append(self._health.stop(0))  # whoever asks on a shared port now means the replacement
        await asyncio.gather(*stopping)
