"""The least that a stream costs in Python: a bare asyncio.Protocol on uvloop that reads the heads of frames and nothing else,
and answers the end of each stream with as many bytes as came on it.

    python -m tests.bench.least

What is above it is what a server does with a body: find its messages, put them together, read them, decide.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import uvloop

from extproc.transport.h2 import frames as f
from extproc.transport.h2.grpc import OK_TRAILERS
from tests.bench.bare import HEADERS_BLOCK, serve

_WINDOW: Final = 2**24
_FRAME: Final = bytes(f.MAX_FRAME_BYTES)


class Least(asyncio.Protocol):
    """One connection, of a client that has one stream at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._rest = b""
        self._left = len(f.PREFACE)
        self._ends = 0
        self._came = 0
        settings = f.settings({f.Setting.INITIAL_WINDOW_SIZE: _WINDOW})
        self._transport.write(settings + f.window_update(0, 2**30))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        out: list[bytes] = []
        at, size = self._skip(0, len(data), out), len(data)
        while size - at >= f.HEAD_BYTES:
            high, low, kind, flags, stream = f.unpack_head(data, at)
            length = high << 8 | low
            if kind == f.Kind.DATA:
                self._came += length
                self._left = length
                self._ends = stream if flags & f.END_STREAM else 0
                at = self._skip(at + f.HEAD_BYTES, size, out)
                continue
            end = at + f.HEAD_BYTES + length
            if end > size:
                break
            if kind in (f.Kind.SETTINGS, f.Kind.PING) and not flags & f.ACK:
                payload = data[at + f.HEAD_BYTES : end] if kind == f.Kind.PING else b""
                out.append(f.frame(f.Kind(kind), f.ACK, 0, payload))
            at = end
        self._rest = data[at:]
        if out:
            self._transport.writelines(out)

    def _skip(self, at: int, size: int, out: list[bytes]) -> int:
        """Past what is there of the frame that has begun."""
        there = min(self._left, size - at)
        self._left -= there
        if self._ends and not self._left:
            self._answer(self._ends, out)
            self._ends = 0
        return at + there

    def _answer(self, stream: int, out: list[bytes]) -> None:
        out.append(f.frame(f.Kind.HEADERS, f.END_HEADERS, stream, HEADERS_BLOCK))
        for left in range(self._came, 0, -len(_FRAME)):
            payload = _FRAME[:left]
            out += (f.pack_head(len(payload) >> 8, len(payload) & 255, f.Kind.DATA, 0, stream), payload)
        out.append(f.frame(f.Kind.HEADERS, f.END_HEADERS | f.END_STREAM, stream, OK_TRAILERS))
        self._came = 0


if __name__ == "__main__":
    uvloop.run(serve(Least))
