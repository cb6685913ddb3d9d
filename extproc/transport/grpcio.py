"""The ExtProc service on grpc.aio: the reference transport. Messages pass as raw bytes; grpcio parses nothing."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from extproc import names
from extproc.errors import ProtocolError
from extproc.observability.logs import logger
from extproc.observability.metrics import StreamMetrics
from extproc.protocol import StreamLimits
from extproc.transport.codec import Encoder
from extproc.transport.deadlines import Deadlines
from extproc.transport.session import Decider, Session

_log = logger(__name__)

_SERVICES: Final = ("", names.EXT_PROC_SERVICE, "inference-extension", "readiness")
"""Health services that say whether we are ready; `inference-extension` and `readiness` are what upstream's charts probe."""

_LEAVE_S: Final = 1.0
"""How long streams have to end after they were told to."""

# A message holds a piece of body and headers; with BUFFERED it holds the whole body.
_MESSAGE_OVERHEAD: Final = 1 << 20


class BindError(OSError):
    """A port could not be taken. The message names the port, its number and why."""


class ExtProcServer:
    """`envoy.service.ext_proc.v3.ExternalProcessor/Process` on one port."""

    def __init__(self, decider: Decider, limits: StreamLimits, metrics: StreamMetrics, health: Health) -> None:
        self._decider = decider
        self._limits = limits
        self._metrics = metrics
        self._encoder = Encoder()
        self._open: dict[asyncio.Task[Any], Session] = {}
        self._leaving: set[asyncio.Task[Any]] = set()
        self._deadlines: Deadlines[asyncio.Task[Any]] = Deadlines(limits.request_timeout_s)
        self._timed_out: dict[asyncio.Task[Any], list[bytes]] = {}
        self._timer: asyncio.TimerHandle | None = None
        most = limits.max_body_bytes + _MESSAGE_OVERHEAD
        self._server = aio.server(
            options=[
                ("grpc.max_receive_message_length", most),
                ("grpc.max_send_message_length", most),
                ("grpc.so_reuseport", 0),
                ("grpc.max_concurrent_streams", 1 << 20),
            ]
        )
        handler: Any = grpc.stream_stream_rpc_method_handler(self._process)  # no (de)serialisers: bytes
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(names.EXT_PROC_SERVICE, {"Process": handler}),)
        )
        health.serve_on(self._server)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port. Raises BindError."""
        bound = _bind(self._server, host, port, "ext_proc")
        await self._server.start()
        if self._limits.request_timeout_s:
            self._wait()
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
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._deadlines.tick_s, self._sweep)

    def _sweep(self) -> None:
        self._wait()
        for task in self._deadlines.tick():
            answers = self._open[task].expire()
            if answers:
                # The stream's own task sends them: it waits for the peer, and two must not write at once.
                self._timed_out[task] = answers
                task.cancel()

    async def _process(self, _: Any, context: aio.ServicerContext[bytes, bytes]) -> None:
        metrics = self._metrics
        session = Session(self._decider, self._encoder, self._limits)
        metrics.open.value += 1
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = session
        generation = self._deadlines.young
        generation.add(task)
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
            answers = self._timed_out.pop(task, None)
            if answers is not None:
                task.uncancel()
                for answer in answers:
                    await write(answer)
            elif task not in self._leaving:
                raise
            code = "OK"
        except ProtocolError as error:
            code = "INVALID_ARGUMENT"
            _log.warning("stream ended: the peer broke the protocol", error=error.message, session=repr(session))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        finally:
            del self._open[task]
            self._leaving.discard(task)
            generation.discard(task)
            self._timed_out.pop(task, None)
            session.closed()
            metrics.open.value -= 1
            if code == "OK":
                metrics.ok.value += 1
            else:
                metrics.streams.child(code).value += 1


class Health:
    """`grpc.health.v1.Health`, on as many servers as want it. Not ready until told."""

    def __init__(self) -> None:
        self._servicer = HealthServicer()

    def serve_on(self, server: aio.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def set_ready(self, ready: bool) -> None:
        """Ready: every name is SERVING. Not ready: only `liveness` is."""
        status = health_pb2.HealthCheckResponse
        await self._servicer.set("liveness", status.SERVING)
        for name in _SERVICES:
            await self._servicer.set(name, status.SERVING if ready else status.NOT_SERVING)


class HealthServer:
    """The health service on a port of its own, plaintext, as upstream's probes want it."""

    def __init__(self, health: Health) -> None:
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        health.serve_on(self._server)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port. Raises BindError."""
        bound = _bind(self._server, host, port, "health")
        await self._server.start()
        return bound

    async def stop(self) -> None:
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
