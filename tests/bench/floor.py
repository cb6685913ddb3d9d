"""The floor: a bare grpc.aio server that reads the stream and answers two canned raw messages.

    python -m tests.bench.floor [--lean]

The handler is an async generator over the request iterator, as gRPC's own documentation writes a streaming method; `--lean`
uses `context.read` and `context.write`, the leanest form grpc.aio has. The canned answers have the size of the real ones: a
headers' reply, and the body echoed whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop
from grpc import aio

_HEADERS_REPLY = b"\x0a" + bytes([100]) + b"\0" * 100


def _echo(size: int) -> bytes:
    return b"\0" * max(0, size - 300)


async def _process(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    size = 0
    async for message in requests:
        size += len(message)
    yield _HEADERS_REPLY
    yield _echo(size)


async def _process_lean(_: Any, context: aio.ServicerContext[bytes, bytes]) -> None:
    size = 0
    end: Any = aio.EOF
    while (message := await context.read()) is not end:
        size += len(message)
    await context.write(_HEADERS_REPLY)
    await context.write(_echo(size))


async def main() -> None:
    """Serve until killed; the port goes to standard error as our servers' does."""
    server = aio.server(options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)])
    handler: Any = grpc.stream_stream_rpc_method_handler(_process_lean if "--lean" in sys.argv else _process)
    service = grpc.method_handlers_generic_handler("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": handler})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"msg": "started", "grpc": port}), file=sys.stderr, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
