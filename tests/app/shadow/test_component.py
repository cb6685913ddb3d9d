"""Copies from the stage to the comparison: who gets them, what they carry and may cost, and what is never seen of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from extproc.app.shadow import Shadows
from extproc.control.deliveries import shadows_of
from extproc.domain import BodyPath, Endpoint, Load, RequestHead
from extproc.errors import EntityNotServed
from extproc.live import LiveWriter
from extproc.observability.shadow import ShadowMetrics
from extproc.request import parse
from extproc.shadow import LiveAnswer
from extproc.stages import Copy, PoolOfEndpoints
from extproc.traffic import (
    Catalog,
    EndpointSpec,
    EntitySpec,
    ModelRewrite,
    RewriteRule,
    RewriteTable,
    RewriteTarget,
    Route,
    RouteTable,
    ServingEndpoint,
    TrafficTable,
)
from tests.app.shadow.servers import Asked, Do, ModelServer, chat, good, listening
from tests.fakes.chance import seeded
from tests.fakes.clock import FakeClock
from tests.fakes.deployment import Deployment
from tests.fakes.page import counted

ASKED = {"model": "ep", "messages": [{"role": "user", "content": "Hi"}]}
HEADERS = {
    ":method": "POST",
    ":path": "/v1/chat/completions",
    "content-type": "application/json",
    "x-request-id": "id-1",
    "authorization": "Bearer secret",
    "cookie": "secret=1",
    "x-forwarded-for": "10.1.1.1",
    "x-team": "blue",
}


class Running:
    """The component in front of a pool with one endpoint, which is the server."""

    def __init__(self, server: ModelServer, given: dict[str, Any]) -> None:
        self.server = server
        self.deployment = Deployment()
        self.store = self.deployment.add_pool("dark", [Endpoint("127.0.0.1", server.port)])
        self.pools: dict[str, PoolOfEndpoints] = self.deployment.pools
        self.writer = LiveWriter(TrafficTable())
        self.wall = FakeClock()
        self.verdicts: list[tuple[str, str, bool | None]] = []
        self.shadows = Shadows(
            self.writer.live,
            lambda: self.pools,
            lambda: self.deployment.gates,
            ShadowMetrics(self.deployment.instruments),
            drain_timeout_s=0.05,
            verdict=lambda *said: self.verdicts.append(said),
            wall_clock=self.wall,
            draw=seeded(),
        )
        self.set(**given)

    def set(self, **given: Any) -> None:
        """The shadow is to be like this from now on."""
        specs = shadows_of({"shadows": [{"entity": "next", "percentage": 100, **given}]})
        entities = (EntitySpec("now", "model-now"), EntitySpec("next", "model-next"))
        routes = RouteTable([Route(("model-now",), "light"), Route(("model-next",), "dark")])
        spec = EndpointSpec("ep", entities, (100, 0), shadows=specs)
        self.endpoint = ServingEndpoint(spec, Catalog(routes=routes))
        self.writer.replace(TrafficTable([self.endpoint]))

    def copy(self, body: Any = ASKED, **headers: str) -> Copy:
        """A request that was decided, and goes on."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        given = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
        head = RequestHead({name: value.encode() for name, value in given.items() if value})
        live = LiveAnswer(0.0, lambda: 1.0)
        spec = self.endpoint.spec.shadows[0]
        return Copy(
            self.endpoint,
            spec,
            self.endpoint.entity("next"),
            parse(head, data),
            data,
            live,
            "now",
            0,
            self.endpoint.entity("next").pool,
        )

    async def settled(self) -> None:
        """Until nothing is under way."""
        async with asyncio.timeout(5):
            while len(self.shadows):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def send(self, copy: Copy, live: Any = chat()) -> dict[str, Any]:
        """Send it, end its live request with this answer, and tell what the last pair was."""
        assert self.shadows.offer(copy)
        ended(copy.live, live)
        await self.settled()
        pair: dict[str, Any] = self.told(bodies=True)["last_pairs"][0]
        return pair

    def told(self, **how: Any) -> dict[str, Any]:
        (told,) = self.shadows.shapes("ep", **how)
        return told

    def in_flight(self) -> float:
        return sum(self.store.candidates().in_flight)


def ended(live: LiveAnswer, value: Any, *, status: int = 200, path: BodyPath = BodyPath.FREE, complete: bool = True) -> None:
    """The live request has this answer."""
    if live.headers(status, {"content-type": b"application/json"}, path):
        live.piece(value if isinstance(value, bytes) else orjson.dumps(value))
    live.end(status, complete, "10.0.0.9:8000")


@contextlib.asynccontextmanager
async def running(does: Do = good, **given: Any) -> AsyncIterator[Running]:
    async with listening(ModelServer(does)) as server:
        made = Running(server, given)
        loop = asyncio.create_task(made.shadows.run(asyncio.Event()))
        try:
            yield made
        finally:
            loop.cancel()
            await made.shadows.close()
            assert made.in_flight() == 0
            assert (made.told()["in_flight"], made.told()["held_bytes"]) == (0, 0)


class TestCopies:
    async def test_a_pair(self) -> None:
        async with running() as made:
            pair = await made.send(made.copy())
            assert (pair["verdict"], pair["similarity"], pair["request_id"]) == ("same", 1.0, "id-1")
            assert pair["live"]["entity"] == "now"
            assert pair["live"]["endpoint"] == "10.0.0.9:8000"
            assert pair["shadow"]["endpoint"] == f"127.0.0.1:{made.server.port}"
            assert pair["shadow"]["completion_tokens"] == 2
            assert made.verdicts == [("ep", "next", True)]
            told = made.told()
            assert (told["copies"], told["not_sent"], told["summary"]["pairs"]) == ({"answered": 1}, {}, 1)
            assert counted(made.deployment.instruments, "extproc_shadow_pairs_total") == {
                'extproc_shadow_pairs_total{served_entity="next",serving_endpoint="ep",verdict="same"}': 1.0
            }

    async def test_what_a_copy_carries(self) -> None:
        async with running() as made:
            await made.send(made.copy(anthropic_version="2023-06-01"))
            (asked,) = made.server.asked
            assert asked.line == "POST /v1/chat/completions HTTP/1.1"
            assert asked.json == {**ASKED, "model": "model-next"}
            assert asked.headers == {
                "host": f"127.0.0.1:{made.server.port}",
                "content-type": "application/json",
                "anthropic-version": "2023-06-01",
                "content-length": str(len(asked.body)),
                "accept-encoding": "identity",
                "x-extproc-shadow": "ep/next",
                "x-request-id": "id-1-shadow",
            }

    async def test_headers_that_somebody_asked_for(self) -> None:
        async with running(copy_headers=["Authorization", "x-team", "x-none"]) as made:
            await made.send(made.copy())
            headers = made.server.asked[0].headers
            assert (headers["authorization"], headers["x-team"]) == ("Bearer secret", "blue")
            assert "x-none" not in headers

    @pytest.mark.parametrize(
        ("path", "body", "served"),
        [
            ("/serving-endpoints/ep/invocations", {"messages": []}, "/v1/chat/completions"),
            ("/serving-endpoints/ep/invocations?x=1", {"prompt": "a"}, "/v1/completions?x=1"),
            ("/serving-endpoints/ep/invocations", {"inputs": [1]}, "/invocations"),
            ("/v1/models/ep:predict", {"instances": [1]}, "/v1/models/model-next:predict"),
        ],
    )
    async def test_the_path_of_its_model_server(self, path: str, body: dict[str, Any], served: str) -> None:
        async with running() as made:
            await made.send(made.copy(body, **{":path": path}))
            assert made.server.asked[0].line == f"POST {served} HTTP/1.1"

    async def test_a_rewrite_of_its_pool(self) -> None:
        async with running() as made:
            rule = RewriteRule((), (RewriteTarget("model-next-v2"),))
            made.deployment.traffic["dark"].rewrites.replace(RewriteTable([ModelRewrite("a/b", 0.0, (rule,))]))
            await made.send(made.copy())
            assert made.server.asked[0].json["model"] == "model-next-v2"

    async def test_predictions(self) -> None:
        async def do(asked: Asked) -> None:
            await asked.answer({"predictions": [0.5, 0.75]})

        async with running(do, max_difference=0.1) as made:
            pair = await made.send(made.copy({"inputs": [1]}, **{":path": "/invocations"}), {"predictions": [0.5, 0.5]})
            assert (pair["verdict"], pair["numeric_difference"]["largest"]) == ("differs", 0.25)
            assert made.verdicts == [("ep", "next", False)]

    async def test_a_stream_against_a_document(self) -> None:
        async def do(asked: Asked) -> None:
            await asked.stream()
            for word in ("Hello", " there"):
                await asked.chunk(b"data: " + orjson.dumps({"choices": [{"delta": {"content": word}}]}) + b"\n\n")
            await asked.chunk(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n')
            await asked.send(b"0\r\n\r\n")

        async with running(do, min_similarity=1.0) as made:
            pair = await made.send(made.copy())
            assert (pair["verdict"], pair["shadow"]["finish_reason"], pair["shadow"]["text_length"]) == ("same", "stop", 11)
            assert 0 <= pair["shadow"]["ttft_s"] <= pair["shadow"]["latency_s"]


class TestLive:
    async def test_an_answer_that_does_not_come_by(self) -> None:
        async with running() as made:
            copy = made.copy()
            made.shadows.offer(copy)
            ended(copy.live, b"", path=BodyPath.UNSEEN, complete=False)
            await made.settled()
            (pair,) = made.told()["last_pairs"]
            assert (pair["verdict"], pair["live"]["unread"], pair["live"]["outcome"]) == (
                "unjudged",
                "body not sent",
                "answered",
            )

    async def test_a_client_that_left(self) -> None:
        async with running() as made:
            copy = made.copy()
            made.shadows.offer(copy)
            ended(copy.live, b'{"cho', complete=False)
            await made.settled()
            assert made.told()["last_pairs"][0]["live"]["outcome"] == "left"
            assert made.verdicts == [("ep", "next", None)]

    async def test_one_that_goes_on_for_long(self) -> None:
        async with running(timeout_seconds=0.1) as made:
            made.shadows.offer(made.copy())
            await made.settled()
            (pair,) = made.told()["last_pairs"]
            assert (pair["live"]["outcome"], pair["live"]["latency_s"], pair["shadow"]["outcome"]) == (
                "goes on",
                None,
                "answered",
            )


class TestBudget:
    async def test_so_many_in_flight(self) -> None:
        async with running(Asked.gone, max_in_flight=2) as made:
            assert [made.shadows.offer(made.copy()) for _ in range(4)] == [True, True, False, False]
            assert (made.told()["in_flight"], made.told()["not_sent"]) == (2, {"in flight": 2})
            await made.shadows.close()

    async def test_bytes_and_rate(self) -> None:
        async with running(max_bytes=2**20, max_per_second=1) as made:
            large = made.copy({**ASKED, "x": "y" * 2**20})
            assert not made.shadows.offer(large)
            await made.send(made.copy())
            assert not made.shadows.offer(made.copy())
            assert made.told()["not_sent"] == {"bytes": 1, "rate": 1}

    async def test_other_bounds_from_now_on(self) -> None:
        async with running(max_per_second=1) as made:
            await made.send(made.copy())
            made.set(max_per_second=1000, max_in_flight=1)
            await asyncio.sleep(0.005)
            assert [made.shadows.offer(made.copy()) for _ in range(2)] == [True, False]
            assert made.told()["not_sent"] == {"in flight": 1}
            assert made.told()["summary"]["pairs"] == 1


class TestRoom:
    async def test_a_copy_that_may_go_nowhere(self) -> None:
        async with running() as shadows:
            assert not shadows.shadows.offer(shadows.copy()._replace(pool=""))
            assert shadows.told()["not_sent"] == {"out of region": 1}
            assert shadows.told()["in_flight"] == 0

    async def refused(self, made: Running, copy: Copy | None = None) -> dict[str, int]:
        assert made.shadows.offer(made.copy() if copy is None else copy)
        await made.settled()
        assert not made.server.asked
        not_sent: dict[str, int] = made.told()["not_sent"]
        return not_sent

    async def test_a_pool_that_has_much_to_do(self) -> None:
        async with running() as made:
            key = made.store.members()[0]
            made.store.page_started(key)
            made.store.page_read(key, Load(waiting=4, running=9, kv_usage=0.1))
            assert await self.refused(made) == {"no room": 1}

    async def test_a_pool_of_which_nothing_is_known(self) -> None:
        async with running() as made:
            made.deployment.clock.now_s += 60
            assert await self.refused(made) == {"no room": 1}

    async def test_a_pool_with_nobody(self) -> None:
        async with running() as made:
            made.store.replace_endpoints([])
            assert await self.refused(made) in ({"no room": 1}, {"no endpoint": 1})

    async def test_no_pool(self) -> None:
        async with running() as made:
            made.pools = {}
            assert await self.refused(made) == {"no endpoint": 1}

    async def test_what_cant_be_made_its_request(self) -> None:
        async with running() as made:
            not_json = made.copy(b"\xff{", content_type="application/json", **{":path": "/serving-endpoints/ep/invocations"})
            assert await self.refused(made, not_json) == {"unreadable": 1}

    async def test_it_counts_there_while_it_is_under_way(self) -> None:
        async with running(Asked.gone) as made:
            made.shadows.offer(made.copy())
            async with asyncio.timeout(5):
                while not made.server.asked:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert made.in_flight() == 1
            await made.shadows.close()
            assert made.in_flight() == 0


class TestHostile:
    @pytest.mark.parametrize(
        ("does", "outcome"),
        [
            (Asked.gone, "timeout"),
            (lambda asked: asked.send(b"HTTP/1.1 200 OK\r\n"), "timeout"),
            (lambda asked: asked.send(b"nonsense\r\n\r\n"), "malformed"),
            (lambda asked: asked.send(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n" + b"x" * 9000), "too large"),
        ],
    )
    async def test_no_whole_answer(self, does: Do, outcome: str) -> None:
        async with running(does, timeout_seconds=0.2, max_answer_bytes=4096) as made:
            pair = await made.send(made.copy())
            assert (pair["verdict"], pair["differs_in"], pair["shadow"]["outcome"]) == ("differs", ["outcome"], outcome)
            assert made.told()["copies"] == {outcome: 1}

    async def test_errors(self) -> None:
        async def do(asked: Asked) -> None:
            await asked.answer({"error": {"message": "no"}}, 500)

        async with running(do) as made:
            pair = await made.send(made.copy())
            assert (pair["differs_in"], pair["shadow"]["status"]) == (["status"], 500)

    async def test_a_stream_without_an_end(self) -> None:
        async def do(asked: Asked) -> None:
            await asked.stream()
            while True:
                await asked.chunk(b'data: {"choices":[{"text":"x"}]}\n\n')

        async with running(do, max_answer_bytes=2048) as made:
            pair = await made.send(made.copy())
            assert (pair["shadow"]["outcome"], pair["shadow"]["body_bytes"] <= 2048) == ("too large", True)

    async def test_a_fault_of_ours_is_logged_and_gives_everything_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with running() as made:
            monkeypatch.setattr("extproc.app.shadow.sending.compared", _fails)
            assert made.shadows.offer(made.copy())
            copy = made.copy()
            made.shadows.offer(copy)
            ended(copy.live, chat())
            await made.shadows.close()
            assert (made.told()["in_flight"], made.told()["held_bytes"]) == (0, 0)


def _fails(*_: object, **__: object) -> None:
    raise EntityNotServed("a fault")


class TestBodies:
    async def test_kept_only_when_asked_for(self) -> None:
        async with running() as made:
            assert (await made.send(made.copy()))["bodies"] is None

    async def test_cut_and_let_go_of(self) -> None:
        async with running(keep_bodies={"max_bytes": 5, "max_age_seconds": 60}) as made:
            pair = await made.send(made.copy())
            assert pair["bodies"] == {"request": '{"mod', "live": "Hello", "shadow": "Hello"}
            assert "bodies" not in made.told()["last_pairs"][0]
            made.wall.now_s += 61
            assert made.told(bodies=True)["last_pairs"][0]["bodies"] is None


class TestEnding:
    async def test_a_moment_for_those_under_way_and_none_for_others(self) -> None:
        async with running(Asked.gone) as made:
            assert made.shadows.offer(made.copy())
            await made.shadows.leave()
            assert len(made.shadows) == 0
            assert not made.shadows.offer(made.copy())
            assert made.told()["not_sent"] == {"draining": 1}

    async def test_a_shadow_that_is_gone_is_forgotten(self) -> None:
        async with running() as made:
            await made.send(made.copy())
            made.writer.replace(TrafficTable())
            made.shadows.look()
            assert made.shadows.shapes() == []
            assert counted(made.deployment.instruments, "extproc_shadow_pairs_total") == {}
            made.set()
            assert made.told()["summary"]["pairs"] == 0

    async def test_all_endpoints(self) -> None:
        async with running() as made:
            (told,) = made.shadows.shapes()
            assert (told["serving_endpoint"], told["entity"], told["pool"]) == ("ep", "next", "dark")
