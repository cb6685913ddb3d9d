"""Requests in flight are taken back behind a real Envoy: the client is told, the engine lets go, and who waited is served."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from extproc.app import Service, build
from extproc.settings.commands import EppSettings
from extproc.settings.sim import SimSettings
from extproc.simulator.server import Simulator
from extproc.traffic import ObjectiveTable
from tests.app.running import pool_of, running, until
from tests.e2e.front import envoy_before
from tests.e2e.parts import Answer, call
from tests.fakes.serving import TransportName

pytestmark = [pytest.mark.e2e, pytest.mark.every_transport]

CHAT = "/v1/chat/completions"
ROOM = 2
BATCH = {"x-llm-d-inference-objective": "batch"}
URGENT = {"x-llm-d-inference-objective": "chat"}
CONFIG = (
    "featureGates: [flowControl]\n"
    f"plugins: [{{type: queue-scorer}}, {{type: concurrency-detector, parameters: {{maxConcurrency: {ROOM}}}}}]\n"
    "flowControl: {enableEviction: true}\n"
)


class Front(NamedTuple):
    url: str
    sim: Simulator
    service: Service

    def body(self, tokens: int, *, stream: bool = False) -> bytes:
        said = {"model": self.sim.settings.model[0], "stream": stream, "max_tokens": tokens, "ignore_eos": True}
        return orjson.dumps({**said, "messages": [{"role": "user", "content": "hello"}]})

    def ask(self, tokens: int, headers: dict[str, str], *, stream: bool = False) -> asyncio.Task[Answer]:
        return asyncio.create_task(asyncio.to_thread(call, self.url, CHAT, self.body(tokens, stream=stream), headers))

    async def engine(self, running: int, waiting: int = 0) -> None:
        engine = self.sim.engine
        await until(lambda: asyncio.sleep(0, (len(engine.running), len(engine.waiting)) == (running, waiting)))

    @contextlib.contextmanager
    def streaming(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=15)
        connection.request("POST", CHAT, self.body(20_000, stream=True), {"content-type": "application/json", **BATCH})
        try:
            yield connection
        finally:
            connection.close()


@contextlib.asynccontextmanager
async def front(binary: Path, directory: Path, transport: TransportName, mode: str, seats: int = ROOM) -> AsyncIterator[Front]:
    """Envoy before a simulated engine of so many seats, and room for `ROOM` requests at it."""
    settings = SimSettings(port=0, max_num_seqs=seats, decode_step="2ms", max_model_len=30_000)  # type: ignore[arg-type]
    async with Simulator(settings) as sim:
        made: list[Service] = []

        def serve_at(port: int) -> contextlib.AbstractAsyncContextManager[object]:
            where = {"host": "127.0.0.1", "grpc_port": port, "grpc_health_port": 0, "metrics_port": 0}
            here = {"secure_serving": False, "transport": transport, "drain_timeout": "1s", "config_text": CONFIG}
            made.append(build(EppSettings(**where, **here, endpoints=(f"127.0.0.1:{sim.port}",))))  # type: ignore[arg-type]
            return running(made[0])

        async with envoy_before(serve_at, binary, directory, mode, ports={8101: sim.port}) as at:
            await until(lambda: asyncio.sleep(0, made[0].unready() is None))
            pool_of(made[0]).tables.objectives.replace(ObjectiveTable({"chat": 5, "batch": -10}))
            yield Front(at.url, sim, made[0])


@pytest.mark.parametrize("mode", ["NONE", "FULL_DUPLEX_STREAMED"])
async def test_who_is_in_the_way_is_told_and_who_waited_is_served(
    envoy_binary: Path, tmp_path: Path, transport: TransportName, mode: str
) -> None:
    async with front(envoy_binary, tmp_path, transport, mode) as at:
        first = at.ask(20_000, BATCH)
        await at.engine(1)
        second = at.ask(20_000, BATCH)
        await at.engine(2)
        urgent = await at.ask(2, URGENT)
        assert urgent.status == 200
        gone = await second
        assert (gone.status, gone.json["error"]["code"]) == (429, "request_evicted")
        assert gone.headers["x-llm-d-request-dropped-reason"] == "evicted"
        assert int(gone.headers["retry-after"]) >= 1
        await at.engine(1)
        assert not first.done(), "one was enough"
    await asyncio.gather(first, return_exceptions=True)


async def test_a_stream_whose_answer_has_not_begun_is_told_and_another_goes_on(
    envoy_binary: Path, tmp_path: Path, transport: TransportName
) -> None:
    """The engine has one seat. It says 200 to the second at once, and nothing else."""
    async with front(envoy_binary, tmp_path, transport, "FULL_DUPLEX_STREAMED", seats=1) as at:
        with at.streaming() as running_one:
            begun = await asyncio.to_thread(running_one.getresponse)
            assert begun.status == 200
            assert await asyncio.to_thread(begun.read, 10)
            with at.streaming() as waiting_one:
                await at.engine(1, 1)
                urgent = at.ask(2, URGENT)
                told = await asyncio.to_thread(waiting_one.getresponse)
                assert told.status == 429
                assert orjson.loads(told.read())["error"]["code"] == "request_evicted"
                await at.engine(1, 1)
                assert len(await asyncio.to_thread(begun.read, 10)) == 10, "what has begun goes on"
            running_one.close()
            assert (await urgent).status == 200
