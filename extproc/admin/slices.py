"""Pages in slices, for aiohttp."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import orjson
from aiohttp import web

from extproc.slices import Slices

_INDENT: Final = b"  "


class PageSlices(Slices):
    """Turns at making pages."""

    async def respond(self, request: web.Request, pieces: Iterator[bytes], content_type: str) -> web.StreamResponse:
        """The page that `pieces` make, each of which takes less than a slice. With a length if it comes in one slice."""
        headers = {"Content-Type": content_type}
        page, more = await self.next(pieces)
        if not more:
            return web.Response(body=page, headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        while True:
            await response.write(page)
            if not more:
                break
            page, more = await self.next(pieces)
        await response.write_eof()
        return response


def json_list(items: Iterable[object], depth: int) -> Iterator[bytes]:
    """A list as `orjson` indents it inside of `depth` others, item by item."""
    line = b"\n" + _INDENT * (depth + 1)
    empty = True
    for item in items:
        text = orjson.dumps(item, option=orjson.OPT_INDENT_2).replace(b"\n", line)
        yield (b"[" if empty else b",") + line + text
        empty = False
    yield b"[]" if empty else b"\n" + _INDENT * depth + b"]"
