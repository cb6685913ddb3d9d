"""Services run inside a test: real ports, real gRPC, stopped at the end and checked to leave nothing in flight."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

from aiohttp import web
from grpc import aio

from extproc.app import Ports, Service
from extproc.app.component import Component
from extproc.app.pools import Pool, Pools
from extproc.names import EXT_PROC_METHOD
from extproc.pb import external_processor_pb2 as pb
from extproc.pb import processing_mode_pb2

Kind = TypeVar("Kind", bound=Component)


class PageServer(Protocol):
    """A model server's page of metrics."""

    port: int

    async def answer(self, request: web.Request, /) -> web.Response: ...


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncIterator[Ports]:
    """The service, listening; stopped the way SIGTERM stops it."""
    stop = asyncio.Event()
    ports: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(service.run(stop, ports.set_result))
    started: list[asyncio.Future[Any]] = [task, ports]
    await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield ports.result()
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await task
    assert service.telemetry.streams.open.value == 0


def part(service: Service, kind: type[Kind]) -> Kind:
    """The service's component of this kind."""
    found = service.find(kind)
    assert found is not None, f"{service.name} has no {kind.__name__}"
    return found


def pool_of(service: Service) -> Pool:
    """The service's first pool."""
    return part(service, Pools).pools[0]


async def exchange(port: int, messages: list[pb.ProcessingRequest]) -> list[pb.ProcessingResponse]:
    """One whole stream: everything is sent, then everything that was answered is returned."""
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.stream_stream(
            EXT_PROC_METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )(iter(messages))
        return [message async for message in call]


@contextlib.asynccontextmanager
async def pages_served(*servers: PageServer) -> AsyncIterator[None]:
    """Each answers `/metrics` at a port of its own."""
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            app = web.Application()
            app.add_routes([web.get("/metrics", server.answer)])
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            server.port = runner.addresses[0][1]
        yield


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 5) -> None:
    """Poll until the condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the condition is another process's or server's state


def chat(body: bytes, path: str = "/v1/chat/completions", **headers: str) -> list[pb.ProcessingRequest]:
    """Headers and body of a request in full duplex; one message when the body is empty."""
    first = pb.ProcessingRequest()
    for key, value in {
        ":path": path,
        ":method": "POST" if body else "GET",
        "content-type": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }.items():
        header = first.request_headers.headers.headers.add()
        header.key = key
        header.raw_value = value.encode()
    first.protocol_config.request_body_mode = processing_mode_pb2.ProcessingMode.FULL_DUPLEX_STREAMED
    first.protocol_config.response_body_mode = processing_mode_pb2.ProcessingMode.NONE
    first.request_headers.end_of_stream = not body
    if not body:
        return [first]
    second = pb.ProcessingRequest()
    second.request_body.body = body
    second.request_body.end_of_stream = True
    return [first, second]


def headers_of(answer: pb.ProcessingResponse) -> dict[str, str]:
    """What the answer sets, lower case."""
    options = answer.request_headers.response.header_mutation.set_headers
    return {option.header.key.lower(): option.header.raw_value.decode() for option in options}
