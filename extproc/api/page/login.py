"""The way in and out: a token from a form goes into a cookie, if the API knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from extproc.api.answers import Answer
from extproc.api.ask import Inside
from extproc.api.auth import Guard
from extproc.api.errors import ApiError
from extproc.api.page.rendering import page
from extproc.api.page.visitor import as_caller, cookie, home, presentable

LOGIN: Final = "/ui/login"
LOGOUT: Final = "/ui/logout"
_NO_TOKEN: Final = "That is no token: expected visible letters without blanks"


def form(inside: Inside, request: Request) -> Answer:
    """Where a token is asked for."""
    return _form(inside, home(request.query_params.get("next", "")), "", 200)


async def enter(inside: Inside, guard: Guard, request: Request, fields: Mapping[str, str]) -> Answer:
    """The token becomes a cookie, and the visitor goes to the page that was wanted."""
    token, wanted = fields.get("token", "").strip(), home(fields.get("next", ""))
    if not presentable(token):
        return _form(inside, wanted, _NO_TOKEN, 400)
    headers = as_caller(request.headers, changes=True) | {"authorization": f"Bearer {token}"}
    try:
        await guard.caller(headers, "" if request.client is None else request.client.host)
    except ApiError as error:
        return _form(inside, wanted, error.message, error.status)
    return Response(status_code=303, headers={"Location": wanted, "Set-Cookie": cookie(token, request.headers)})


def leave(request: Request) -> Answer:
    """The cookie goes."""
    return Response(status_code=303, headers={"Location": LOGIN, "Set-Cookie": cookie("", request.headers)})


def _form(inside: Inside, wanted: str, problem: str, status: int) -> Answer:
    return page(
        inside.slices, "login.html", {"next": wanted, "problem": problem, "subject": "", "leaves": False}, status=status
    )
