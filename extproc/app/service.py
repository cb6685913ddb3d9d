"""A server with all its components: listen, run everything in one TaskGroup, get ready, drain when told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from extproc import compiled
from extproc.app.component import Component
from extproc.app.files_limit import open_files
from extproc.app.servers import Ports, PortsTaken, Servers, Serving
from extproc.app.signals import Signals
from extproc.app.telemetry import Telemetry
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.transport.health import Health

_log = logger(__name__)

_READY_POLL_S: Final = 0.02

_GC_THRESHOLDS: Final = (20_000, 20, 50)
"""A stream leaves no cycles behind, so the collector rarely finds anything; the default looks every 700 objects."""

Kind = TypeVar("Kind", bound=Component)


@dataclass
class Service:
    """Servers and a list of components."""

    name: str
    serving: Serving
    telemetry: Telemetry
    components: list[Component] = field(default_factory=list)
    _draining: bool = False
    _ready: bool = False

    def unready(self) -> str | None:
        """Why the service is not ready, None when it is: the sum of its components.

        What it must know, it must know once: then it stays ready until it drains, unless a component says otherwise.
        """
        if self._draining:
            return "draining"
        if not self._ready:
            return self._missing() or "about to listen"
        return "; ".join(filter(None, [component.unready() for component in self.components])) or None

    def find(self, kind: type[Kind]) -> Kind | None:
        """The component of this kind, None when the service has none."""
        return next((component for component in self.components if isinstance(component, kind)), None)

    def _missing(self) -> str:
        return "; ".join(filter(None, [component.missing() for component in self.components]))

    async def run(self, stop: asyncio.Event, started: Callable[[Ports], None] = lambda ports: None) -> None:
        """Serve until `stop` is set, then drain. Raises PortsTaken, and SettingsError when a component can't start."""
        health, ready = Health(), asyncio.Event()
        servers = Servers(self.serving, self.telemetry, health, self.unready)
        settings = self.serving.settings
        async with contextlib.AsyncExitStack() as stack:
            for component in self.components:
                stack.push_async_callback(component.close)
                await component.start()
            ports = await servers.start(stack)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(each.run(ready), name=each.name) for each in self.components]
                tasks.append(group.create_task(self._get_ready(servers, health, ready), name="readiness"))
                where = {"grpc": settings.grpc_socket or ports.grpc, "health": ports.health, "metrics": ports.metrics}
                _log.info("started", service=self.name, **where, compiled=compiled(), open_files=open_files())
                started(ports)
                # What exists now lives as long as the process: keep the collector off it.
                gc.collect()
                gc.freeze()
                gc.set_threshold(*_GC_THRESHOLDS)
                await stop.wait()
                self._draining = True
                health.set_ready(False)
                _log.info("draining", timeout_s=settings.drain_timeout, streams=self.telemetry.streams.open.value)
                await asyncio.gather(servers.drain(), *[component.leave() for component in self.components])
                for task in tasks:
                    task.cancel()
        _log.info("stopped", service=self.name)

    async def reload(self) -> Sequence[str]:
        """Look now at files that nobody watches; their paths. What is watched is seen by itself."""
        return [path for component in self.components for path in await component.reload()]

    async def _get_ready(self, servers: Servers, health: Health, ready: asyncio.Event) -> None:
        while self._missing():  # noqa: ASYNC110  # components know nothing of who waits for them
            await asyncio.sleep(_READY_POLL_S)
        if self._draining:
            return
        servers.open()
        self._ready = True
        _log.info("ready", service=self.name, serves=self.unready() is None)

        def tell() -> None:
            health.set_ready(self.unready() is None)

        tell()
        for component in self.components:
            component.changed = tell
        ready.set()


def serve(service: Service) -> int:
    """Run the service until SIGTERM or SIGINT; a second of them ends it at once. Returns the exit code."""
    import uvloop

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        this = asyncio.current_task()

        assert this is not None
        signals = Signals(stop=stop.set, abort=this.cancel, reload=service.reload)
        signals.install(loop)
        service.telemetry.process()
        try:
            await service.run(stop)
        finally:
            signals.leave(loop)

    code = 0
    try:
        uvloop.run(main())
    except* PortsTaken as group:
        problems = [problem for error in group.exceptions if isinstance(error, PortsTaken) for problem in error.problems]
        raise SettingsError(problems) from None
    except* asyncio.CancelledError:
        code = 1
    return code
