"""The page as ASGI: from a request to its view, and from what becomes of it to an answer in HTML."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from extproc.api.answers import Answer
from extproc.api.ask import Inside
from extproc.api.auth import require
from extproc.api.errors import ApiError, denied, internal, told, unavailable
from extproc.api.page import changes, decisions, endpoints, login, one, plots, pools, rollouts, splitting, trying
from extproc.api.page.assets import assets
from extproc.api.page.figures import Figures
from extproc.api.page.kept import Kept
from extproc.api.page.live import Streams
from extproc.api.page.packing import Packing, takes_gzip
from extproc.api.page.pool_figures import PoolFigures
from extproc.api.page.rendering import page
from extproc.api.page.visit import Site, Visit, form_of
from extproc.api.page.visitor import arrived_by_link, as_caller, from_here, token_of
from extproc.control.errors import DeskError
from extproc.observability.logs import peer_logger
from extproc.settings.base import SettingsError, shown
from extproc.settings.tokens import Role

_faults = peer_logger(__name__)

BASE: Final = "/ui"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SECURITY: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_KEPT: Final = "public, max-age=31536000, immutable"

View = Callable[[Visit], Awaitable[Answer]]


class Page(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    role: Role
    """With an endpoint in the path, what the visitor may have to do with it."""
    view: View


_VIEW, _MANAGE = Role.VIEW, Role.MANAGE
PAGES: Final = (
    Page("GET", "/ui/", _VIEW, endpoints.listed),
    Page("GET", "/ui/live", _VIEW, endpoints.live),
    Page("GET", "/ui/decisions", _VIEW, decisions.found),
    Page("GET", "/ui/try", _VIEW, trying.form),
    Page("POST", "/ui/try", _VIEW, trying.tried),
    Page("GET", "/ui/audit", _VIEW, changes.listed),
    Page("GET", "/ui/audit/check", _VIEW, changes.check),
    Page("GET", "/ui/audit/export", _VIEW, changes.export),
    Page("GET", "/ui/new", _VIEW, splitting.new),
    Page("POST", "/ui/new", _VIEW, splitting.create),
    Page("GET", "/ui/endpoints/{name}", _VIEW, one.shown),
    Page("GET", "/ui/endpoints/{name}/history", _VIEW, one.history),
    Page("GET", "/ui/endpoints/{name}/plots", _VIEW, plots.of_endpoint),
    Page("GET", "/ui/pools", _VIEW, pools.listed),
    Page("GET", "/ui/pool", _VIEW, pools.one),
    Page("GET", "/ui/pool/live", _VIEW, pools.live),
    Page("GET", "/ui/pool/plots", _VIEW, pools.plots),
    Page("GET", "/ui/pool/endpoint", _VIEW, pools.endpoint),
    Page("GET", "/ui/rollouts", _VIEW, rollouts.listed),
    Page("GET", "/ui/endpoints/{name}/rollout", _VIEW, rollouts.one),
    Page("GET", "/ui/endpoints/{name}/rollout/plots", _VIEW, rollouts.plots),
    Page("POST", "/ui/endpoints/{name}/rollout", _MANAGE, rollouts.start),
    Page("POST", "/ui/endpoints/{name}/rollout/command", _MANAGE, rollouts.command),
    Page("POST", "/ui/endpoints/{name}/split", _MANAGE, splitting.split),
    Page("POST", "/ui/endpoints/{name}/revert", _MANAGE, splitting.revert),
)


def site(inside: Inside, count: Callable[[str, int], None], *, clock: Callable[[], float] = time.monotonic) -> ASGIApp:
    """Everything below `/ui`. `count` is told each call and its status; `clock` is monotonic, in seconds."""
    figures = Figures(inside.desk, inside.table, inside.ready, inside.measures, clock, inside.held)
    return _Site(Site(inside, figures, Streams(figures, clock), Kept(clock), PoolFigures(inside.pools, clock)), count)


class _Site:
    def __init__(self, shared: Site, count: Callable[[str, int], None]) -> None:
        self._site = shared
        self._count = count
        self._pages = [(Route(each.path, endpoint=_unused, methods=[each.method]), each) for each in PAGES]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        name, encodings = "GET /ui/static", request.headers.get("accept-encoding", "")
        if scope["path"].startswith("/ui/static/"):
            answer: Answer = _asset(scope["path"], encodings)
        else:
            name, answer = await self._answer(scope, request)
        self._count(name, answer.status_code)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                given = {key for key, _ in message["headers"]}
                more = [*_SECURITY] if b"cache-control" in given else [*_SECURITY, (b"cache-control", b"no-store")]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        packs = request.method != "HEAD" and takes_gzip(encodings)
        try:
            await answer(scope, receive, Packing(sending) if packs else sending)
        except Exception as error:
            _faults.error("a page was cut", call=name, reason=type(error).__name__)
            if not begun:
                await self._refused(request, internal())(scope, receive, sending)

    async def _answer(self, scope: Scope, request: Request) -> tuple[str, Answer]:
        name = "other"
        try:
            found = self._find(scope, request)
            if found is None:
                return name, await self._beside(request)
            name = f"{found.method} {found.path}"
            return name, await found.view(await self._visit(found, request))
        except (ApiError, DeskError, SettingsError) as error:
            return name, self._refused(request, told(error))
        except Exception as error:
            # Not its text: what a visitor sent may be in that.
            _faults.error("a page failed", call=name, reason=type(error).__name__)
            return name, self._refused(request, internal())

    def _find(self, scope: Scope, request: Request) -> Page | None:
        looked = _looked(scope)
        for route, each in self._pages:
            match, found = route.matches(looked)
            if match is Match.FULL and each.method == ("GET" if request.method == "HEAD" else request.method):
                scope["path_params"] = found["path_params"]
                return each
        return None

    async def _beside(self, request: Request) -> Answer:
        """What needs no visitor who is known: the login, and its end."""
        path, guard = request.url.path.rstrip("/"), self._site.inside.guard
        if path == login.LOGIN and request.method in ("GET", "HEAD"):
            return login.form(self._site.inside, request)
        if path in (login.LOGIN, login.LOGOUT) and request.method == "POST":
            _from_here(request)
            if path == login.LOGOUT:
                return login.leave(request)
            fields = await form_of(request, self._site.inside.body_timeout_s)
            return await login.enter(self._site.inside, guard, request, fields)
        allowed = self._methods(request.scope)
        if allowed:
            words = f"method: got {shown(request.method)}; expected {allowed}"
            raise ApiError(405, "METHOD_NOT_ALLOWED", words, {"Allow": allowed})
        raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", "There is no such page")

    def _methods(self, scope: Scope) -> str:
        """With which a page is there, '' for no page."""
        looked = _looked(scope)
        return ", ".join([each.method for route, each in self._pages if route.matches(looked)[0] is not Match.NONE])

    async def _visit(self, found: Page, request: Request) -> Visit:
        posts = found.method == "POST"
        if posts:
            _from_here(request)
        address = "" if request.client is None else request.client.host
        inside = self._site.inside
        caller = await inside.guard.caller(as_caller(request.headers, changes=posts), address)
        if not inside.desk.opened:
            raise unavailable("The serving endpoints are not loaded yet: their store can't be asked")
        name = request.path_params.get("name")
        if name is not None:
            await require(caller, found.role, name)
        visit = Visit(self._site, caller, request, token_of(request.headers) is not None)
        if posts:
            visit.form = await form_of(request, inside.body_timeout_s)
        return visit

    def _refused(self, request: Request, error: ApiError) -> Answer:
        slices = self._site.inside.slices
        partly = request.headers.get("hx-request") == "true"
        if error.status == 401:
            if arrived_by_link(request.headers):
                # The cookie was not sent, as the link stands elsewhere. The next look comes from a page of ours.
                return page(slices, "again.html", {"path": _here(request)})
            where = f"{login.LOGIN}?next={quote(_here(request), safe='')}"
            if partly:
                return Response(status_code=401, headers={"HX-Redirect": where})
            if request.method == "GET" and request.headers.get("accept", "").find("text/html") >= 0:
                return Response(status_code=303, headers={"Location": where})
        context = {"message": error.message, "status": error.status, "subject": "", "leaves": False, "path": _here(request)}
        template = "problems.html" if partly else "error.html"
        return page(slices, template, context | {"problems": [error.message]}, status=error.status, headers=error.headers)


def _looked(scope: Scope) -> Scope:
    """The same with and without a slash at the end of its path."""
    path = scope["path"].rstrip("/")
    return {**scope, "path": "/ui/" if path == BASE else path or "/"}


def _from_here(request: Request) -> None:
    """Raises ApiError for a form that a page of somebody else has sent."""
    if not from_here(request.headers):
        raise denied("This did not come from a page of this gateway: nothing was changed")


def _here(request: Request) -> str:
    """The page that is asked for, or, for what changes something, the one that it was sent from."""
    if request.method not in ("GET", "HEAD"):
        return "/ui/"
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


def _asset(path: str, encodings: str) -> Response:
    found = assets().get(path.removeprefix("/ui/static/"))
    if found is None:
        return Response(b"There is no such file\n", 404, media_type="text/plain")
    headers = {"content-type": found.content_type, "cache-control": _KEPT, "vary": "Accept-Encoding"}
    if takes_gzip(encodings):
        return Response(found.packed, headers={**headers, "content-encoding": "gzip"})
    return Response(found.content, headers=headers)


async def _unused(request: Request) -> Response:
    raise AssertionError("routes are matched only")
