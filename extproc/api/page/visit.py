"""One look at a page, as views see it: who looks, what the form says, and the answers that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from extproc.api.answers import Answer
from extproc.api.ask import Inside, body_of
from extproc.api.auth import Caller
from extproc.api.errors import ApiError, malformed
from extproc.api.page.figures import Figures
from extproc.api.page.kept import Kept
from extproc.api.page.live import Streams
from extproc.api.page.pool_figures import PoolFigures
from extproc.api.page.rendering import page
from extproc.control.changes import DeskChange, Origin
from extproc.control.desk import Applied

_MOST_BYTES: Final = 64 * 2**10
_MOST_FIELDS: Final = 1000


@dataclass(frozen=True, slots=True)
class Site:
    """What all views have."""

    inside: Inside
    figures: Figures
    streams: Streams
    plots: Kept
    pools: PoolFigures


@dataclass(slots=True)
class Visit:
    """One request of a visitor, who may make it."""

    site: Site
    caller: Caller
    request: Request
    leaves: bool
    """Whether there is a cookie that could be taken away."""
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def inside(self) -> Inside:
        return self.site.inside

    @property
    def name(self) -> str:
        """The endpoint in the path."""
        return str(self.request.path_params["name"])

    @property
    def partly(self) -> bool:
        """Whether htmx asks, which puts the answer into a page that is there."""
        return self.request.headers.get("hx-request") == "true"

    def query(self, key: str) -> str:
        """A word of the query, '' when it is not there."""
        return self.request.query_params.get(key, "").strip()

    def number(self, key: str, usual: int) -> int:
        """A whole number of the query; what is none is the usual one."""
        given = self.request.query_params.get(key, "")
        return int(given) if given.isascii() and given.isdigit() and len(given) < 19 else usual

    def show(self, template: str, status: int = 200, **context: Any) -> Answer:
        """A page, or a part of one."""
        around = {"subject": self.caller.subject, "leaves": self.leaves, "path": self.request.url.path}
        return page(self.inside.slices, template, around | context, status=status)

    def go(self, path: str) -> Response:
        """Another page."""
        if self.partly:
            return Response(status_code=204, headers={"HX-Redirect": path})
        return Response(status_code=303, headers={"Location": path})

    async def change(self, change: DeskChange, *, expected: int | None, reason: str, dry_run: bool) -> Applied:
        """Make the change in the visitor's name, or look what it would be. Raises DeskError."""
        address = "" if self.request.client is None else self.request.client.host
        return await self.inside.desk.apply(
            change, self.caller.subject, expected=expected, reason=reason, origin=Origin(address), dry_run=dry_run
        )


async def form_of(request: Request, timeout_s: float) -> dict[str, str]:
    """The fields of a form; of several of a name the last. Raises ApiError."""
    said = request.headers.get("content-length", "0")
    if not said.isdigit() or len(said) > 9 or int(said) > _MOST_BYTES:
        raise ApiError(413, "INVALID_PARAMETER_VALUE", f"form: got {said[:20]} bytes; expected at most {_MOST_BYTES}")
    data = await body_of(request, timeout_s)
    try:
        return dict(parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, strict_parsing=True))
    except ValueError:
        raise malformed("form: got something else; expected fields as a browser sends them, in UTF-8") from None


def words_of(form: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The fields whose names begin so, without the beginning."""
    return {name.removeprefix(prefix): value.strip() for name, value in form.items() if name.startswith(prefix)}


def lines(problems: Sequence[str]) -> list[str]:
    """Problems as a page tells them: the first letter is a capital where it is no path of a field."""
    return [each[:1].upper() + each[1:] if " " in each.partition(":")[0] else each for each in problems]
