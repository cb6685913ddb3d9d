"""An API on a port of its own for tests, and a client of it that knows nothing but HTTP."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
from prometheus_client import Metric

from extproc.api.application import application
from extproc.api.ask import Explain, Inside, ShadowsOf
from extproc.api.auth import Guard, Open
from extproc.api.server import ApiServer
from extproc.api.standing import Pools
from extproc.control.audited import Audited
from extproc.measures import Measures
from extproc.observability.decisions import DecisionLog
from extproc.observability.instruments import Instruments
from extproc.slices import Slices
from extproc.sockets.bounds import Bounds
from tests.control.desks import Bench

BASE = "/api/2.0/serving-endpoints"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> tuple[int, str, str]:
        """Of an error, which has nothing else."""
        found = self.json
        assert set(found) == {"error_code", "message"}, found
        return self.status, found["error_code"], found["message"]


@dataclass
class Api:
    """What is served, and calls of it."""

    bench: Bench
    instruments: Instruments
    down: set[str] = field(default_factory=set)
    """Pools that can't serve."""
    port: int = 0
    server: ApiServer | None = None
    token: str | None = None

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """`body`: bytes as they are, all else as JSON."""
        data = None if body is None else io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://127.0.0.1:{self.port}{path}", data=data, headers=headers) as answer,
        ):
            return Answer(answer.status, answer.headers, await answer.text())

    async def get(self, path: str = "", **headers: str) -> Answer:
        return await self.call("GET", BASE + path, **headers)

    async def post(self, path: str, body: Any, **headers: str) -> Answer:
        return await self.call("POST", BASE + path, body, **headers)

    async def put(self, path: str, body: Any, **headers: str) -> Answer:
        return await self.call("PUT", BASE + path, body, **headers)

    async def patch(self, path: str, body: Any, **headers: str) -> Answer:
        return await self.call("PATCH", BASE + path, body, **headers)

    async def delete(self, path: str, **headers: str) -> Answer:
        return await self.call("DELETE", BASE + path, **headers)


@contextlib.asynccontextmanager
async def served(
    bench: Bench | None = None,
    guard: Guard | None = None,
    *,
    opened: bool = True,
    bounds: Bounds = Bounds(),
    body_timeout_s: float = 10.0,
    metrics: Callable[[], Iterable[Metric | None]] | None = None,
    measures: Measures | None = None,
    shadows: ShadowsOf | None = None,
    held: Callable[[str], Mapping[str, str]] = lambda name: {},
    decisions: DecisionLog | None = None,
    audited: Audited | None = None,
    explain: Explain | None = None,
    pools: Pools | None = None,
) -> AsyncIterator[Api]:
    """The API of a desk whose store is in memory; without a guard everybody may everything."""
    bench = bench or Bench()
    api = Api(bench, Instruments())
    inside = Inside(
        bench.desk,
        bench.rollouts,
        lambda: bench.table,
        lambda pool: pool not in api.down,
        metrics or api.instruments.pieces,
        guard or Open(),
        Slices(),
        body_timeout_s,
        measures,
        shadows=shadows,
        held=held,
        decisions=decisions,
        audited=audited,
        explain=explain,
        pools=pools,
    )
    if opened:
        await bench.desk.open()
    api.server = server = ApiServer(application(inside, api.instruments), bounds)
    try:
        api.port = await server.start("127.0.0.1", 0)
        yield api
    finally:
        await server.stop()
        await bench.desk.close()
