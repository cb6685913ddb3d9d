"""The pages on the metrics port.

| page | what |
|---|---|
| GET /metrics | Prometheus |
| GET /healthz | 200 while the process runs |
| GET /readyz | 200 when ready, 503 with the reason before and while draining |
| GET /debug/endpoints | every endpoint with its signals and their age |
| GET /debug/decisions?request_id=&limit= | the last decisions, newest first |
| GET /debug/plugins | the plugins of each pool: who they are, whom they need, and what those say that keep something |
| GET /debug/shadows | the shadows of serving endpoints: what was copied, and how their answers differ; no bodies |
| GET /debug/registry | what the registry of models has said last, and how old that is |
| POST /debug/explain | a request in, the decision with the candidates' signals and points out; nothing is sent or counted |

With a guard, /metrics and /debug need a bearer token. Whoever asks, and for whatever: picks wait for a slice of a page, not for
the page (`slices`), and clients that say half a request, or don't take their answer, are let go (`bounds`).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Metric

from extproc.admin.plugins import PluginsOfPool
from extproc.admin.shapes import endpoint_shape
from extproc.admin.slices import PageSlices, json_list
from extproc.domain import RequestHead
from extproc.observability.decisions import DecisionLog
from extproc.observability.exposition import choose, exposition
from extproc.observability.shapes import decision_shape
from extproc.pool import PoolStore
from extproc.request.asked import HELP, problem_of, request_of
from extproc.sockets.accept import Acceptor
from extproc.sockets.bounds import Bounds, Connections
from extproc.sockets.listen import Tcp, listen

_PATIENCE_S: Final = 1.0
"""For pages that are under way when the server stops."""
MAX_EXPLAIN_BYTES: Final = 256 * 2**10
"""Of a question to /debug/explain: reading it is as much work as a pick of that size."""

Debug = Literal["everywhere", "loopback", "off"]
"""Who is shown /debug: everybody whom the guard lets through, who asks from this machine, nobody."""

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
"""And not all of 127/8: a service mesh's proxy hands on what comes from elsewhere as 127.0.0.6."""

_JSON: Final = "application/json; charset=utf-8"


ShadowShapes: TypeAlias = Callable[[], Sequence[object]]
"""The shadows of all endpoints, in shapes for JSON."""
RegistryShape: TypeAlias = Callable[[], Mapping[str, object]]
"""What is known of a registry of models, by name."""


@dataclass(frozen=True, slots=True)
class Inside:
    """What the pages show. `explain` is the director's; None where there is nothing to explain."""

    metrics: Callable[[], Iterable[Metric | None]]
    """A little at a time; None is a step on the way."""
    unready: Callable[[], str | None]
    """Why we are not ready, None when we are."""
    stores: Mapping[str, PoolStore] = field(default_factory=dict)
    decisions: DecisionLog | None = None
    explain: Callable[[RequestHead, bytes | None], dict[str, Any]] | None = None
    plugins: Mapping[str, PluginsOfPool] = field(default_factory=dict)
    """By pool."""
    shadows: ShadowShapes | None = None
    """None where there can be none."""
    registry: RegistryShape | None = None
    """None where there is none."""


class Refused(Protocol):
    """Why somebody may not read a page."""

    @property
    def status(self) -> int: ...

    @property
    def text(self) -> str: ...


class Guard(Protocol):
    """Knows who may read pages."""

    async def refusal(self, authorization: str, method: str, path: str) -> Refused | None:
        """None for a yes. Raises nothing."""
        ...


class AdminServer:
    """Serves the pages."""

    def __init__(
        self, inside: Inside, guard: Guard | None = None, *, debug: Debug = "everywhere", bounds: Bounds = Bounds()
    ) -> None:
        self._inside = inside
        self._bounds = bounds
        self._slices = PageSlices()
        self._explaining = False
        self._connections = Connections(bounds, lambda: self._handler())
        middlewares = [_answering(self._connections), _debug_for(debug)]
        if guard is not None:
            middlewares.append(_guarded(guard))
        app = web.Application(client_max_size=MAX_EXPLAIN_BYTES, middlewares=middlewares)
        app.on_response_prepare.append(_close_behind_half_a_request)
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/debug/endpoints", self._endpoints),
                web.get("/debug/decisions", self._decisions),
                web.get("/debug/plugins", self._plugins),
                web.get("/debug/shadows", self._shadows),
                web.get("/debug/registry", self._registry),
                web.post("/debug/explain", self._explain),
            ]
        )
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_PATIENCE_S,
            keepalive_timeout=bounds.idle_timeout_s,
            lingering_time=bounds.linger_s,
            logger=_logger(),
        )
        self._acceptor: Acceptor | None = None

    async def start(self, host: str, port: int, *, reuse_port: bool = False, tls: ssl.SSLContext | None = None) -> int:
        """Listen; return the port. Raises BindError with the port's name and number."""
        listener = listen(Tcp(host, port, reuse_port), "metrics")
        await self._runner.setup()
        self._acceptor = Acceptor(
            listener,
            self._connections,
            tls,
            shutdown_timeout_s=_PATIENCE_S,
            settled=lambda: None,
            handshake_timeout_s=self._bounds.header_timeout_s,
            crowd=self._connections,
        )
        self._acceptor.open()
        return listener.port

    async def stop(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor.abort()
        await self._runner.cleanup()

    def _handler(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None, "there are no connections before start"
        return server()

    async def _index(self, _: web.Request) -> web.Response:
        pages = ["/metrics", "/healthz", "/readyz"]
        pages += ["/debug/endpoints", "/debug/decisions", "/debug/plugins", "/debug/shadows", "/debug/registry"]
        pages.append("POST /debug/explain")
        return web.Response(text="extproc\n\n" + "\n".join(pages) + "\n")

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        encode, content_type = choose(request.headers.get("Accept", ""))
        wanted = frozenset(request.query.getall("name[]", []))
        return await self._slices.respond(request, exposition(self._inside.metrics(), encode, wanted), content_type)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self._inside.unready()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"not ready: {reason}\n")

    async def _endpoints(self, request: web.Request) -> web.StreamResponse:
        return await self._slices.respond(request, self._pools(), _JSON)

    async def _plugins(self, request: web.Request) -> web.StreamResponse:
        pools = {name: pool.shapes() for name, pool in self._inside.plugins.items()}
        return await self._slices.respond(request, self._by_pool("plugins", pools), _JSON)

    async def _shadows(self, request: web.Request) -> web.StreamResponse:
        shadows = self._inside.shadows
        return await self._slices.respond(request, self._list("shadows", [] if shadows is None else shadows()), _JSON)

    async def _registry(self, request: web.Request) -> web.StreamResponse:
        registry = self._inside.registry
        return await self._slices.respond(request, self._named({} if registry is None else registry()), _JSON)

    @staticmethod
    def _named(values: Mapping[str, object]) -> Iterator[bytes]:
        yield orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n"

    def _pools(self) -> Iterator[bytes]:
        return self._by_pool(
            "endpoints", {name: map(endpoint_shape, store.views()) for name, store in self._inside.stores.items()}
        )

    @staticmethod
    def _by_pool(what: str, pools: Mapping[str, Iterable[object]]) -> Iterator[bytes]:
        between = b""
        yield b'{\n  "pools": ['
        for name, items in pools.items():
            yield between + b'\n    {\n      "pool": ' + orjson.dumps(name) + b",\n      " + orjson.dumps(what) + b": "
            yield from json_list(items, 3)
            yield b"\n    }"
            between = b","
        yield b"\n  ]\n}\n" if between else b"]\n}\n"

    async def _decisions(self, request: web.Request) -> web.StreamResponse:
        log = self._inside.decisions
        limit = request.query.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
            return _json({"error": f"limit: expected a number (got {limit[:40]!r})"}, 400)
        records = [] if log is None else list(log.latest(request_id=request.query.get("request_id"), limit=int(limit)))
        return await self._slices.respond(request, self._list("decisions", map(decision_shape, records)), _JSON)

    @staticmethod
    def _list(name: str, items: Iterable[object]) -> Iterator[bytes]:
        yield b"{\n  " + orjson.dumps(name) + b": "
        yield from json_list(items, 1)
        yield b"\n}\n"

    async def _explain(self, request: web.Request) -> web.Response:
        if self._inside.explain is None:
            return _json({"error": "this server has nothing to explain"}, 404)
        try:
            if (request.content_length or 0) > MAX_EXPLAIN_BYTES:
                raise web.HTTPRequestEntityTooLarge(MAX_EXPLAIN_BYTES, request.content_length or 0)
            raw = await _within(request.read(), self._bounds.body_timeout_s)
        except web.HTTPRequestEntityTooLarge:
            return _json({"error": f"body: expected at most {MAX_EXPLAIN_BYTES} bytes"}, 413)
        if self._explaining:
            busy = _json({"error": "one explanation at a time, and one is being made"}, 429)
            busy.headers["Retry-After"] = "1"
            return busy
        self._explaining = True
        try:
            async with self._slices.turn():
                return self._explanation(self._inside.explain, raw)
        finally:
            self._explaining = False

    @staticmethod
    def _explanation(explain: Callable[[RequestHead, bytes | None], dict[str, Any]], raw: bytes) -> web.Response:
        try:
            asked = orjson.loads(raw)
        except ValueError:
            return _json({"error": f"not JSON: {HELP}"}, 400)
        problem = problem_of(asked)
        if problem:
            return _json({"error": f"{problem}: {HELP}"}, 400)
        head, body = request_of(asked)
        return _json(explain(head, body))


_OPEN: Final = ("/", "/healthz", "/readyz")
"""What kubelets and people may see without a token."""


def _answering(connections: Connections) -> Middleware:
    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Outermost: a request's headers are here, and its answer is next."""
        with connections.answering(request.protocol):
            return await handler(request)

    return answer


async def _close_behind_half_a_request(request: web.Request, response: web.StreamResponse) -> None:
    """The answer comes before the whole request has: what is left of it is dropped, and its sender must put no other request
    behind it, on a connection that may hear no more (RFC 9112, section 9.3).
    """
    if not request.content.is_eof():
        response.force_close()
        response.headers["Connection"] = "close"  # the line is made already


async def _within(reading: Awaitable[bytes], timeout_s: float) -> bytes:
    """A request's body. Raises HTTPRequestTimeout when it does not come."""
    try:
        async with asyncio.timeout(timeout_s):
            return await reading
    except TimeoutError:
        # What may still come of it belongs to no request any more.
        raise web.HTTPRequestTimeout(
            text=f"the body did not come within {timeout_s:g} s\n", headers={"Connection": "close"}
        ) from None


def _guarded(guard: Guard) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in _OPEN:
            refused = await guard.refusal(request.headers.get("Authorization", ""), request.method, request.path)
            if refused is not None:
                headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
                return web.Response(status=refused.status, text=f"{refused.text}\n", headers=headers)
        return await handler(request)

    return check


def _debug_for(debug: Debug) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if debug != "everywhere" and request.path.startswith("/debug"):
            if debug == "off":
                return web.Response(status=404, text="--debug-pages=off\n")
            if not _is_local(request):
                refusal = "/debug is only for who asks from this machine; --debug-pages=on opens it to everybody\n"
                return web.Response(status=403, text=refusal)
        return await handler(request)

    return check


def _is_local(request: web.Request) -> bool:
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("peername")
    return isinstance(peer, tuple) and peer[0] in _LOOPBACK


def _logger() -> logging.Logger:
    """Of aiohttp, without requests that are no HTTP: they are a client's affair, and have what he sent in their message."""
    logger = logging.getLogger("extproc.admin.http")
    logger.filters[:] = [_not_a_clients]
    return logger


def _not_a_clients(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


def _json(value: object, status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type="application/json")
