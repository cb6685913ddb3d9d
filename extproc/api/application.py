"""From an HTTP request to the call that it means, and from what becomes of it to the answer."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from extproc.api import openapi
from extproc.api.answers import JSON, Answer, refusal
from extproc.api.ask import Ask, Inside
from extproc.api.auth import Caller, Open, require
from extproc.api.errors import ApiError, internal, told, unavailable
from extproc.api.page.rendering import warm
from extproc.api.page.site import BASE, site
from extproc.api.table import CALLS, TWIN, Call
from extproc.control.errors import DeskError
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger, peer_logger
from extproc.settings.base import SettingsError, shown
from extproc.settings.serving.fields import Form
from extproc.settings.tokens import Role

_log = logger(__name__)
_faults = peer_logger(__name__)

_ANY: Final = "other"
_FRAMES: Final = 5


def application(inside: Inside, instruments: Instruments, *, clock: Callable[[], float] = time.perf_counter) -> ASGIApp:
    """All calls, as ASGI. `clock` is monotonic, in seconds."""
    requests = instruments.counter(
        "extproc_api_requests_total", "Calls of the API of serving endpoints, by call and status.", ["call", "code"]
    )

    def count(call: str, status: int) -> None:
        requests.child(call, str(status)).value += 1

    by_path: dict[str, list[Call]] = {}
    for call in ALL:
        by_path.setdefault(call.path, []).append(call)
    routes = []
    for path in sorted(by_path, key=lambda path: path.count("{")):
        # What `pt` is to its own method, it is to all others as the name of an endpoint.
        methods = ["POST"] if path == TWIN else None
        routes.append(Route(path, endpoint=_Path(inside, by_path[path], count, clock), methods=methods))
    api = _WithoutSlash(Router(routes, redirect_slashes=False, default=_Nowhere(count)))
    return _Pages(site(inside, count), api)


class _Pages:
    """The page for people stands beside the API."""

    def __init__(self, pages: ASGIApp, api: ASGIApp) -> None:
        self._pages = pages
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["path"] == BASE or scope["path"].startswith(f"{BASE}/")
        await (self._pages if is_page else self._api)(scope, receive, send)


async def _own_document(_: Ask) -> Answer:
    return Response(await asyncio.to_thread(_document), media_type=JSON)


_OWN: Final = Call("GET", openapi.PATH, Role.VIEW, _own_document, "This API, as OpenAPI 3.1", ours=True)
ALL: Final = (*CALLS, _OWN)


@cache
def _document() -> bytes:
    return orjson.dumps(openapi.document(ALL))


def prepare() -> None:
    """Build what is the same in every process, and takes some tenths of a second at once: forms of bodies,
    templates of pages, and `_document`.
    """
    warm()
    forms: list[type[Form]] = [Form]
    while forms:
        form = forms.pop()
        form.model_rebuild()
        forms += form.__subclasses__()
    _document()


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
            # Where and of what kind, and not its text: what a caller sent may be in that.
            _faults.error("a call of the API failed", call=_name(call), reason=type(error).__name__, where=_where(error))
            answer = refusal(internal())
        name = _name(call)
        self._count(name, answer.status_code)
        took_ms = round((self._clock() - began_s) * 1e3, 1)
        _log.debug("call of the API", call=name, status=answer.status_code, subject=subject, took_ms=took_ms)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await answer(scope, receive, sending)
        except Exception as error:
            _faults.error("an answer of the API was cut", call=name, reason=type(error).__name__, where=_where(error))
            if not begun:  # otherwise the server cuts what has no end
                await refusal(internal())(scope, receive, send)

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


def _name(call: Call | None) -> str:
    return _ANY if call is None else call.name


def _where(error: BaseException) -> list[str]:
    """The last lines of code that led to it."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return [f"{Path(frame.filename).stem}:{frame.lineno} {frame.name}" for frame in frames]
