"""Faults on request: by header, for a number of calls, for good; and the control pages they are set with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from extproc.settings.sim import Fault, parse_fault, parse_targeted_fault
from extproc.simulator import faults
from extproc.simulator.faults import FaultBook
from extproc.simulator.server import Simulator
from tests.simulator.helpers import eventually, fast

STREAM = {"prompt": "x", "max_tokens": 9, "ignore_eos": True, "stream": True}
PLAIN = {"prompt": "x", "max_tokens": 9}


@pytest.fixture
async def server() -> AsyncIterator[Simulator]:
    async with Simulator(fast()) as simulator:
        yield simulator


class Caller:
    """Calls one server, with or without a fault in the header."""

    def __init__(self, client: aiohttp.ClientSession, server: Simulator) -> None:
        self.client, self.url = client, server.url

    async def status(self, path: str, body: dict[str, Any] | None = None, fault: str | None = None) -> int:
        headers = {} if fault is None else {faults.HEADER: fault}
        method = "GET" if body is None else "POST"
        async with self.client.request(method, self.url + path, json=body, headers=headers) as response:
            await response.read()
            return response.status

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        async with self.client.request(method, self.url + path, json=body) as response:
            return await response.json()


@pytest.fixture
def call(client: aiohttp.ClientSession, server: Simulator) -> Caller:
    return Caller(client, server)


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_status(call: Caller, status: int) -> None:
    assert await call.status("/v1/completions", PLAIN, str(status)) == status
    assert await call.status("/v1/models", None, str(status)) == status
    assert await call.status("/v1/completions", PLAIN) == 200


async def test_slow_is_late_but_right(call: Caller) -> None:
    begun = asyncio.get_running_loop().time()
    assert await call.status("/v1/completions", PLAIN, "slow=50ms") == 200
    assert asyncio.get_running_loop().time() - begun >= 0.05


async def test_a_drop_is_no_answer(call: Caller) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await call.status("/v1/completions", PLAIN, "drop")


@pytest.mark.parametrize("after", [0, 2, 9])
async def test_a_drop_in_the_middle_of_a_stream(client: aiohttp.ClientSession, server: Simulator, after: int) -> None:
    headers = {faults.HEADER: f"drop-after={after}"}
    async with client.post(server.url + "/v1/completions", json=STREAM, headers=headers) as response:
        assert response.status == 200
        received = bytearray()
        while not response.content.exception():
            try:
                received += await response.content.readany()
            except aiohttp.ClientPayloadError:
                break
            assert not response.content.at_eof()
    assert received.count(b"data: {") == after
    assert b"[DONE]" not in received
    await eventually(lambda: not server.engine.has_work and server.generation.in_flight == 0)


async def test_a_drop_in_the_middle_of_a_document(client: aiohttp.ClientSession, server: Simulator) -> None:
    headers = {faults.HEADER: "drop-after=20"}
    async with client.post(server.url + "/v1/completions", json=PLAIN, headers=headers) as response:
        assert int(response.headers["content-length"]) > 20
        assert (await response.content.readexactly(20)).startswith(b'{"id":"cmpl-')
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()


async def test_a_hang_lasts_until_the_client_goes(client: aiohttp.ClientSession, server: Simulator) -> None:
    server.faults.set("requests", parse_fault("hang"))
    call = asyncio.create_task(client.post(server.url + "/v1/completions", json=PLAIN))
    await eventually(lambda: len(server.log.newest_last()) == 1)
    done, _ = await asyncio.wait([call], timeout=0.05)
    assert not done
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def test_a_server_with_a_hanging_call_stops(client: aiohttp.ClientSession) -> None:
    server = Simulator(fast(fault=["metrics:hang"]))
    await server.start()
    call = asyncio.create_task(client.get(server.url + "/metrics"))
    done, _ = await asyncio.wait([call], timeout=0.05)
    assert not done
    await asyncio.wait_for(server.stop(), 2)
    (failed,) = await asyncio.gather(call, return_exceptions=True)
    assert isinstance(failed, aiohttp.ClientError)


async def test_standing_faults_count_down(call: Caller) -> None:
    standing = await call.control("POST", "/sim/faults", {"fault": "503", "count": 2})
    assert standing == {"requests": {"fault": "503", "count": 2}}
    assert await call.status("/v1/models") == 200  # neither struck nor counted
    assert [await call.status("/v1/completions", PLAIN) for _ in range(3)] == [503, 503, 200]


async def test_targets_are_separate(call: Caller) -> None:
    await call.control("POST", "/sim/faults", {"fault": "500", "target": "health"})
    await call.control("POST", "/sim/faults", {"fault": "503", "target": "metrics"})
    paths = ("/health", "/ping", "/metrics", "/metrics/", "/version")
    assert [await call.status(path) for path in paths] == [500, 500, 503, 503, 200]
    assert await call.status("/v1/completions", PLAIN) == 200
    await call.control("POST", "/sim/faults", {"target": "health"})
    assert await call.control("GET", "/sim/faults") == {"metrics": {"fault": "503", "count": None}}
    assert await call.control("DELETE", "/sim/faults") == {}
    assert await call.status("/metrics") == 200


async def test_pages_that_are_no_metrics(client: aiohttp.ClientSession, server: Simulator) -> None:
    for fault in ("garbage", "huge"):
        server.faults.set("metrics", parse_fault(fault, "metrics"), 1)
    async with client.get(server.url + "/metrics") as response:
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > 10**6:
                break  # nobody should read all of it
    assert size > 10**6
    server.faults.set("metrics", parse_fault("garbage", "metrics"))
    async with client.get(server.url + "/metrics") as response:
        assert await response.read() == faults.GARBAGE


@pytest.mark.parametrize("body", [{"fault": "explode"}, {"fault": "huge"}, {"count": 0}, {"targets": "all"}, []])
async def test_a_control_body_that_makes_no_sense(call: Caller, body: Any) -> None:
    answer = await call.control("POST", "/sim/faults", body)
    assert answer["error"]["code"] == 400


async def test_a_header_that_makes_no_sense(call: Caller) -> None:
    assert await call.status("/v1/completions", PLAIN, "explode") == 400
    assert await call.status("/sim/state", None, "explode") == 200  # control pages never fail


async def test_flags_set_faults(client: aiohttp.ClientSession) -> None:
    async with Simulator(fast(fault=["503", "health:500"])) as server:
        call = Caller(client, server)
        assert [await call.status("/health"), await call.status("/v1/completions", PLAIN)] == [500, 503]


async def test_synthetic_load_shows_in_the_metrics(client: aiohttp.ClientSession, server: Simulator) -> None:
    call = Caller(client, server)
    load = {"waiting": 5, "running": 8, "kv_usage": 0.7, "waiting_loras": [], "running_loras": ["a"]}
    assert await call.control("POST", "/sim/load", load) == load
    async with client.get(server.url + "/metrics") as response:
        page = await response.text()
    assert 'vllm:num_requests_waiting{engine="0",model_name="sim"} 5.0' in page
    assert 'vllm:kv_cache_usage_perc{engine="0",model_name="sim"} 0.7' in page
    state = await call.control("GET", "/sim/state")
    assert (state["running"], state["load"]["running"]) == (0, 8)
    await call.control("POST", "/sim/load", {})
    async with client.get(server.url + "/metrics") as response:
        assert 'vllm:num_requests_waiting{engine="0",model_name="sim"} 0.0' in await response.text()
    assert (await call.control("POST", "/sim/load", {"kv_usage": 2}))["error"]["code"] == 400


async def test_the_log_keeps_the_last_requests(client: aiohttp.ClientSession, server: Simulator) -> None:
    call = Caller(client, server)
    for number in range(103):
        headers = {"X-Number": str(number)}
        async with client.post(server.url + "/nowhere", data=b'{"model":"m"}', headers=headers) as response:
            await response.read()
    await call.status("/metrics")
    await call.status("/health")
    kept = (await call.control("GET", "/sim/requests"))["requests"]
    assert len(kept) == 100
    last = kept[-1]
    assert ["X-Number", "102"] in last["headers"]
    assert (last["method"], last["path"], last["model"], last["body_bytes"]) == ("POST", "/nowhere", "m", 13)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("slow=1m30s", Fault("slow", delay_s=90.0, text="slow=1m30s")),
        ("418", Fault("status", status=418, text="418")),
        ("drop-after=5", Fault("drop-after", after=5, text="drop-after=5")),
        ("hang", Fault("hang", text="hang")),
    ],
)
def test_the_grammar(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault
    assert str(fault) == text
    assert parse_targeted_fault(text) == ("requests", fault)
    assert parse_targeted_fault(f"health:{text}") == ("health", fault)


@pytest.mark.parametrize("text", ["", "slow", "slow=x", "200", "600", "drop-after", "drop-after=-1", "hang=1", "huge"])
def test_what_the_grammar_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"fault|duration"):
        parse_fault(text)


def test_a_header_goes_before_what_stands_and_does_not_count() -> None:
    book = FaultBook()
    book.set("requests", parse_fault("503"), 1)
    assert str(book.take("requests", "hang")) == "hang"
    assert str(book.take("requests")) == "503"
    assert book.take("requests") is None
