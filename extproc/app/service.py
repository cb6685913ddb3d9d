"""A server with all its parts: listen, run everything in one TaskGroup, get ready, drain when told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector

from extproc import compiled
from extproc.admin import AdminServer, Inside
from extproc.app.cluster import Cluster
from extproc.app.guard import debug_pages, metrics_guard
from extproc.app.kubernetes import WatchedAdapters
from extproc.app.leadership import Leadership
from extproc.app.metrics_tls import MetricsTls
from extproc.app.pools import Pool
from extproc.app.signals import Signals
from extproc.app.tls import ServerTls
from extproc.app.transports import GrpcServer, grpc_servers
from extproc.app.watching import FileErrors
from extproc.director import Director
from extproc.observability.decisions import DecisionLog
from extproc.observability.instruments import Instruments
from extproc.observability.labels import MAX_MODELS, ModelNames
from extproc.observability.logs import count_losses, logger
from extproc.observability.metrics import StreamMetrics, TransportMetrics
from extproc.observability.tables import TableMetrics
from extproc.protocol import StreamLimits
from extproc.settings.base import SettingsError
from extproc.settings.server import DrainSettings, MetricsPortSettings, ServerSettings
from extproc.transport.health import Health

_log = logger(__name__)

_READY_POLL_S = 0.02

_GC_THRESHOLDS = (20_000, 20, 50)
"""A stream leaves no cycles behind, so the collector rarely finds anything; the default looks every 700 objects."""


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


class Telemetry:
    """A process's metrics. Nothing is global, so several services can live in one process."""

    def __init__(self, max_models: int = MAX_MODELS) -> None:
        self.registry = CollectorRegistry()
        """What prometheus-client itself collects."""
        self.instruments = Instruments()
        self.models = self.instruments.once("models", lambda: ModelNames(max_models))
        self.streams = StreamMetrics(self.instruments)
        self.transport = TransportMetrics(self.instruments)
        self.files = FileErrors(self.instruments)
        count_losses(self.instruments)
        self.tables = TableMetrics.of(self.instruments)

    def metrics(self) -> Iterator[Metric | None]:
        """All of them, a little at a time; None is a step on the way."""
        yield from self.instruments.pieces()
        yield from self.registry.collect()

    def process(self) -> None:
        """Also show the process itself; once in a process."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)


@dataclass
class Service:
    """A server with all its parts."""

    name: str
    settings: ServerSettings
    telemetry: Telemetry
    director: Director
    limits: StreamLimits
    pools: list[Pool] = field(default_factory=list)
    decisions: DecisionLog | None = None
    background: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    tls: ServerTls | None = None
    """None for plaintext."""
    metrics_tls: MetricsTls | None = None
    """Of the metrics port; None for plaintext."""
    cluster: Cluster | None = None
    """Access to Kubernetes; None where nothing needs it."""
    adapters: WatchedAdapters | None = None
    """The router's ConfigMaps; None where it has none."""
    leadership: Leadership | None = None
    """Who of several replicas serves; None: each does."""
    _draining: bool = False
    _ready: bool = False

    def unready(self) -> str | None:
        """Why the service is not ready, None when it is.

        What it must know, it must know once: then it stays ready until it drains, unless another replica leads.
        """
        if self._draining:
            return "draining"
        if not self._ready:
            return self._missing() or "about to listen"
        lost = [pool.lost() for pool in self.pools]
        if lost and all(lost):  # with another pool left there is something to serve
            return "; ".join(filter(None, lost))
        return None if self.leadership is None else self.leadership.unready()

    def _missing(self) -> str:
        reasons = [pool.unready() for pool in self.pools]
        reasons.append(None if self.adapters is None else self.adapters.unready())
        return "; ".join(filter(None, reasons))

    async def run(self, stop: asyncio.Event, started: Callable[[Ports], None] = lambda ports: None) -> None:
        """Serve until `stop` is set, then drain. Raises PortsTaken, and SettingsError when Kubernetes is out of reach."""
        health = Health()
        telemetry = self.telemetry
        guard = metrics_guard(self.settings, self.cluster, telemetry.instruments)
        servers = _Servers(
            *grpc_servers(self.settings, self.tls, self.director, self.limits, telemetry.streams, telemetry.transport, health),
            AdminServer(
                Inside(
                    self.telemetry.metrics,
                    self.unready,
                    {pool.store.name: pool.store for pool in self.pools},
                    self.decisions,
                    self.director.explain,
                ),
                guard,
                debug=debug_pages(self.settings, guarded=guard is not None),
            ),
        )
        async with contextlib.AsyncExitStack() as stack:
            if guard is not None:
                stack.push_async_callback(guard.close)
                await guard.connect()
            if self.cluster is not None:
                stack.push_async_callback(self.cluster.close)
                await (self.adapters or self.cluster).connect()
            if self.leadership is not None:
                await self.leadership.connect()
            context = None if self.metrics_tls is None else self.metrics_tls.context
            ports = await servers.start(self.settings, stack, context)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(pool.run(), name=f"pool {pool.store.name}") for pool in self.pools]
                tasks += [group.create_task(_forever(job)) for job in self.background]
                if self.adapters is not None:
                    tasks.append(group.create_task(self.adapters.run(), name="adapters"))
                if self.tls is not None:
                    tasks.append(group.create_task(self.tls.run(), name="TLS"))
                if self.metrics_tls is not None:
                    tasks.append(group.create_task(self.metrics_tls.run(), name="TLS of the metrics port"))
                tasks.append(group.create_task(self._announce_ready(servers, health), name="readiness"))
                grpc = self.settings.grpc_socket or ports.grpc
                where = {"grpc": grpc, "health": ports.health, "metrics": ports.metrics}
                _log.info("started", service=self.name, **where, compiled=compiled())
                started(ports)
                # What exists now lives as long as the process: keep the collector off it.
                gc.collect()
                gc.freeze()
                gc.set_threshold(*_GC_THRESHOLDS)
                await stop.wait()
                self._draining = True
                health.set_ready(False)
                _log.info("draining", timeout_s=self.settings.drain_timeout, streams=self.telemetry.streams.open.value)
                await asyncio.gather(servers.drain(self.settings, shared=self.settings.reuse_port), self._let_go())
                for task in tasks:
                    task.cancel()
        _log.info("stopped", service=self.name)

    async def reload(self) -> list[str]:
        """Look now at files that nobody watches; their paths. What is watched is seen by itself."""
        return [] if self.tls is None else await self.tls.reload()

    async def _announce_ready(self, servers: _Servers, health: Health) -> None:
        while self._missing():  # noqa: ASYNC110  # pools know nothing of who waits for them
            await asyncio.sleep(_READY_POLL_S)
        if self._draining:
            return
        servers.open()
        self._ready = True
        _log.info("ready", service=self.name, serves=self.unready() is None)
        self._tell(health)
        for pool in self.pools:
            pool.changed = lambda: self._tell(health)
        if self.leadership is not None:
            # Not before: who leads and does not know the pool would keep those out who do.
            await self.leadership.run(lambda: self._tell(health))

    def _tell(self, health: Health) -> None:
        """Health is to say what is so now."""
        health.set_ready(self.unready() is None)

    async def _let_go(self) -> None:
        if self.leadership is not None:
            await self.leadership.let_go()


@dataclass(frozen=True)
class _Servers:
    ext_proc: GrpcServer
    health: GrpcServer
    admin: AdminServer

    async def start(
        self, settings: MetricsPortSettings, stack: contextlib.AsyncExitStack, metrics: ssl.SSLContext | None
    ) -> Ports:
        """Listen on all ports; raise PortsTaken with every one that can't be had."""
        problems: list[str] = []

        async def bind(starting: Awaitable[int]) -> int:
            try:
                return await starting
            except OSError as error:
                problems.append(error.strerror or str(error))
                return 0

        stack.push_async_callback(self.ext_proc.stop, 0)
        stack.push_async_callback(self.health.stop, 0)
        stack.push_async_callback(self.admin.stop)
        ports = Ports(
            await bind(self.ext_proc.start()),
            await bind(self.health.start()),
            await bind(self.admin.start(settings.host, settings.metrics_port, reuse_port=settings.reuse_port, tls=metrics)),
        )
        if problems:
            raise PortsTaken(problems)
        return ports

    def open(self) -> None:
        """Let connections come where they had to wait for us to be ready. Raises PortsTaken."""
        problems = []
        for each in (self.ext_proc, self.health):
            try:
                each.open()
            except OSError as error:
                problems.append(error.strerror or str(error))
        if problems:
            raise PortsTaken(problems)

    async def drain(self, settings: DrainSettings, *, shared: bool) -> None:
        """Go on for --shutdown-delay, then take nothing new and let what is open end within --drain-timeout.

        `shared`: a replacement may listen on the same ports.
        """
        await asyncio.sleep(settings.shutdown_delay)
        stopping = [self.ext_proc.stop(settings.drain_timeout)]
        if shared:
            stopping.append(self.health.stop(0))  # whoever asks on a shared port now means the replacement
        await asyncio.gather(*stopping)


async def _forever(job: Callable[[], Awaitable[None]]) -> None:
    await job()


def serve(service: Service) -> int:
    """Run the service until SIGTERM or SIGINT; a second of them ends it at once. Returns the exit code."""
    import uvloop

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        this = asyncio.current_task()

        assert this is not None
        Signals(stop=stop.set, abort=this.cancel, reload=service.reload).install(loop)
        service.telemetry.process()
        await service.run(stop)

    code = 0
    try:
        uvloop.run(main())
    except* PortsTaken as group:
        problems = [problem for error in group.exceptions if isinstance(error, PortsTaken) for problem in error.problems]
        raise SettingsError(problems) from None
    except* asyncio.CancelledError:
        code = 1
    return code
