"""Flow control of a whole picker, in front of model servers that say that they are full."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from grpc import aio

from extproc.app import Ports, Service, build
from extproc.app.flow import FlowControl
from extproc.domain import Load
from extproc.names import EXT_PROC_METHOD
from extproc.pb import external_processor_pb2 as pb
from extproc.settings.base import SettingsError
from extproc.settings.commands import EppSettings
from extproc.traffic import ObjectiveTable
from tests.app.running import chat, exchange, headers_of, pages_served, part, pool_of, running, until
from tests.app.test_service import get

DESTINATION = "x-gateway-destination-endpoint"
ON = "featureGates: [flowControl]\n"
BODY = b'{"model": "m"}'


class ModelServer:
    """A page of metrics that a test writes."""

    def __init__(self) -> None:
        self.waiting = 9
        self.read = 0
        self.port = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.read += 1
        return web.Response(
            text=f'vllm:num_requests_waiting{{engine="0"}} {self.waiting}.0\n'
            f'vllm:num_requests_running{{engine="0"}} 4.0\nvllm:kv_cache_usage_perc{{engine="0"}} 0.1\n'
        )

    async def has(self, waiting: int) -> None:
        """The picker has read that so many wait."""
        self.waiting = waiting
        seen = self.read + 2
        await until(lambda: asyncio.sleep(0, self.read >= seen))


@pytest.fixture
async def servers() -> AsyncIterator[list[ModelServer]]:
    found = [ModelServer(), ModelServer()]
    async with pages_served(*found):
        yield found


def picker(servers: list[ModelServer], transport: str, config: str = ON, **flags: Any) -> Service:
    here: dict[str, Any] = {"host": "127.0.0.1", "grpc_port": 0, "grpc_health_port": 0, "metrics_port": 0}
    here |= {"secure_serving": False, "transport": transport, "drain_timeout": "1s", **flags}
    return build(EppSettings(**here, config_text=config, endpoints=tuple(f"127.0.0.1:{each.port}" for each in servers)))


@contextlib.asynccontextmanager
async def full(servers: list[ModelServer], service: Service) -> AsyncIterator[Ports]:
    """Running, and it knows that the model servers are full."""
    async with running(service) as ports:
        pool_of(service).tables.objectives.replace(ObjectiveTable({"chat": 5, "batch": -10}))
        await servers[0].has(9)
        yield ports


@contextlib.asynccontextmanager
async def client(ports: Ports) -> AsyncIterator[Any]:
    """Makes calls that stay open until somebody ends them, as Envoy's do."""
    async with aio.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
        process: Any = channel.stream_stream(
            EXT_PROC_METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )

        async def ask(**headers: str) -> Any:
            call = process()
            for message in chat(BODY, **headers):
                await call.write(message)
            return call

        yield ask


def waiting(service: Service) -> int:
    return sum(len(gate.queues) for gate in part(service, FlowControl).gates.values())


async def wait_for(service: Service, number: int) -> None:
    await until(lambda: asyncio.sleep(0, waiting(service) == number))


def refused(answer: pb.ProcessingResponse) -> tuple[int, str, dict[str, str]]:
    immediate = answer.immediate_response
    headers = {each.header.key: each.header.raw_value.decode() for each in immediate.headers.set_headers}
    return immediate.status.code, orjson.loads(immediate.body)["error"]["code"], headers


async def test_fifty_at_a_full_pool_go_by_priority_and_those_who_left_do_not(
    servers: list[ModelServer], transport: str
) -> None:
    service = picker(servers, transport)
    async with full(servers, service) as ports:
        asked = []
        async with client(ports) as ask:
            for number in range(50):
                objective = ("batch", "", "chat")[number % 3]
                named = {"x_llm_d_inference_objective": objective, "x_request_id": f"{objective}-{number}"}
                asked.append(await ask(**named))
                await wait_for(service, number + 1)
            for leaves in (asked[0], asked[26]):  # the first of the lowest priority, and one in the middle of the highest
                leaves.cancel()
            await wait_for(service, 48)
            queued = (await get(ports.metrics, "/metrics"))[1]
            assert _sum(queued, "llm_d_epp_flow_control_queue_size") == 48
            for server in servers:
                server.waiting = 0
            await wait_for(service, 0)
            stay = [each for each in asked if each not in (asked[0], asked[26])]
            first = [await call.read() for call in stay]
            assert all(DESTINATION in headers_of(answer) for answer in first)
            for call in stay:
                call.cancel()
        assert service.serving.decisions is not None
        order = [record.request_id for record in service.serving.decisions.latest()][::-1]
        expected = [f"chat-{n}" for n in range(2, 50, 3) if n != 26]
        expected += [f"-{n}" for n in range(1, 50, 3)] + [f"batch-{n}" for n in range(3, 50, 3)]
        assert order == expected
        page = (await get(ports.metrics, "/metrics"))[1]
        assert _sum(page, "llm_d_epp_flow_control_requests_total", 'outcome="EvictedContextCancelled"') == 2
        assert _sum(page, "llm_d_epp_flow_control_requests_total", 'outcome="Dispatched"') == 48
        await until(lambda: asyncio.sleep(0, service.telemetry.streams.open.value == 0))


async def test_a_burst_into_an_idle_pool_gets_no_further_than_the_gate(servers: list[ModelServer], transport: str) -> None:
    service = picker(servers, transport, ON, refresh_metrics_interval="1h", metrics_staleness_threshold="2h")
    async with running(service) as ports, client(ports) as ask:
        await until(lambda: asyncio.sleep(0, service.unready() is None))
        store = pool_of(service).store
        for key in store.members():
            store.page_started(key)
            store.page_read(key, Load(waiting=0, running=0, kv_usage=0.0))
        asked = [await ask() for _ in range(30)]
        await wait_for(service, 20)
        assert service.serving.decisions is not None
        assert len(service.serving.decisions) == 10  # 2 endpoints × queueDepthThreshold
        for call in asked:
            call.cancel()
        await wait_for(service, 0)


async def test_who_waits_too_long_is_told_why(servers: list[ModelServer], transport: str) -> None:
    service = picker(servers, transport, ON + "flowControl: {defaultRequestTTL: 100ms}")
    async with full(servers, service) as ports, client(ports) as ask:
        status, code, headers = refused(await (await ask()).read())
        assert (status, code) == (429, "queue_timeout")
        assert headers["x-llm-d-request-dropped-reason"] == "rejected-ttl-expired"
        assert int(headers["retry-after"]) >= 1


async def test_who_still_waits_when_it_stops_can_go_elsewhere(servers: list[ModelServer], transport: str) -> None:
    service = picker(servers, transport, drain_timeout="2s")
    async with contextlib.AsyncExitStack() as stack:
        ask = None
        async with full(servers, service) as ports:
            ask = await stack.enter_async_context(client(ports))
            call = await ask()
            await wait_for(service, 1)
        status, code, headers = refused(await call.read())
    assert (status, code) == (503, "shutting_down")
    assert headers["x-llm-d-request-dropped-reason"] == "rejected-shutting-down"


async def test_who_waits_when_it_stops_may_still_be_served(servers: list[ModelServer], transport: str) -> None:
    service = picker(servers, transport, drain_timeout="5s")
    async with contextlib.AsyncExitStack() as stack:
        async with full(servers, service) as ports:
            ask = await stack.enter_async_context(client(ports))
            call = await ask()
            await wait_for(service, 1)
            for server in servers:
                server.waiting = 0
            served = asyncio.create_task(call.read())
            stack.callback(call.cancel)
            served.add_done_callback(lambda _: call.cancel())
        assert DESTINATION in headers_of(await served)


async def test_an_agent_that_says_who_it_is_has_a_flow_of_its_own(servers: list[ModelServer], transport: str) -> None:
    service = picker(servers, transport, ON + "plugins: [{type: queue-scorer}, {type: agent-identity}]")
    async with full(servers, service) as ports, client(ports) as ask:
        call = await ask(x_claude_code_session_id="agent-7")
        await wait_for(service, 1)
        page = (await get(ports.metrics, "/metrics"))[1]
        assert _sum(page, "llm_d_epp_flow_control_queue_size", 'fairness_id="agent-7"') == 1
        call.cancel()
        await wait_for(service, 0)


async def test_without_the_gate_there_is_nothing_of_it(servers: list[ModelServer], transport: str) -> None:
    service = picker(servers, transport, "plugins: [{type: queue-scorer}]")
    assert service.find(FlowControl) is None
    async with full(servers, service) as ports:
        assert DESTINATION in headers_of((await exchange(ports.grpc, chat(BODY)))[0])
        page = (await get(ports.metrics, "/metrics"))[1]
        assert "flow_control_requests_total" not in page
        assert _sum(page, "llm_d_epp_flow_control_queue_size") == 0


@pytest.mark.parametrize(("gates", "there"), [(("flowControl=true",), True), (("flowControl=false",), False), ((), True)])
def test_flags_say_it_last(gates: tuple[str, ...], there: bool) -> None:
    service = build(EppSettings(config_text=ON, endpoints=("127.0.0.1:1",), feature_gates=gates, secure_serving=False))
    assert (service.find(FlowControl) is not None) is there


def test_what_is_wrong_with_it_is_said_with_its_line() -> None:
    config = ON + "flowControl:\n  defaultPriorityBand:\n    fairnessPolicyRef: nobody\n"
    with pytest.raises(SettingsError) as caught:
        build(EppSettings(config_text=config, endpoints=("127.0.0.1:1",), secure_serving=False))
    (problem,) = caught.value.problems
    assert "flowControl.defaultPriorityBand.fairnessPolicyRef: no plugin is called 'nobody'" in problem


def _sum(page: str, name: str, words: str = "") -> float:
    lines = [line for line in page.splitlines() if line.startswith(name + "{") and words in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
