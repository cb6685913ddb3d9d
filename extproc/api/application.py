"""From an HTTP request to the call that it means, and from what becomes of it to the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from extproc.api import openapi
from extproc.api.answers import JSON, Answer, refusal
from extproc.api.ask import Ask, Inside
from extproc.api.auth import Caller, Open, require
from extproc.api.errors import ApiError, internal, told, unavailable
from extproc.api.table import CALLS, TWIN, Call
from extproc.control.errors import DeskError
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger, peer_logger
from extproc.settings.base import SettingsError, shown
from extproc.settings.tokens import Role

_log = logger(__name__)
_faults = peer_logger(__name__)

_ANY: Final = "other"


def application(inside: Inside, instruments: Instruments, *, clock: Callable[[], float] = time.perf_counter) -> ASGIApp:
    """All calls, as ASGI. `clock` is monotonic, in seconds."""
    requests = instruments.counter(
        "extproc_api_requests_total", "Calls of the API of serving endpoints, by call and status.", ["call", "code"]
    )

    def count(call: str, status: int) -> None:
        requests.child(call, str(status)).value += 1

    calls = [*CALLS, _own_document()]
    by_path: dict[str, list[Call]] = {}
    for call in calls:
        by_path.setdefault(call.path, []).append(call)
    routes = []
    for path in sorted(by_path, key=lambda path: path.count("{")):
        # What `pt` is to its own method, it is to all others as the name of an endpoint.
        methods = ["POST"] if path == TWIN else None
        routes.append(Route(path, endpoint=_Path(inside, by_path[path], count, clock), methods=methods))
    return _WithoutSlash(Router(routes, redirect_slashes=False, default=_Nowhere(count)))


def _own_document() -> Call:
    made: list[bytes] = []

    def make() -> bytes:
        return orjson.dumps(openapi.document([*CALLS, call]))

    async def document(_: Ask) -> Answer:
        if not made:  # it takes tenths of a second, and is wanted by few
            made.append(await asyncio.to_thread(make))
        return Response(made[0], media_type=JSON)

    call = Call("GET", openapi.PATH, Role.VIEW, document, "This API, as OpenAPI 3.1", ours=True)
    return call


class _WithoutSlash:
    """The same path with and without a slash at its end: mlflow's client writes one where Databricks' has none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.endswith("/") and len(path) > 1:
            scope = {**scope, "path": path[:-1]}
        await self._app(scope, receive, send)


class _Nowhere:
    """Paths that there are not."""

    def __init__(self, count: Callable[[str, int], None]) -> None:
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        words = f"There is no {shown(scope['path'])} here; the calls of this API: {openapi.PATH}"
        self._count(_ANY, 404)
        await refusal(ApiError(404, "ENDPOINT_NOT_FOUND", words))(scope, receive, send)


class _Path:
    """The calls of one path."""

    def __init__(
        self, inside: Inside, calls: Sequence[Call], count: Callable[[str, int], None], clock: Callable[[], float]
    ) -> None:
        self._inside = inside
        self._calls = {call.method: call for call in calls}
        self._count = count
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_s = self._clock()
        request = Request(scope, receive)
        method = "GET" if request.method == "HEAD" else request.method
        call = self._calls.get(method)
        subject = ""
        answer: Answer
        try:
            if call is None:
                allowed = ", ".join(self._calls)
                words = f"method: got {shown(request.method)}; expected {allowed}"
                raise ApiError(405, "METHOD_NOT_ALLOWED", words, {"Allow": allowed})
            caller = await self._caller(call, request)
            subject = caller.subject
            answer = await call.handler(Ask(self._inside, caller, request))
        except (ApiError, DeskError, SettingsError) as error:
            answer = refusal(told(error))
        except Exception as error:
            # Neither the text of the error nor where it comes from: what a caller sent may be in both.
            _faults.error("a call of the API failed", call=method, path=_template(call), reason=type(error).__name__)
            _log.debug("a call of the API failed", exc_info=True)
            answer = refusal(internal())
        name = _ANY if call is None else call.name
        self._count(name, answer.status_code)
        took_ms = round((self._clock() - began_s) * 1e3, 1)
        _log.debug("call of the API", call=name, status=answer.status_code, subject=subject, took_ms=took_ms)
        await answer(scope, receive, send)

    async def _caller(self, call: Call, request: Request) -> Caller:
        if call.role is None:
            return Open()
        address = "" if request.client is None else request.client.host
        caller = await self._inside.guard.caller(request.headers, address)
        if not self._inside.desk.opened:
            raise unavailable("The serving endpoints are not loaded yet: their store can't be asked")
        name = request.path_params.get("name")
        if name is not None:
            await require(caller, call.role, name)
        return caller


def _template(call: Call | None) -> str:
    return "" if call is None else call.path
