"""What a proxy and its operator may rely on, whichever transport carries the streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2

from extproc.app import Ports, Service, build
from extproc.names import EXT_PROC_METHOD
from extproc.pb import external_processor_pb2 as pb
from extproc.settings.commands import BbrSettings
from extproc.transport.h2.frames import Setting
from tests.app.running import chat, running, until
from tests.fakes.wire import counted

HEALTH = "/grpc.health.v1.Health/"
BODY = b'{"model": "m"}'


class Router(NamedTuple):
    """A router that runs, and a channel to it."""

    service: Service
    ports: Ports
    channel: aio.Channel

    def stream(self, **kwargs: Any) -> Any:
        """An ext_proc stream."""
        method: Any = self.channel.stream_stream(
            EXT_PROC_METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )
        return method(**kwargs)

    @property
    def open(self) -> int:
        return int(self.service.telemetry.streams.open.value)

    @property
    def ended(self) -> dict[str, int]:
        return counted(self.service.telemetry.streams.streams)


def router_of(transport: str, drain_timeout: str) -> Service:
    ports: dict[str, Any] = {"grpc_port": 0, "grpc_health_port": 0, "metrics_port": 0}
    told = {
        **ports,
        "host": "127.0.0.1",
        "secure_serving": False,
        "transport": transport,
        "drain_timeout": drain_timeout,
        "max_body_bytes": 2**20,
    }
    return build(BbrSettings(**told))


@pytest.fixture
async def router(transport: str) -> AsyncIterator[Router]:
    service = router_of(transport, "200ms")
    async with running(service) as ports, aio.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
        yield Router(service, ports, channel)


async def soon(condition: Callable[[], bool]) -> None:
    async def look() -> bool:
        return condition()

    await until(look)


def cancelled(router: Router) -> list[dict[str, int]]:
    """How a stream is counted whose client is gone. grpcio sometimes says so only by the end of the messages, which is OK."""
    gone = [{"CANCELLED": 1}]
    return [*gone, {"OK": 1}] if router.service.serving.settings.transport == "grpcio" else gone


class TestStreams:
    async def test_a_message_at_a_time(self, router: Router) -> None:
        call = router.stream()
        answers = []
        for message in chat(BODY):
            await call.write(message)
        answers += [await call.read(), await call.read()]
        await call.write(pb.ProcessingRequest(response_headers=pb.HttpHeaders()))
        answers.append(await call.read())
        assert [answer.WhichOneof("response") for answer in answers] == ["request_headers", "request_body", "response_headers"]
        assert (router.open, router.ended) == (1, {})
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        await soon(lambda: (router.open, router.ended) == (0, {"OK": 1}))

    async def test_many_at_once(self, router: Router) -> None:
        async def one(number: int) -> bytes:
            body = b'{"model": "%d"}' % number
            answers = [answer async for answer in router.stream(request_iterator=iter(chat(body)))]
            assert b"%d" % number in answers[0].SerializeToString()
            return bytes(answers[1].request_body.response.body_mutation.streamed_response.body)

        assert await asyncio.gather(*map(one, range(100))) == [b'{"model": "%d"}' % number for number in range(100)]
        await soon(lambda: (router.open, router.ended) == (0, {"OK": 100}))

    async def test_the_client_goes_away(self, router: Router) -> None:
        call = router.stream()
        await call.write(chat(BODY)[0])
        await soon(lambda: router.open == 1)
        call.cancel()
        await soon(lambda: router.open == 0)
        assert router.ended in cancelled(router)

    async def test_the_clients_deadline(self, router: Router) -> None:
        call = router.stream(timeout=0.1)
        await call.write(chat(BODY)[0])
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await soon(lambda: router.open == 0)
        assert sum(router.ended.values()) == 1

    async def test_the_clients_connection_is_lost(self, router: Router) -> None:
        async with aio.insecure_channel(f"127.0.0.1:{router.ports.grpc}") as channel:
            call = router._replace(channel=channel).stream()
            await call.write(chat(BODY)[0])
            await soon(lambda: router.open == 1)
        await soon(lambda: router.open == 0)
        assert router.ended in cancelled(router)

    async def test_a_fault_of_the_client_ends_its_stream(self, router: Router) -> None:
        call = router.stream()
        await call.write(pb.ProcessingRequest(request_body=pb.HttpBody(body=b"x")))
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "unexpected RequestBody" in await call.details()
        await soon(lambda: (router.open, router.ended) == (0, {"INVALID_ARGUMENT": 1}))

    @pytest.mark.parametrize("size", [2**20 - 1000, 3 * 2**20])
    async def test_the_largest_message(self, router: Router, size: int) -> None:
        """A body over the limit is answered with 413; a message far over it ends the stream."""
        call = router.stream()
        head, body = chat(b'{"model": "m", "x": "' + b"x" * size + b'"}')
        await call.write(head)
        await call.write(body)
        if size < 2**20:
            assert (await call.read()).HasField("request_headers")
            call.cancel()
        else:
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await soon(lambda: router.open == 0)

    async def test_methods_that_we_do_not_have(self, router: Router) -> None:
        for path in ("/envoy.service.ext_proc.v3.ExternalProcessor/Other", "/other/Process"):
            method: Any = router.channel.unary_unary(path)
            with pytest.raises(aio.AioRpcError) as caught:
                await method(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert (router.open, router.ended) == (0, {})


class TestHealth:
    @pytest.fixture(params=["grpc", "health"])
    async def channel(self, router: Router, request: pytest.FixtureRequest) -> AsyncIterator[aio.Channel]:
        """The health service is on the ExtProc port and on a port of its own."""
        async with aio.insecure_channel(f"127.0.0.1:{getattr(router.ports, request.param)}") as channel:
            yield channel

    async def check(self, channel: aio.Channel, service: str) -> str:
        method: Any = channel.unary_unary(HEALTH + "Check", response_deserializer=health_pb2.HealthCheckResponse.FromString)
        answer = await method(health_pb2.HealthCheckRequest(service=service).SerializeToString())
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    async def test_check(self, channel: aio.Channel) -> None:
        for service in ("", "envoy.service.ext_proc.v3.ExternalProcessor", "readiness", "liveness"):
            assert await self.check(channel, service) == "SERVING"

    async def test_a_name_that_we_do_not_have(self, channel: aio.Channel) -> None:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.check(channel, "other")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == "unknown service"

    async def test_bytes_that_are_no_request(self, channel: aio.Channel) -> None:
        method: Any = channel.unary_unary(HEALTH + "Check")
        with pytest.raises(aio.AioRpcError) as caught:
            await method(b"\xff")
        assert caught.value.code() is grpc.StatusCode.INTERNAL

    async def test_list(self, channel: aio.Channel) -> None:
        method: Any = channel.unary_unary(HEALTH + "List")
        answer: Any = health_pb2.HealthListResponse.FromString(await method(b""))  # type: ignore[attr-defined]
        assert "liveness" in answer.statuses


async def test_a_watcher_hears_of_the_drain(transport: str) -> None:
    service = router_of(transport, "200ms")
    heard: list[int] = []
    watching = asyncio.Event()

    async def watch(port: int) -> None:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method: Any = channel.unary_stream(HEALTH + "Watch")
            try:
                async for raw in method(b""):
                    heard.append(health_pb2.HealthCheckResponse.FromString(raw).status)
                    watching.set()
            except aio.AioRpcError:
                pass  # it ends with the server

    async with running(service) as ports:
        watcher = asyncio.create_task(watch(ports.health))
        await watching.wait()
    await watcher
    assert heard[0] == health_pb2.HealthCheckResponse.SERVING
    assert heard[-1] == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_open_streams_end_by_themselves_while_draining(transport: str) -> None:
    service = router_of(transport, "30s")
    stop = asyncio.Event()
    ports: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(service.run(stop, ports.set_result))
    async with aio.insecure_channel(f"127.0.0.1:{(await ports).grpc}") as channel:
        router = Router(service, await ports, channel)
        call = router.stream()
        for message in chat(BODY):
            await call.write(message)
        await call.read()
        stop.set()
        await soon(lambda: service.unready() == "draining")
        await call.write(pb.ProcessingRequest(response_headers=pb.HttpHeaders()))
        assert (await call.read()).HasField("request_body")
        assert (await call.read()).HasField("response_headers")
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
    async with asyncio.timeout(10):  # not the 30 s of the grace
        await task
    assert router.ended == {"OK": 1}


async def test_flags_become_what_http2_announces() -> None:
    flags: dict[str, Any] = {"max_concurrent_streams": 7, "initial_stream_window_size": 70_000}
    ports: dict[str, Any] = {"host": "127.0.0.1", "grpc_port": 0, "grpc_health_port": 0, "metrics_port": 0}
    async with running(build(BbrSettings(**ports, **flags, secure_serving=False))) as bound:
        reader, writer = await asyncio.open_connection("127.0.0.1", bound.grpc)
        head = await reader.readexactly(9)
        told = await reader.readexactly(int.from_bytes(head[:3], "big"))
        writer.close()
    values = {
        int.from_bytes(told[at : at + 2], "big"): int.from_bytes(told[at + 2 : at + 6], "big") for at in range(0, len(told), 6)
    }
    assert values[Setting.MAX_CONCURRENT_STREAMS] == 7
    assert values[Setting.INITIAL_WINDOW_SIZE] == 70_000
