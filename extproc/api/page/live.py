"""What open pages are told: server-sent events, one connection a page (WHATWG HTML, 9.2).

A stream ends by itself before the server's bound of an answer would cut it, and the page's EventSource comes again; so a token
that was withdrawn is noticed, too. There are so many at once; one more is told to come later. A page that reads slowly misses
ticks, and nothing is kept for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import orjson
from starlette.types import Receive, Scope, Send

from extproc.api.errors import unavailable
from extproc.api.page.figures import Cells, Figures

MOST: Final = 100
"""At once."""
STREAM_S: Final = 50.0
MOST_NAMES: Final = 100
_AGAIN_MS: Final = 300
HEADERS: Final = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}


class Told(Protocol):
    """What a page shows that changes by itself."""

    def cells(self) -> Cells:
        """All of it."""
        ...

    def changed(self, since: int) -> Cells:
        """What is different from the tick `since`."""
        ...


class Streams:
    """All that are open; one event loop."""

    def __init__(
        self,
        figures: Figures,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        most: int = MOST,
    ) -> None:
        """`clock` is monotonic, in seconds."""
        self._figures = figures
        self._clock = clock
        self._sleep = sleep
        self._most = most
        self.open = 0

    @property
    def full(self) -> bool:
        """Whether one more is too many."""
        return self.open >= self._most

    def of(self, told: Told, headers: Mapping[str, str] = {}) -> Stream:
        """An answer that tells of these. `headers`: more of them. Raises ApiError when so many are open already."""
        if self.full:
            raise unavailable("So many pages are open that this one is not kept up to date")
        return Stream(self, told, headers)

    async def tell(self, told: Told, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Until it is time to come again."""
        figures = self._figures
        until_s = self._clock() + STREAM_S
        seen = figures.tick
        await send(b"retry: %d\n" % _AGAIN_MS + event(told.cells()))
        while self._clock() < until_s:
            await self._sleep(figures.until_next_s())
            now = figures.tick  # before its cells are made: what the next tick brings meanwhile is told once more, and not lost
            changed = told.changed(seen)
            seen = now
            await send(event(changed) if changed else b": nothing new\n\n")


def event(cells: Mapping[str, str]) -> bytes:
    """One event. JSON of orjson has no line ends."""
    return b"data: " + orjson.dumps(cells) + b"\n\n"


class Stream:
    """One page's connection."""

    status_code = 200

    def __init__(self, streams: Streams, told: Told, headers: Mapping[str, str]) -> None:
        self._streams = streams
        self._told = told
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._streams.open += 1  # before anything is waited for, so that of many that come at once none slips by
        try:
            await self._told_to(receive, send)
        finally:
            self._streams.open -= 1

    async def _told_to(self, receive: Receive, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in (HEADERS | dict(self._headers)).items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def sending(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        telling = asyncio.ensure_future(self._streams.tell(self._told, sending))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, leaving):
                task.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)
        if not telling.cancelled():
            telling.result()  # what went wrong is told in the log, and not taken for the end
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
