"""A cheap model server for the soak: `python -m tests.soak.upstream PORT...`.

`x-soak: stream` gets EVENTS events, some milliseconds apart; anything else a small document with the hash of the body that
came, so that who sent it can see that nothing was changed on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sys

import uvloop

from tests.bench.pages import PAGE

EVENTS = 30
EVENT = (
    b'data: {"id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1700000000, "model": "m", '
    b'"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": null}]}\n\n'
)
LAST = b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 30, "total_tokens": 39}}\n\ndata: [DONE]\n\n'
_BEGIN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_PAUSE_S = 0.004
_USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _whole(body: bytes, content_type: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if head.startswith(b"get"):
                writer.write(_whole(PAGE, "text/plain"))
                continue
            await _answer(head, await _body(head, reader), writer)
    writer.close()


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    if b"content-length" in fields:
        return await reader.readexactly(int(fields[b"content-length"]))
    pieces = []
    while size := int(await reader.readline(), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readline()
    return b"".join(pieces)


async def _answer(head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
    if b"\r\nx-soak: stream" not in head:
        told = {"choices": [], "sha256": hashlib.sha256(body).hexdigest(), "usage": _USAGE}
        writer.write(_whole(json.dumps(told).encode(), "application/json"))
        return
    writer.write(_BEGIN)
    for _ in range(EVENTS):
        await asyncio.sleep(_PAUSE_S)
        writer.write(_chunk(EVENT))
        await writer.drain()
    writer.write(_chunk(LAST) + b"0\r\n\r\n")


async def main(ports: list[int]) -> None:
    """Serve until killed."""
    for port in ports:
        await asyncio.start_server(_serve, "127.0.0.1", port, limit=2**20)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main([int(port) for port in sys.argv[1:]]))
