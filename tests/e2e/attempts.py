"""A serving endpoint behind a real Envoy: entities in a list, asked in turn, and servers that do as the test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from extproc import names
from extproc.demo.ports import free_ports
from extproc.domain import InferenceRequest, Splice
from extproc.errors import NoEndpoints
from extproc.stages import ENOUGH, Draft, Ending, Hooks, Step
from extproc.stages.draft import Provided
from tests.e2e.front import envoy_before
from tests.e2e.parts import Answer, call
from tests.e2e.upstream import Exchange, Upstream
from tests.fakes.deployment import Deployment
from tests.fakes.serving import TransportName

INVOCATIONS = "/serving-endpoints/ep/invocations"
CHAT = "/v1/chat/completions"
NAME = b'"ep"'
_REFUSING, _FIRST, _API = 8203, 8101, 9080
"""Usual ports: of an endpoint where nobody listens, of the first that does, and of the gateway's API."""

Do: TypeAlias = Callable[[Exchange], Awaitable[None]]


class Entity(NamedTuple):
    """What a request for it becomes."""

    model: str
    number: int = 0
    """Which of the endpoints serves it; REFUSES has none that does."""
    provider: str = ""
    """The provider's name, as TLS has it."""
    route: str = ""
    """Of names.ROUTE_…, for a provider."""
    empty: bool = False
    """Its pool has no endpoint."""
    unchecked: bool = False
    """No address of the provider was resolved and allowed."""
    restored: bool = False
    """The answer names the endpoint instead."""
    patience_s: float = 0.0
    """How long its answer may take to begin; 0: as long as it likes."""


REFUSES = -1


class Entities:
    """A stage that serves each attempt by the next entity, wholly: model, path, endpoint or address, credentials."""

    def __init__(self, *entities: Entity) -> None:
        self.hooks = Hooks(ended=self._ended)
        self.entities = entities
        self.ports: list[int] = []
        self.attempts: list[int | None] = []
        self.draws: list[str] = []
        """What Envoy drew for the request of each."""
        self.ends: list[tuple[int, bool]] = []
        """Status, and whether the answer's end was seen, of each attempt; not of a request that was handed over."""

    def begin(self, entities: Sequence[Entity]) -> None:
        """Others from now on, and nothing was asked for yet."""
        self.entities = tuple(entities)
        for seen in (self.attempts, self.draws, self.ends):
            seen.clear()

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        head, body = request.head, draft.body or b""
        self.attempts.append(head.attempt)
        self.draws.append(head.text(names.DRAW_HEADER))
        if request.model != "ep":  # a model, and no endpoint
            self._send_to(draft, self.ports[0])
            return ENOUGH
        if head.attempt == 0:
            draft.set_headers += ((names.ROUTE_HEADER, names.ROUTE_ATTEMPTS),)
            return ENOUGH
        number = head.attempt or 1
        entity = self.entities[number - 1]
        draft.falls_back = number < len(self.entities)
        draft.set_response_headers += (("served-model-name", entity.model),)
        if entity.restored:
            draft.restore_model = (entity.model, "ep")
        if entity.empty:
            raise NoEndpoints(f"nobody serves {entity.model}")
        at = body.find(NAME)
        if at >= 0:
            draft.splices = (Splice(at, at + len(NAME), json.dumps(entity.model).encode()),)
            draft.remove_headers += ("content-length",)
        draft.set_headers += ((":path", f"/v1/{entity.model}"), ("authorization", f"Bearer {entity.model}"))
        port = self.ports[entity.number]
        if entity.patience_s:
            draft.provided = Provided(entity.provider, "", entity.patience_s)
        if entity.provider:
            draft.set_headers += ((":authority", entity.provider), (names.ROUTE_HEADER, entity.route))
            if not entity.unchecked:
                draft.metadata += ((names.EXTERNAL_KEY, f"127.0.0.1:{port}"),)
        else:
            self._send_to(draft, port)
        return ENOUGH

    def _send_to(self, draft: Draft, port: int) -> None:
        draft.destination = f"127.0.0.1:{port}"
        destination = ((names.DESTINATION_HEADER, draft.destination),)
        draft.set_headers += destination
        draft.metadata += destination

    def _ended(self, draft: Draft, ending: Ending) -> None:
        if (names.ROUTE_HEADER, names.ROUTE_ATTEMPTS) not in draft.set_headers:
            self.ends.append((ending.status, ending.complete))


class Servers:
    """What the model servers were asked, and what each model does; one of which nothing is said answers its name."""

    def __init__(self, does: Mapping[str, Do]) -> None:
        self.does = dict(does)
        self.asked: list[Exchange] = []

    def begin(self, does: Mapping[str, Do]) -> None:
        """They do this from now on, and were asked for nothing yet."""
        self.does = dict(does)
        self.asked.clear()

    @property
    def models(self) -> list[str]:
        """The models that were asked for, in order, by the body."""
        return [json.loads(each.body)["model"] for each in self.asked]

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.append(exchange)
        model = json.loads(exchange.body)["model"]
        await self.does.get(model, good)(exchange)


async def good(exchange: Exchange) -> None:
    """An answer that names the model."""
    await exchange.begin("application/json")
    await exchange.chunk(json.dumps({"model": json.loads(exchange.body)["model"]}).encode())
    await exchange.end()


def says(status: int, *lines: str) -> Do:
    """An answer with this status, and the model's name."""

    async def answer(exchange: Exchange) -> None:
        await exchange.begin("application/json", *lines, status=status)
        await exchange.chunk(json.dumps({"error": json.loads(exchange.body)["model"]}).encode())
        await exchange.end()

    return answer


async def cuts(exchange: Exchange) -> None:
    """No answer at all."""
    exchange.cut()


async def cuts_after_head(exchange: Exchange) -> None:
    """200, and then nothing of the stream that it promises."""
    await exchange.begin("text/event-stream")
    exchange.cut()


class Before(NamedTuple):
    """What stands there."""

    url: str
    admin: str
    entities: Entities
    servers: Servers
    log: Path

    async def ask(
        self,
        body: bytes | Mapping[str, Any] = {"model": "ep"},
        path: str = INVOCATIONS,
        headers: Mapping[str, str] = {},
    ) -> Answer:
        """The answer to one request."""
        return await asyncio.to_thread(call, self.url, path, body, headers)

    async def stats(self, part: str) -> dict[str, int]:
        """Envoy's counters that have this in their name, but for zeros."""
        page = (await asyncio.to_thread(call, self.admin, f"/stats?usedonly&filter={part}")).body.decode()
        lines = [line.split(": ") for line in page.splitlines()]
        return {name: int(value) for name, value in lines if value.isdigit() and value != "0"}

    async def logged(self, count: int) -> list[dict[str, Any]]:
        """So many lines of Envoy's access log, which are all that there are."""
        async with asyncio.timeout(10):
            while True:
                lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
                if len(lines) >= count:
                    break
                await asyncio.sleep(0.01)  # it is written every 20 ms
        assert len(lines) == count, lines
        return [json.loads(line) for line in lines]


@contextlib.asynccontextmanager
async def attempts(
    binary: Path,
    directory: Path,
    entities: Sequence[Entity],
    does: Mapping[str, Do] = {},
    *,
    transport: TransportName = "h2",
    change: Callable[[Any], None] = lambda document: None,
    providers: Sequence[Upstream] = (),
    config: str = "serving-endpoints.yaml",
    api: int | None = None,
) -> AsyncIterator[Before]:
    """Envoy with the entities behind it; `providers` are listening, and an entity's number counts on into their first ports."""
    servers = Servers(does)
    stage = Entities(*entities)
    upstream = Upstream(servers)
    director = Deployment().director(stage)
    async with upstream.listening():
        usual = list(upstream.ports)
        (nobody,) = free_ports(1, taken=upstream.ports.values())
        ports = {**upstream.ports, _REFUSING: nobody} | ({} if api is None else {_API: api})
        stage.ports = [ports[port] for port in usual[:-1]]
        stage.ports += [provider.ports[_FIRST] for provider in providers] + [nobody]
        async with envoy_before(
            director, binary, directory, config=config, ports=ports, transport=transport, change=change
        ) as front:
            yield Before(front.url, front.admin, stage, servers, directory / "envoy.out")
