"""The ExtProc service on grpc.aio: the reference transport. Messages pass as raw bytes; grpcio parses nothing."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from grpc import aio

from extproc import names
from extproc.errors import ProtocolError
from extproc.observability.logs import logger
from extproc.observability.metrics import StreamMetrics
from extproc.protocol import StreamLimits
from extproc.transport.codec import Encoder
from extproc.transport.health import SERVICE as HEALTH_SERVICE
from extproc.transport.health import Health
from extproc.transport.listen import BindError
from extproc.transport.session import Decider, Session

_log = logger(__name__)

_LEAVE_S: Final = 1.0
"""How long streams have to end after they were told to."""


class ExtProcServer:
    """`envoy.service.ext_proc.v3.ExternalProcessor/Process` on one port."""

    def __init__(
        self,
        decider: Decider,
        limits: StreamLimits,
        metrics: StreamMetrics,
        health: Health,
        max_message_bytes: int,
    ) -> None:
        self._decider = decider
        self._limits = limits
        self._metrics = metrics
        self._encoder = Encoder()
        self._open: dict[asyncio.Task[Any], Session] = {}
        self._leaving: set[asyncio.Task[Any]] = set()
        self._server = aio.server(
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.so_reuseport", 0),
                ("grpc.max_concurrent_streams", 1 << 20),
            ]
        )
        handler: Any = grpc.stream_stream_rpc_method_handler(self._process)  # no (de)serialisers: bytes
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(names.EXT_PROC_SERVICE, {"Process": handler}),)
        )
        _serve_health(self._server, health)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port. Raises BindError."""
        bound = _bind(self._server, host, port, "ext_proc")
        await self._server.start()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Take no new streams, and let the open ones end by themselves for `grace_s` seconds.

        After that, streams whose answer is under way and needs nothing more from us end well, so that Envoy lets the
        answer go on; the others are cancelled.
        """
        stopping = asyncio.ensure_future(self._server.stop(grace_s + _LEAVE_S))
        done, _ = await asyncio.wait({stopping}, timeout=grace_s)
        if not done:
            for task, session in list(self._open.items()):
                if session.may_leave:
                    self._leaving.add(task)
                    task.cancel()
        await stopping

    async def _process(self, _: Any, context: aio.ServicerContext[bytes, bytes]) -> None:
        metrics = self._metrics
        session = Session(self._decider, self._encoder, self._limits)
        metrics.open.value += 1
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = session
        code = "CANCELLED"
        read: Callable[[], Any] = context.read
        write: Callable[[bytes], Any] = context.write
        receive = session.receive
        end = aio.EOF
        try:
            while True:
                raw = await read()
                if raw is end:
                    code = "OK"
                    return
                for answer in receive(raw):
                    await write(answer)
        except asyncio.CancelledError:
            if task not in self._leaving:
                raise
            code = "OK"
        except ProtocolError as error:
            code = "INVALID_ARGUMENT"
            _log.warning("stream ended: the peer broke the protocol", error=error.message, session=repr(session))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        finally:
            del self._open[task]
            self._leaving.discard(task)
            session.closed()
            metrics.open.value -= 1
            if code == "OK":
                metrics.ok.value += 1
            else:
                metrics.streams.child(code).value += 1


def _serve_health(server: aio.Server, health: Health) -> None:
    """`grpc.health.v1.Health` on a server."""

    async def check(request: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            answer = health.check(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INTERNAL, str(error))
        if answer is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return answer

    async def list_all(_: bytes, __: aio.ServicerContext[bytes, bytes]) -> bytes:
        return health.list()

    async def watch(request: bytes, context: aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        changes: asyncio.Queue[bytes] = asyncio.Queue()
        try:
            cancel = health.watch(request, changes.put_nowait)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INTERNAL, str(error))
        try:
            while True:
                yield await changes.get()
        finally:
            cancel()

    unary: Any = grpc.unary_unary_rpc_method_handler
    streaming: Any = grpc.unary_stream_rpc_method_handler
    handlers = {"Check": unary(check), "List": unary(list_all), "Watch": streaming(watch)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH_SERVICE, handlers),))


class HealthServer:
    """The health service on a port of its own, plaintext, as upstream's probes want it."""

    def __init__(self, health: Health) -> None:
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        _serve_health(self._server, health)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port. Raises BindError."""
        bound = _bind(self._server, host, port, "health")
        await self._server.start()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Stop at once: probes ask again."""
        await self._server.stop(None)


def _bind(server: aio.Server, host: str, port: int, name: str) -> int:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        _try(host, port)
        return server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BindError(errno.EADDRINUSE, f"{name} port {port}: cannot listen on {address}: {why}") from error


def _try(host: str, port: int) -> None:
    """Bind and let go: grpcio hides why it can't. Raises OSError."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
