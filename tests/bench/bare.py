"""The least that Python can do behind Envoy: a bare asyncio.Protocol on uvloop that looks for the ends of messages and answers
with what it was given before.

    python -m tests.bench.bare

No flow control, no bounds, no parsing, no metrics, no errors: what is left is what a process costs that is woken three times.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import Callable
from typing import Final, cast

import uvloop

from extproc.transport.h2 import frames as f
from extproc.transport.h2.grpc import OK_TRAILERS
from extproc.transport.h2.headers import encode

_WINDOW: Final = 2**24
_CONTINUE_HEADERS: Final = b"\x0a\0"
_CONTINUE_RESPONSE: Final = b"\x12\0"


HEADERS_BLOCK: Final = encode([(":status", "200"), ("content-type", "application/grpc")])


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def _message(payload: bytes) -> bytes:
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def _field(number: int, payload: bytes) -> bytes:
    size, more = len(payload), b""
    while size > 0x7F:
        more, size = more + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + more + bytes([size]) + payload


def _echo(message: bytes) -> bytes:
    """ProcessingResponse.request_body.response.body_mutation.streamed_response with the HttpBody of the request."""
    size, at, shift = 0, 1, 0
    while True:
        size |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if message[at - 1] < 0x80:
            break
    return _field(3, _field(1, _field(3, _field(3, message[at : at + size]))))


class Bare(asyncio.Protocol):
    """One connection from Envoy."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._rest = b""
        self._greeted = False
        self._bodies: dict[int, bytes] = {}
        settings = struct.pack(">HIHI", 1, 0, 4, _WINDOW)
        self._transport.write(_frame(4, 0, 0, settings) + _frame(8, 0, 0, struct.pack(">I", 2**30)))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at = 0
        if not self._greeted:
            at, self._greeted = len(f.PREFACE), True
        out: list[bytes] = []
        while len(data) - at >= 9:
            high, low, kind, flags, stream = f.unpack_head(data, at)
            end = at + 9 + (high << 8 | low)
            if end > len(data):
                break
            if kind == 0:
                self._on_data(stream, flags, data[at + 9 : end], out)
            elif kind == 1:
                self._bodies[stream] = b""
                out.append(_frame(1, f.END_HEADERS, stream, HEADERS_BLOCK))
            elif kind == 3:
                self._bodies.pop(stream, None)
            elif kind == 4 and not flags:
                out.append(_frame(4, 1, 0, b""))
            elif kind == 6 and not flags:
                out.append(_frame(6, 1, 0, data[at + 9 : end]))
            at = end
        self._rest = data[at:]
        if out:
            self._transport.write(b"".join(out))

    def _on_data(self, stream: int, flags: int, payload: bytes, out: list[bytes]) -> None:
        data = self._bodies[stream] + payload
        at = 0
        while len(data) - at >= 5:
            end = at + 5 + int.from_bytes(data[at + 1 : at + 5], "big")
            if end > len(data):
                break
            message = data[at + 5 : end]
            if message[0] == 0x12:  # request_headers
                out.append(_frame(0, 0, stream, _message(_CONTINUE_HEADERS)))
            elif message[0] == 0x22:  # request_body
                out.append(_frame(0, 0, stream, _message(_echo(message))))
            elif message[0] == 0x1A:  # response_headers
                out.append(_frame(0, 0, stream, _message(_CONTINUE_RESPONSE)))
            at = end
        self._bodies[stream] = data[at:]
        if flags & 1:
            out.append(_frame(1, f.END_HEADERS | f.END_STREAM, stream, OK_TRAILERS))
            del self._bodies[stream]


async def serve(protocol: Callable[[], asyncio.Protocol]) -> None:
    """Until killed; the port goes to standard error as our servers' does."""
    listening = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    print(json.dumps({"msg": "started", "grpc": port}), file=sys.stderr, flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(Bare))
