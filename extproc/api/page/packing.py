"""Pages by gzip as they are made, for browsers that take that: a list of fifty is a tenth of its bytes.

A page of another site can't have one sent with words of its own in it: the cookie is not sent from there (SameSite=Strict). So
the length of what is packed tells nobody anything (BREACH).
"""

from __future__ import annotations

import zlib
from typing import Final

from starlette.types import Message, Send

_TYPES: Final = (b"text/html", b"application/json")
_SMALL: Final = 1000
"""Bytes that go as they are: packed, they are as many packets."""
_LEVEL: Final = 4
"""A millisecond for the longest page; what comes above it takes more time than it saves."""
_GZIP: Final = 16 + zlib.MAX_WBITS


class Packing:
    """Between an answer and who sends it. Events, files to keep, and what has no body pass as they are."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        """Kept until the first piece is there, by which it is seen how long it is."""
        self._packs = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._packing = False

    async def __call__(self, message: Message) -> None:
        """As ASGI's `send`."""
        if message["type"] == "http.response.start" and _may(message):
            self._start = message
            return
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._start is not None:
            start, self._start = self._start, None
            self._packing = more or len(body) >= _SMALL
            await self._send(_packed(start) if self._packing else start)
        if self._packing:
            body = self._packs.compress(body) + self._packs.flush(zlib.Z_SYNC_FLUSH if more else zlib.Z_FINISH)
        await self._send({**message, "body": body})


def _may(start: Message) -> bool:
    given = dict(start["headers"])
    return (
        given.get(b"content-type", b"").startswith(_TYPES) and not {b"content-disposition", b"content-encoding"} & given.keys()
    )


def _packed(start: Message) -> Message:
    kept = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    return {**start, "headers": [*kept, (b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]}


def takes_gzip(encodings: str) -> bool:
    """Whether Accept-Encoding names it, and not to say no."""
    wanted = [each.replace(" ", "").lower() for each in encodings.split(",")]
    return any(each == "gzip" or (each.startswith("gzip;q=") and each[7:].strip("0.") != "") for each in wanted)
