"""A model server that is all answer: `python -m tests.bench.backend`.

A page of metrics says that it is idle. `POST /answer` gets a small JSON body; `POST /stream` gets a hundred SSE chunks, each
written by itself as soon as the one before is out; `POST /paced` gets them a millisecond apart, so that a proxy passes each on
alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import uvloop

CHUNKS = 100
_BODY = b'{"id": "x", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = (
    b'data: {"id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1700000000, "model": "m", '
    b'"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": null}]}\n\n'
)
_IDLE = b"".join(
    b"# TYPE vllm:%s gauge\nvllm:%s 0.0\n" % (name, name) for name in (b"num_requests_waiting", b"kv_cache_usage_perc")
)
_PAGE = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s" % (len(_IDLE), _IDLE)
_CHUNK = b"%x\r\n%s\r\n" % (len(_EVENT), _EVENT)
_PAUSE_S = 0.001


class _Backend(asyncio.Protocol):
    """HTTP/1.1 as far as a proxy with keep-alive needs it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._buffer = b""
        self._pause_s = 0.0
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if b"content-length" in fields:
            if len(rest) < int(fields[b"content-length"]):
                return
        elif fields.get(b"transfer-encoding") == b"chunked" and not rest.endswith(b"0\r\n\r\n"):
            return
        self._buffer = b""
        if head.startswith(b"GET"):
            self._transport.write(_PAGE)
        elif head.startswith((b"POST /stream", b"POST /paced")):
            self._transport.write(_STREAM)
            self._pause_s = _PAUSE_S if head.startswith(b"POST /paced") else 0.0
            self._loop.call_later(self._pause_s, self._chunk, CHUNKS)
        else:
            self._transport.write(_ANSWER)

    def _chunk(self, left: int) -> None:
        if not left:
            self._transport.write(b"0\r\n\r\n")
            return
        self._transport.write(_CHUNK)
        self._loop.call_later(self._pause_s, self._chunk, left - 1)


async def main() -> None:
    """Serve until killed; the port goes to standard error."""
    server = await asyncio.get_running_loop().create_server(_Backend, "127.0.0.1", 0)
    print(json.dumps({"msg": "started", "port": server.sockets[0].getsockname()[1]}), file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
