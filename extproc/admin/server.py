"""The pages on the metrics port.

| page | what |
|---|---|
| GET /metrics | Prometheus |
| GET /healthz | 200 while the process runs |
| GET /readyz | 200 when ready, 503 with the reason before and while draining |
| GET /debug/endpoints | every endpoint with its signals and their age |
| GET /debug/decisions?request_id=&limit= | the last decisions, newest first |
| POST /debug/explain | a request in, the decision with every candidate's signals and points out; nothing is sent or counted |

With a guard, /metrics and /debug need a bearer token.
"""

from __future__ import annotations

import errno
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder

from extproc.domain import RequestHead
from extproc.observability.decisions import DecisionLog, DecisionRecord
from extproc.pool import MemberView, PoolStore

_MAX_EXPLAIN_BYTES: Final = 8 * 2**20

_EXPLAIN_HELP: Final = (
    'expected a JSON object such as {"path": "/v1/chat/completions", "headers": {}, "body": {"model": "..."}}; '
    "body may also be a string"
)


@dataclass(frozen=True, slots=True)
class Inside:
    """What the pages show. `explain` is the director's; None where there is nothing to explain."""

    registry: CollectorRegistry
    unready: Callable[[], str | None]
    """Why we are not ready, None when we are."""
    stores: Mapping[str, PoolStore] = field(default_factory=dict)
    decisions: DecisionLog | None = None
    explain: Callable[[RequestHead, bytes | None], dict[str, Any]] | None = None


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

    def __init__(self, inside: Inside, guard: Guard | None = None) -> None:
        self._inside = inside
        middlewares = [] if guard is None else [_guarded(guard)]
        app = web.Application(client_max_size=_MAX_EXPLAIN_BYTES, middlewares=middlewares)
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/debug/endpoints", self._endpoints),
                web.get("/debug/decisions", self._decisions),
                web.post("/debug/explain", self._explain),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)

    async def start(self, host: str, port: int, *, reuse_port: bool = False, tls: ssl.SSLContext | None = None) -> int:
        """Listen; return the port. Raises OSError with the port's name and number."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, reuse_port=reuse_port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise OSError(
                error.errno or errno.EADDRINUSE,
                f"metrics port {port}: cannot listen on {host}:{port}: {error.strerror}",
            ) from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _index(self, _: web.Request) -> web.Response:
        pages = ["/metrics", "/healthz", "/readyz", "/debug/endpoints", "/debug/decisions", "POST /debug/explain"]
        return web.Response(text="extproc\n\n" + "\n".join(pages) + "\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        registry: Any = self._inside.registry
        wanted = request.query.getall("name[]", [])
        if wanted:
            registry = _Named(registry, frozenset(wanted))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self._inside.unready()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"not ready: {reason}\n")

    async def _endpoints(self, _: web.Request) -> web.Response:
        pools = [
            {"pool": name, "endpoints": [_endpoint(view) for view in store.describe()]}
            for name, store in self._inside.stores.items()
        ]
        return _json({"pools": pools})

    async def _decisions(self, request: web.Request) -> web.Response:
        log = self._inside.decisions
        if log is None:
            return _json({"decisions": []})
        limit = request.query.get("limit", "100")
        if not limit.isdigit():
            return _json({"error": f"limit: expected a number (got {limit!r})"}, 400)
        found = log.latest(request_id=request.query.get("request_id"), limit=int(limit))
        return _json({"decisions": [_decision(record) for record in found]})

    async def _explain(self, request: web.Request) -> web.Response:
        if self._inside.explain is None:
            return _json({"error": "this server has nothing to explain"}, 404)
        raw = await request.read()
        try:
            asked = json.loads(raw)
        except ValueError:
            return _json({"error": f"not JSON: {_EXPLAIN_HELP}"}, 400)
        problem = _problem(asked)
        if problem:
            return _json({"error": f"{problem}: {_EXPLAIN_HELP}"}, 400)
        head, body = _request(asked)
        return _json(self._inside.explain(head, body))


_OPEN: Final = ("/", "/healthz", "/readyz")
"""What kubelets and people may see without a token."""


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


class _Named:
    """The samples of a registry that are asked for by name. The registry's own restriction knows only the names that a
    collector had when it was registered, and ours get theirs later."""

    def __init__(self, registry: CollectorRegistry, wanted: frozenset[str]) -> None:
        self._registry, self._wanted = registry, wanted

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            chosen = [sample for sample in metric.samples if sample.name in self._wanted]
            if chosen:
                restricted = Metric(metric.name, metric.documentation, metric.type)
                restricted.samples = chosen
                yield restricted


def _problem(asked: Any) -> str | None:
    if not isinstance(asked, dict):
        return "not an object"
    unknown = set(asked) - {"path", "method", "headers", "body", "subset"}
    if unknown:
        return f"unknown key {sorted(unknown)[0]!r}"
    headers = asked.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        return "headers: expected an object of strings"
    subset = asked.get("subset")
    if subset is not None and not (isinstance(subset, list) and all(isinstance(hint, str) for hint in subset)):
        return "subset: expected a list of ip:port"
    if not isinstance(asked.get("path", ""), str) or not isinstance(asked.get("method", ""), str):
        return "path and method: expected strings"
    return None


def _request(asked: dict[str, Any]) -> tuple[RequestHead, bytes | None]:
    body = asked.get("body")
    encoded = b"" if body is None else body.encode() if isinstance(body, str) else orjson.dumps(body)
    headers = {
        ":method": asked.get("method", "POST" if encoded else "GET"),
        ":path": asked.get("path", "/v1/chat/completions"),
        "content-type": "application/json",
        **{name.lower(): value for name, value in asked.get("headers", {}).items()},
    }
    subset = asked.get("subset")
    head = RequestHead(
        {name: value.encode("latin-1", "replace") for name, value in headers.items()},
        None if subset is None else tuple(subset),
    )
    return head, encoded


def _endpoint(view: MemberView) -> dict[str, Any]:
    age = None if view.age_s is None else round(view.age_s, 3)

    def signal(value: object) -> dict[str, Any]:
        return {
            "value": value,
            "age_s": age if value is not None else None,
            "usable": view.fresh and not view.down and value is not None,
        }

    load = view.load
    return {
        "endpoint": view.endpoint.key,
        "name": view.endpoint.name,
        "namespace": view.endpoint.namespace,
        "labels": dict(view.endpoint.labels),
        "state": "down" if view.down else "fresh" if view.fresh else "unknown" if view.age_s is None else "stale",
        "failure": view.failure,
        "in_flight": view.in_flight,
        "picks": view.picks,
        "waiting_projected": view.waiting_projected,
        "unseen": view.unseen,
        "signals": {
            "waiting": signal(load.waiting),
            "running": signal(load.running),
            "kv_usage": signal(load.kv_usage),
            "kv_block_size": signal(load.kv_block_size),
            "kv_blocks": signal(load.kv_blocks),
            "running_loras": signal(load.running_loras),
            "waiting_loras": signal(load.waiting_loras),
            "max_loras": signal(load.max_loras),
        },
    }


def _decision(record: DecisionRecord) -> dict[str, Any]:
    def known(value: float) -> float | None:
        return value if value == value else None

    return {
        "at": record.at_s,
        "request_id": record.request_id,
        "model": record.model,
        "target_model": record.target_model or record.model,
        "priority": record.priority,
        "pool": record.pool,
        "endpoint": record.endpoint.key,
        "name": record.endpoint.name,
        "fallbacks": list(record.fallbacks),
        "served": record.outcome.served or None,
        "status": record.outcome.status,
        "score": record.score,
        "candidates": record.candidates,
        "signals": {
            "waiting": known(record.waiting),
            "running": known(record.running),
            "kv_usage": known(record.kv_usage),
            "in_flight": record.in_flight,
        },
        "reason": record.reason(),
        "took_ms": round(record.took_s * 1e3, 4),
    }


def _json(value: object, status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type="application/json")
