"""Answers: JSON at once, and what is long in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from extproc.api.errors import ApiError
from extproc.slices import Slices

JSON: Final = "application/json"


class Json(Response):
    """A value, as JSON."""

    media_type = JSON

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class Sliced:
    """An answer in pieces, each of which takes less than a slice. With a length if it comes in one slice."""

    def __init__(
        self,
        slices: Slices,
        pieces: Iterator[bytes],
        content_type: str = JSON,
        *,
        status: int = 200,
        headers: Mapping[str, str] = {},
    ) -> None:
        """`headers`: more of them, in Latin-1."""
        self.status_code = status
        self._slices = slices
        self._pieces = pieces
        self._headers = {"content-type": content_type, **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        piece, more = await self._slices.next(self._pieces)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]
        if not more:
            headers.append((b"content-length", b"%d" % len(piece)))
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        while True:
            await send({"type": "http.response.body", "body": piece, "more_body": more})
            if not more:
                return
            piece, more = await self._slices.next(self._pieces)


class Answer(Protocol):
    """Whatever answers a call: a Response of starlette's, or what comes in pieces."""

    @property
    def status_code(self) -> int: ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


def refusal(error: ApiError) -> Response:
    """The answer to a call that failed."""
    return Json({"error_code": error.code, "message": error.message}, error.status, error.headers)


def json_list(key: str, items: Iterable[object]) -> Iterator[bytes]:
    """`{key: [...]}`, item by item."""
    yield b"{" + orjson.dumps(key) + b":["
    between = b""
    for item in items:
        yield between + orjson.dumps(item)
        between = b","
    yield b"]}"
