"""A browser's manners, without a browser: cookies are kept and sent, forms come from a page of the same origin."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp

from extproc.api.auth import Guard
from extproc.measures import Measures
from extproc.observability.decisions import DecisionLog
from tests.api.served import Api, served
from tests.api.tokens import Door
from tests.control.desks import Bench

NAVIGATES = {"sec-fetch-site": "none", "sec-fetch-dest": "document", "accept": "text/html"}
SENDS = {"sec-fetch-site": "same-origin", "sec-fetch-dest": "document", "accept": "text/html"}
PARTLY = {"hx-request": "true"}


class Seen(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def where(self) -> str:
        """To which page it leads."""
        return self.headers.get("location") or self.headers.get("hx-redirect", "")


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(text: str) -> list[tuple[str, dict[str, str | None]]]:
    """Tags with their attributes, as a browser finds them."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    return parser.found


class Visitor:
    """Somebody with a browser."""

    def __init__(self, api: Api, http: aiohttp.ClientSession) -> None:
        self.api = api
        self.http = http
        self.bench = api.bench

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.api.port}"

    async def ask(self, method: str, path: str, headers: Mapping[str, str] = {}, data: bytes | None = None) -> Seen:
        async with self.http.request(method, self.origin + path, data=data, headers=headers, allow_redirects=False) as answer:
            return Seen(answer.status, answer.headers, await answer.text())

    async def look(self, path: str = "/ui/") -> Seen:
        """Open a page."""
        return await self.ask("GET", path, NAVIGATES)

    async def send(self, path: str, fields: Mapping[str, Any], headers: Mapping[str, str] = {}) -> Seen:
        """Send a form."""
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return await self.ask("POST", path, SENDS | kind | dict(headers), urlencode(fields).encode())

    async def log_in(self, token: str) -> Seen:
        return await self.send("/ui/login", {"token": token, "next": "/ui/"})

    async def split(self, step: str = "preview", **shares: int) -> Seen:
        """Another split than 90 and 10, as htmx sends it."""
        began = {"began:a": 90, "began:b": 10}
        wanted = {f"share:{entity}": share for entity, share in shares.items()}
        return await self.send("/ui/endpoints/chat/split", {"version": 1, "step": step, **began, **wanted}, PARTLY)


@contextlib.asynccontextmanager
async def visiting(
    token: str | None = None,
    bench: Bench | None = None,
    guard: Guard | None = None,
    measures: Measures | None = None,
    decisions: DecisionLog | None = None,
    **words: Any,
) -> AsyncIterator[Visitor]:
    """Who has a token is logged in with it, at a gateway that knows those of tests; without one, and a guard, everybody may.
    `words`: as `served` has them."""
    guard = Door().guard if token is not None and guard is None else guard
    async with served(bench, guard, measures=measures, decisions=decisions, **words) as api:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as http:
            visitor = Visitor(api, http)
            if token is not None:
                assert (await visitor.log_in(token)).status == 303
            yield visitor
