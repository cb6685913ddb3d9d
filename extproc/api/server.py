"""The API's server: connections that we accept, uvicorn's HTTP on each, and the end of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, cast

from starlette.types import ASGIApp
from uvicorn.server import ServerState

from extproc.api.protocol import ApiProtocol, config_of
from extproc.sockets.accept import Acceptor
from extproc.sockets.bounds import Bounds, Connections
from extproc.sockets.listen import Tcp, listen

_PATIENCE_S: Final = 1.0
"""For calls that are under way when the server stops. What the desk has begun it ends by itself."""


class ApiServer:
    """Serves an application on a port of its own."""

    def __init__(self, app: ASGIApp, bounds: Bounds = Bounds()) -> None:
        self._app = app
        self._bounds = bounds
        self._state = ServerState()
        self._acceptor: Acceptor | None = None
        self._connections: Connections | None = None

    def __repr__(self) -> str:
        return f"<ApiServer {len(self._state.connections)} connections>"

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listen; return the port. Raises BindError, whose message names the API, the port and why."""
        listener = listen(Tcp(host, port, reuse_port), "API")
        config = config_of(self._app, self._bounds.idle_timeout_s)

        def serve() -> asyncio.Protocol:
            return ApiProtocol(config, self._state, self._app, lambda: connections, self._bounds.linger_s)

        self._connections = connections = Connections(self._bounds, serve)
        self._acceptor = Acceptor(
            listener, connections, None, shutdown_timeout_s=_PATIENCE_S, settled=lambda: None, crowd=connections
        )
        self._acceptor.open()
        return listener.port

    async def stop(self) -> None:
        """Take nothing new, wait a moment for what is under way, and let all connections go. May be called twice."""
        if self._acceptor is None:
            return
        self._acceptor.close()
        for each in list(self._state.connections):
            cast(ApiProtocol, each).shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while self._state.tasks:
                    await asyncio.wait(self._state.tasks)
        for each in list(self._state.connections):
            cast(ApiProtocol, each).let_go()
        self._acceptor.abort()
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        self._acceptor = None
