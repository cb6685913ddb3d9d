"""The ExtProc service on grpc.aio: the reference transport. Messages pass as raw bytes; grpcio parses nothing."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from grpc import aio

from extproc import names
from extproc.errors import ProtocolError
from extproc.observability.logs import peer_logger
from extproc.observability.metrics import StreamMetrics
from extproc.protocol import StreamLimits
from extproc.sockets.certificates import Identity
from extproc.sockets.listen import Address, Tcp, refusals, remover, try_bind, unix_file
from extproc.transport.codec import Encoder, Message, joined
from extproc.transport.deadlines import Deadlines
from extproc.transport.health import SERVICE as HEALTH_SERVICE
from extproc.transport.health import Health
from extproc.transport.held import SMALL, Held, overloaded
from extproc.transport.session import Decider, Session
from extproc.transport.turns import Turns

_log = peer_logger(__name__)

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
        *,
        reuse_port: bool = False,
        held: Held | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._decider = decider
        self._held = Held() if held is None else held
        self._turns = turns
        self._limits = limits
        self._metrics = metrics
        self._encoder = Encoder()
        self._open: dict[asyncio.Task[Any], Session] = {}
        self._leaving: set[asyncio.Task[Any]] = set()
        self._remove: Callable[[], None] = lambda: None
        self._deadlines: Deadlines[asyncio.Task[Any]] = Deadlines(limits.request_timeout_s)
        self._timed_out: dict[asyncio.Task[Any], list[Message]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._server = aio.server(
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.so_reuseport", int(reuse_port)),
                ("grpc.max_concurrent_streams", 1 << 20),
            ]
        )
        handler: Any = grpc.stream_stream_rpc_method_handler(self._process)  # no (de)serialisers: bytes
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(names.EXT_PROC_SERVICE, {"Process": handler}),)
        )
        _serve_health(self._server, health)

    async def start(self, address: Address, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen; return the port, 0 for a Unix socket. Raises BindError."""
        bound, self._remove = _bind(self._server, address, "ext_proc", credentials)
        await self._server.start()
        if self._limits.request_timeout_s:
            self._wait()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Take no new streams, and let the open ones end by themselves for `grace_s` seconds.

        After that, streams whose answer is under way and needs nothing more from us end well, so that Envoy lets the
        answer go on; the others are cancelled.
        """
        self._remove()
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
        session = Session(self._decider, self._encoder, self._limits, waits=True)
        out = _Answers(session, context.write, self._held, self._turns)
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
                    await out.sent()
                    code = "OK"
                    return
                out.hold(len(raw))
                answers = receive(raw)
                if answers:
                    out.release()
                elif out.is_too_much:
                    await out.send(session.give_up(overloaded()))
                    await out.sent()
                    code = "OK"
                    return
                if session.is_waiting or out.busy:
                    await out.send(answers)
                    continue
                for answer in answers:  # nobody else can want to write before the next message is read
                    await write(joined(answer))
        except asyncio.CancelledError:
            timed_out = self._timed_out.pop(task, None)
            if timed_out is not None:
                task.uncancel()
                await out.send(timed_out)
                await out.sent()
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
            out.release()
            metrics.open.value -= 1
            if code == "OK":
                metrics.ok.value += 1
            else:
                metrics.streams.child(code).value += 1


class _Answers:
    """A stream's answers on their way, in order: what a read causes its own task writes, what a wait brings another one, and
    grpcio takes one write at a time. The carrier of the stream's session.
    """

    __slots__ = ("_held", "_mine", "_sending", "_session", "_task", "_turn", "_turns", "_waiting", "_write")

    def __init__(self, session: Session, write: Callable[[bytes], Any], held: Held, turns: Turns | None) -> None:
        self._held = held
        self._mine = 0
        """Bytes of `held` that are this stream's."""
        self._turns = turns
        self._turn: asyncio.Future[None] | None = None
        """Done when the stream has had its turn."""
        self._session = session
        self._write = write
        self._waiting: deque[Message] = deque()
        self._sending = False
        self._task: asyncio.Task[None] | None = None
        """Sends what a wait brought."""
        session.carrier = self

    def later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, call)

    def ask(self) -> bool:
        if self._turns is None:
            return False
        self._turn = asyncio.get_running_loop().create_future()
        self._turns.ask(self._take_turn)
        return True

    def _take_turn(self) -> None:
        self._go_on(self._session.take_turn)
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def resume(self, outcome: object) -> None:
        self._go_on(lambda: self._session.resume(outcome))

    def hold(self, size: int) -> None:
        """So many bytes more wait for an answer."""
        self._mine += size
        self._held.bytes += size

    def release(self) -> None:
        """They are answered, or nobody waits any more."""
        self._held.release(self._mine)
        self._mine = 0

    @property
    def is_too_much(self) -> bool:
        """All streams hold too much, and this one more than a little."""
        return self._held.bytes > self._held.most and self._mine > SMALL

    def _go_on(self, what: Callable[[], list[Message]]) -> None:
        """Send what the session answers, in a task: nobody reads just now."""
        try:
            answers = what()
        except Exception:
            _log.exception("a decision could not go on", session=repr(self._session))
            return
        if answers:
            self.release()
            self._task = asyncio.ensure_future(self._send_alone(answers))

    @property
    def busy(self) -> bool:
        """Somebody is sending."""
        return self._sending

    async def send(self, answers: list[Message]) -> None:
        """Send these behind what is on its way; returns at once while somebody else is sending."""
        waiting = self._waiting
        waiting.extend(answers)
        if self._sending:
            return
        self._sending = True
        try:
            while waiting:
                await self._write(joined(waiting.popleft()))
        finally:
            self._sending = False

    async def sent(self) -> None:
        """Everything is on its way."""
        if self._turn is not None:
            await self._turn
        if self._task is not None:
            await self._task

    async def _send_alone(self, answers: list[Message]) -> None:
        try:
            await self.send(answers)
        except Exception as error:  # the stream is gone, and its own task finds that out
            _log.debug("an answer could not be sent", error=str(error))


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

    def __init__(self, health: Health, *, reuse_port: bool = False) -> None:
        self._server = aio.server(options=[("grpc.so_reuseport", int(reuse_port))])
        _serve_health(self._server, health)

    async def start(self, address: Address) -> int:
        """Listen; return the port. Raises BindError."""
        bound, _ = _bind(self._server, address, "health")
        await self._server.start()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Stop at once: probes ask again."""
        await self._server.stop(None)


def _bind(
    server: aio.Server, address: Address, service: str, credentials: grpc.ServerCredentials | None = None
) -> tuple[int, Callable[[], None]]:
    """The port, and what removes the socket's file. Raises BindError."""

    def add(where: str) -> int:
        try:
            return server.add_insecure_port(where) if credentials is None else server.add_secure_port(where, credentials)
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, str(error)) from error

    if isinstance(address, Tcp):
        try_bind(address, service)  # grpcio hides why it can't
        with refusals(address, service):
            return add(str(address)), lambda: None
    with unix_file(address, service) as path:
        add(f"unix-abstract:{path[1:]}" if path.startswith("@") else f"unix:{path}")
    return 0, remover(address)


def tls_credentials(current: Callable[[], tuple[Identity, bytes | None]]) -> grpc.ServerCredentials:
    """Credentials that ask for each connection who we are now, and which authorities (PEM) sign clients' certificates.

    Whether there are any is fixed by the first answer. grpcio takes TLS 1.2 and 1.3, with cipher suites of its own choice, and
    refuses clients without h2 in their ALPN, also those that have no ALPN at all.
    """
    known = current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called in threads of grpcio, for each connection; None when nothing has changed."""
        nonlocal known
        now = current()
        if now == known:
            return None
        known = now
        return configuration(now)

    def configuration(of: tuple[Identity, bytes | None]) -> grpc.ServerCertificateConfiguration:
        identity, authorities = of
        return grpc.ssl_server_certificate_configuration([(identity.key.pem, identity.chain.pem)], authorities)

    may_be_none: Any = fetch  # which the type stubs don't know
    return grpc.dynamic_ssl_server_credentials(configuration(known), may_be_none, known[1] is not None)
