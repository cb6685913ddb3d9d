"""The floor: a bare grpc.aio server that reads the stream and answers two canned raw messages. `python -m tests.bench.floor`.

The canned answers have the size of the real ones (headers' reply, body echoed whole), chosen by the request's size.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import grpc
import uvloop
from grpc import aio

_HEADERS_REPLY = b"\x0a" + bytes([100]) + b"\0" * 100


async def _process(_: Any, context: aio.ServicerContext[bytes, bytes]) -> None:
    size = 0
    end: Any = aio.EOF
    while (message := await context.read()) is not end:
        size += len(message)
    await context.write(_HEADERS_REPLY)
    await context.write(b"\0" * max(0, size - 300))


async def main() -> None:
    """Serve until killed; the port goes to standard error as our servers' does."""
    server = aio.server(options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)])
    handler: Any = grpc.stream_stream_rpc_method_handler(_process)
    service = grpc.method_handlers_generic_handler("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": handler})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"msg": "started", "grpc": port}), file=sys.stderr, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
