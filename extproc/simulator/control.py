"""What a simulated server has that vLLM doesn't: faults, synthetic load, a log of requests, all under /sim."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Annotated, Literal, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from extproc.settings.base import explain
from extproc.settings.sim import Fault, FaultTarget, parse_fault
from extproc.simulator import faults
from extproc.simulator.api import ApiError
from extproc.simulator.faults import FaultBook
from extproc.simulator.generation import FAULT, hang_up
from extproc.simulator.metrics import SimMetrics, SyntheticLoad

KEPT_REQUESTS = 100
_REASONS = {500: "InternalServerError", 501: "NotImplementedError", 503: "ServiceUnavailableError"}
_CHUNK_BYTES = 1 << 16
_COMPUTED = frozenset(
    {
        *("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/embeddings"),
        *("/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"),
    }
)

Model = TypeVar("Model", bound=BaseModel)


class _Control(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LoadBody(_Control):
    """POST /sim/load."""

    waiting: Annotated[int, Field(ge=0)] = 0
    running: Annotated[int, Field(ge=0)] = 0
    kv_usage: Annotated[float, Field(ge=0, le=1)] = 0.0
    waiting_loras: tuple[str, ...] = ()
    running_loras: tuple[str, ...] = ()


class FaultBody(_Control):
    """POST /sim/faults; no `fault` clears the target's."""

    fault: str | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    target: FaultTarget = "requests"


class RequestLog:
    """The last requests, as they came in: headers with their case and order."""

    def __init__(self) -> None:
        self._kept: deque[dict[str, object]] = deque(maxlen=KEPT_REQUESTS)

    def add(self, request: web.Request, body: bytes, sha256: str) -> None:
        """Keep a request; its model is what the body says, if it says any."""
        self._kept.append(
            {
                "method": request.method,
                "path": request.path_qs,
                "headers": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in request.raw_headers],
                "model": _model_of(body),
                "body_bytes": len(body),
                "body_sha256": sha256,
            }
        )

    def newest_last(self) -> list[dict[str, object]]:
        """The requests in the order of their arrival."""
        return list(self._kept)


def _model_of(body: bytes) -> str | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    model = document.get("model") if isinstance(document, dict) else None
    return model if isinstance(model, str) else None


class Control:
    """Handlers of /sim/load, /sim/faults and /sim/requests."""

    def __init__(self, book: FaultBook, metrics: SimMetrics, log: RequestLog) -> None:
        self._book, self._metrics, self._log = book, metrics, log

    async def set_load(self, request: web.Request) -> web.Response:
        """POST /sim/load: show this load on top of what is true; `{}` shows the truth again."""
        body = _validated(LoadBody, await request.read())
        self._metrics.set_load(SyntheticLoad(**body.model_dump()))
        return _json(body.model_dump())

    async def set_fault(self, request: web.Request) -> web.Response:
        """POST /sim/faults."""
        body = _validated(FaultBody, await request.read())
        if body.fault is None:
            self._book.clear(body.target)
        else:
            try:
                self._book.set(body.target, parse_fault(body.fault, body.target), body.count)
            except ValueError as error:
                raise control_error([str(error)]) from None
        return _json(self._book.listing())

    async def faults(self, request: web.Request) -> web.Response:
        """GET /sim/faults, and DELETE to clear all of them."""
        if request.method == "DELETE":
            self._book.clear()
        return _json(self._book.listing())

    async def requests(self, _: web.Request) -> web.Response:
        """GET /sim/requests."""
        return _json({"requests": self._log.newest_last()})


def control_error(problems: list[str]) -> ApiError:
    """What /sim answers to a body it can't use."""
    return ApiError(400, "BadRequestError", "; ".join(problems))


def _json(document: object) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _validated(model: type[Model], body: bytes) -> Model:
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise control_error(explain(error)) from None


def target_of(path: str) -> FaultTarget | Literal["control"] | None:
    """What a path is to faults; None is a page that no standing fault strikes (the model list, say)."""
    if path.startswith("/sim/"):
        return "control"
    if path.startswith("/metrics"):
        return "metrics"
    if path in ("/health", "/ping"):
        return "health"
    return "requests" if path in _COMPUTED or path.startswith("/v1/responses") else None


def take_fault(book: FaultBook, request: web.Request) -> Fault | None:
    """The fault that strikes this request. Raises ApiError when its header asks for an unknown one."""
    target = target_of(request.path)
    header = request.headers.get(faults.HEADER)
    if target == "control" or (target is None and header is None):
        return None
    try:
        return book.take(target or "requests", header)
    except ValueError as error:
        raise ApiError(400, "BadRequestError", str(error), faults.HEADER) from None


async def strike(fault: Fault, request: web.Request) -> web.StreamResponse | None:
    """Let the fault happen. None means that the request goes on, late or to be cut short (see `cut`)."""
    if fault.kind == "slow":
        await asyncio.sleep(fault.delay_s)
    elif fault.kind == "status":
        kind = _REASONS.get(fault.status, "BadRequestError" if fault.status < 500 else "InternalServerError")
        error = ApiError(fault.status, kind, f"fault asked for: {fault.status}")
        return web.Response(body=error.body(), status=fault.status, content_type="application/json")
    elif fault.kind == "hang":
        await asyncio.Event().wait()
    elif fault.kind == "drop":
        await hang_up(request)
    elif fault.kind == "garbage":
        return web.Response(body=faults.GARBAGE, headers={"Content-Type": "text/plain; version=1.0.0; charset=utf-8"})
    elif fault.kind == "huge":
        return await _huge(request)
    else:
        request[FAULT] = fault
    return None


async def cut(fault: Fault, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """`drop-after=N` for an answer that is no stream: its headers, N bytes of it, and the connection closes."""
    if response.prepared or not isinstance(response, web.Response):
        return response
    body = response.body if isinstance(response.body, bytes) else b""
    partial = web.StreamResponse(status=response.status, headers=response.headers)
    partial.content_length = len(body)
    await partial.prepare(request)
    await partial.write(body[: fault.after])
    await hang_up(request)
    return partial


async def _huge(request: web.Request) -> web.StreamResponse:
    """A page that a scraper must not keep in memory: valid lines, far too many."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain; version=1.0.0; charset=utf-8"})
    await response.prepare(request)
    line = b'vllm:num_requests_waiting{engine="0",model_name="huge"} 0.0\n'
    chunk = line * (_CHUNK_BYTES // len(line))
    for _ in range(-(-faults.HUGE_BYTES // len(chunk))):
        await response.write(chunk)
    await response.write_eof()
    return response
