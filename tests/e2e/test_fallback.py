"""Fallback through a real Envoy with envoy/serving-endpoints.yaml: a failed attempt is followed by one at the next entity."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e import raw
from tests.e2e.attempts import (
    CHAT,
    INVOCATIONS,
    REFUSES,
    Before,
    Do,
    Entity,
    attempts,
    cuts,
    cuts_after_head,
    good,
    says,
)
from tests.e2e.upstream import Exchange
from tests.fakes.serving import TransportName

pytestmark = [pytest.mark.e2e, pytest.mark.every_transport]

A, B, C = Entity("a", 0), Entity("b", 1), Entity("c", 2)
BOTH = [INVOCATIONS, CHAT]
"""Straight to the attempts, and handed over when the body was read."""


together = pytest.mark.asyncio(loop_scope="module")
"""For tests behind the Envoy that is `standing`."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(
    envoy_binary: Path, tmp_path_factory: pytest.TempPathFactory, transport: TransportName
) -> AsyncIterator[Before]:
    """One Envoy for all tests that want nothing special of it: to start one takes longer than any of them."""
    async with attempts(envoy_binary, tmp_path_factory.mktemp("standing"), [A, B], transport=transport) as before:
        yield before


async def fresh(standing: Before, entities: Sequence[Entity], does: Mapping[str, Do] = {}) -> Before:
    """With these entities, when all of the test before is over."""
    await until_over(standing)
    standing.entities.begin(entities)
    standing.servers.begin(does)
    return standing


async def until_over(before: Before) -> None:
    """Every attempt has ended by our books."""
    async with asyncio.timeout(10):
        while len(before.entities.ends) < len([each for each in before.entities.attempts if each != 0]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@together
@pytest.mark.parametrize("path", BOTH)
async def test_the_first_entity_answers(standing: Before, path: str) -> None:
    before = await fresh(standing, [A, B])
    got = await before.ask(path=path)
    assert (got.status, got.json) == (200, {"model": "a"})
    assert got.headers["served-model-name"] == "a"
    assert before.servers.models == ["a"]
    assert before.servers.asked[0].path == "/v1/a"


@together
@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize(
    "fails",
    [*(says(status) for status in (429, 500, 502, 503, 504, 529)), cuts, cuts_after_head],
    ids=["429", "500", "502", "503", "504", "529", "cut", "cut before the first event"],
)
async def test_a_failure_is_followed_by_the_next_entity(standing: Before, fails: Do, path: str) -> None:
    before = await fresh(standing, [A, B], {"a": fails})
    got = await before.ask(path=path)
    assert (got.status, got.json) == (200, {"model": "b"})
    assert got.headers["served-model-name"] == "b"
    assert "x-extproc-next-entity" not in got.headers
    assert before.servers.models[-1] == "b"
    last = before.servers.asked[-1]
    assert last.path == "/v1/b"
    assert last.headers["authorization"] == "Bearer b"
    await until_over(before)


@together
@pytest.mark.parametrize("first", [Entity("a", REFUSES), Entity("a", empty=True)], ids=["refused", "empty pool"])
@pytest.mark.parametrize("path", BOTH)
async def test_nobody_is_there(standing: Before, first: Entity, path: str) -> None:
    before = await fresh(standing, [first, B])
    got = await before.ask(path=path)
    assert (got.status, got.json) == (200, {"model": "b"})
    assert before.servers.models == ["b"]


@together
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 422])
async def test_other_statuses_are_the_answer(standing: Before, status: int) -> None:
    before = await fresh(standing, [A, B], {"a": says(status)})
    got = await before.ask()
    assert (got.status, got.json) == (status, {"error": "a"})
    assert before.servers.models == ["a"]


@together
@pytest.mark.parametrize("path", BOTH)
async def test_all_fail_and_the_last_answer_is_the_clients(standing: Before, path: str) -> None:
    does = {"a": says(503), "b": says(500), "c": says(429, "retry-after: 7")}
    before = await fresh(standing, [A, B, C], does)
    got = await before.ask(path=path)
    assert (got.status, got.json) == (429, {"error": "c"})
    assert (got.headers["retry-after"], got.headers["served-model-name"]) == ("7", "c")
    assert "x-extproc-next-entity" not in got.headers
    assert before.servers.models == ["a", "b", "c"]
    await until_over(before)


@together
async def test_the_last_is_cut(standing: Before) -> None:
    """503 of Envoy's own, after its repeats within the entity."""
    before = await fresh(standing, [A, B], {"a": says(503), "b": cuts})
    got = await before.ask()
    assert got.status == 503
    assert got.headers["served-model-name"] == "b"
    assert before.entities.attempts == [1, 2]


@together
async def test_fifteen_entities_are_asked_once_each(standing: Before) -> None:
    entities = [Entity(f"m{number}", number % 5) for number in range(15)]
    does = {entity.model: says(503) for entity in entities}
    before = await fresh(standing, entities, does)
    assert (await before.ask()).json == {"error": "m14"}
    assert before.servers.models == [entity.model for entity in entities]


@together
@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize("size", [1_000, 100_000, 5_000_000, 20_000_000])
async def test_each_attempt_has_the_whole_body(standing: Before, size: int, path: str) -> None:
    before = await fresh(standing, [A, B, C], {"a": says(429), "b": cuts})
    body = b'{"pad": "%s", "model": "ep"}' % hashlib.shake_256(b"x").hexdigest(size // 2).encode()
    got = await before.ask(body, path)
    assert (got.status, got.json) == (200, {"model": "c"})
    assert set(before.servers.models) == {"a", "b", "c"}
    for each in before.servers.asked:
        assert each.body.replace(json.dumps(json.loads(each.body)["model"]).encode(), b'"ep"') == body


@together
@pytest.mark.parametrize("path", BOTH)
async def test_trailers_of_a_request(standing: Before, path: str) -> None:
    """With HTTP/2. Behind ext_proc Envoy repeats no request with trailers (issue 45470 there), so a handed over one has one
    attempt, and its failure is the answer."""
    before = await fresh(standing, [A, B], {"a": says(503)})
    headers = {"content-type": "application/json", "trailer": "x-sum"}
    got = await asyncio.to_thread(raw.h2_post, before.url, path, b'{"model": "ep"}', headers, {"x-sum": "4711"})
    assert json.loads(got) == ({"model": "b"} if path == INVOCATIONS else {"error": "a"})
    for each in before.servers.asked:
        assert each.body in (b'{"model": "a"}', b'{"model": "b"}')
        assert each.trailers == {"x-sum": "4711"}


@pytest.mark.parametrize("path", BOTH)
async def test_the_first_event_comes_at_once(envoy_binary: Path, tmp_path: Path, transport: TransportName, path: str) -> None:
    """The model server writes an event only when the client has the one before; from a first entity, and from a second."""
    got = asyncio.Event()

    async def in_step(exchange: Exchange) -> None:
        await exchange.begin("text/event-stream")
        for number in range(20):
            await exchange.chunk(b"data: %d\n\n" % number)
            await asyncio.wait_for(got.wait(), 5)
            got.clear()
        await exchange.end()

    for entities, does in (([A, B], {"a": in_step}), ([A, B], {"a": says(429), "b": in_step})):
        async with (
            attempts(envoy_binary, tmp_path, entities, does, transport=transport) as before,
            reading(before.url, path) as (reader, _),
        ):
            for number in range(20):
                await asyncio.wait_for(reader.readuntil(b"data: %d\n\n" % number), 5)
                got.set()
            await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)


@contextlib.asynccontextmanager
async def reading(url: str, path: str = INVOCATIONS) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A request has been sent; its answer, byte by byte."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(raw.head(path, "content-length: 15") + b'{"model": "ep"}')
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize("path", BOTH)
async def test_after_the_first_event_nothing_is_repeated(
    envoy_binary: Path, tmp_path: Path, transport: TransportName, path: str
) -> None:
    seen = asyncio.Event()

    async def cuts_later(exchange: Exchange) -> None:
        await exchange.begin("text/event-stream")
        await exchange.chunk(b"data: 1\n\n")
        await asyncio.wait_for(seen.wait(), 5)
        exchange.cut()

    async with attempts(envoy_binary, tmp_path, [A, B], {"a": cuts_later}, transport=transport) as before:
        async with reading(before.url, path) as (reader, _):
            await asyncio.wait_for(reader.readuntil(b"data: 1\n\n"), 5)
            seen.set()
            assert b"data" not in await asyncio.wait_for(reader.read(), 5)
        await until_over(before)
        assert before.servers.models == ["a"]
        assert before.entities.attempts[-1] == 1


async def test_headers_may_be_held_for_as_long_as_a_model_thinks(
    envoy_binary: Path, tmp_path: Path, transport: TransportName
) -> None:
    """Longer than ext_proc's message_timeout, which is made short here."""

    async def thinks(exchange: Exchange) -> None:
        await exchange.begin("text/event-stream")
        await asyncio.sleep(1.0)
        await exchange.chunk(b"data: 1\n\n")
        await exchange.end()

    def hurry(document: Any) -> None:
        for each in managers(document):
            for found in each["http_filters"]:
                if found["name"].endswith("ext_proc"):
                    found["typed_config"]["message_timeout"] = "0.3s"

    async with attempts(envoy_binary, tmp_path, [A, B], {"a": thinks}, transport=transport, change=hurry) as before:
        got = await before.ask()
        assert (got.status, got.body) == (200, b"data: 1\n\n")
        assert before.entities.attempts == [1]


def managers(document: Any) -> list[Any]:
    """The HTTP connection managers of Envoy's config."""
    return [each["filter_chains"][0]["filters"][0]["typed_config"] for each in document["static_resources"]["listeners"]]


@pytest.mark.parametrize("path", BOTH)
async def test_a_client_that_leaves_ends_the_attempt(
    envoy_binary: Path, tmp_path: Path, transport: TransportName, path: str
) -> None:
    """And no other is made."""
    left = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        await exchange.begin("text/event-stream")
        try:
            await asyncio.wait_for(exchange.gone(), 5)
        finally:
            left.set()

    async with attempts(envoy_binary, tmp_path, [A, B], {"a": says(503), "b": waits}, transport=transport) as before:
        async with reading(before.url, path) as (_, writer):
            async with asyncio.timeout(5):
                while before.servers.models != ["a", "b"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            writer.close()
        await asyncio.wait_for(left.wait(), 5)
        await until_over(before)
        assert before.servers.models == ["a", "b"]
        assert before.entities.ends == [(503, True), (200, False)] or before.entities.ends == [(503, False), (200, False)]


async def test_a_client_can_say_nothing_of_attempts(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    """Neither which one it is, nor how many there are, nor the route; and nobody but Envoy reaches the listener."""
    told = {
        "x-envoy-attempt-count": "2",
        "x-envoy-max-retries": "9",
        "x-envoy-retry-on": "5xx,retriable-4xx",
        "x-extproc-route": "external",
        "x-extproc-next-entity": "1",
        "x-extproc-external-address": "127.0.0.1:1",
    }
    async with attempts(envoy_binary, tmp_path, [A, B], {"a": says(404)}, transport=transport) as before:
        for path in BOTH:
            before.servers.asked.clear()
            before.entities.attempts.clear()
            got = await before.ask(path=path, headers=told)
            assert (got.status, got.json) == (404, {"error": "a"})
            assert before.servers.models == ["a"]
            assert before.entities.attempts == ([1] if path == INVOCATIONS else [0, 1])
            assert not {"x-envoy-attempt-count", "x-extproc-route"} & set(before.servers.asked[0].headers)
        plain = await before.ask({"model": "x"}, CHAT, told)
        assert (plain.status, plain.json) == (200, {"model": "x"})
        assert not {"x-envoy-attempt-count", "x-extproc-route"} & set(before.servers.asked[-1].headers)
        config = (await asyncio.to_thread(_page, before.admin, "/listeners")).decode()
        assert [line for line in config.splitlines() if line.startswith("attempts")] == ["attempts::envoy://attempts/"]


def _page(url: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body


@pytest.mark.parametrize("path", BOTH)
async def test_attempts_of_a_request_agree_on_what_was_drawn(
    envoy_binary: Path, tmp_path: Path, transport: TransportName, path: str
) -> None:
    """It is Envoy's and not the client's, and no model server hears of it."""
    async with attempts(envoy_binary, tmp_path, [A, B, C], {"a": says(503), "b": cuts}, transport=transport) as before:
        seen = set()
        for _ in range(3):
            before.entities.draws.clear()
            before.entities.attempts.clear()
            assert (await before.ask(path=path, headers={"x-extproc-draw": "1", "x-request-id": "r"})).json == {"model": "c"}
            of_attempts = {
                draw for draw, attempt in zip(before.entities.draws, before.entities.attempts, strict=True) if attempt
            }
            assert len(of_attempts) == 1
            seen |= of_attempts
        assert len(seen) == 3
        assert "1" not in seen
        assert b"x-extproc" not in b"".join(each.head for each in before.servers.asked)


async def test_logs_and_counters_know_one_request(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    async with attempts(envoy_binary, tmp_path, [A, B], {"a": says(503)}, transport=transport) as before:
        got = await before.ask(headers={"x-request-id": "r-1"})
        assert got.headers["x-request-id"] == "r-1"
        lines = await before.logged(3)
        (request,) = [line for line in lines if line["log"] == "request"]
        assert (request["attempts"], request["status"], request["served_model_name"]) == (2, 200, "b")
        assert request["path"] == INVOCATIONS
        tried = [line for line in lines if line["log"] == "attempt"]
        assert [(line["attempt"], line["status"], line["served_model_name"]) for line in tried] == [
            (1, 503, "a"),
            (2, 200, "b"),
        ]
        assert {line["request_id"] for line in lines} == {"r-1"}
        counted = await before.stats("downstream_rq_total|downstream_rq_5xx|upstream_rq_retry")
        assert counted["http.clients.downstream_rq_total"] == 1
        assert counted["http.attempts.downstream_rq_total"] == 2
        assert "http.clients.downstream_rq_5xx" not in counted
        assert counted["cluster.attempts.upstream_rq_retry_success"] == 1


async def test_other_models_are_asked_for_once_and_their_answers_pass_unseen(
    envoy_binary: Path, tmp_path: Path, transport: TransportName
) -> None:
    """In the listener of clients, with as many ExtProc messages for a long answer as for a short one."""

    async def long(exchange: Exchange) -> None:
        await exchange.begin("text/event-stream")
        for number in range(50):
            await exchange.chunk(b"data: %d\n\n" % number)
            await asyncio.sleep(0.001)
        await exchange.end()

    async with attempts(envoy_binary, tmp_path, [A, B], {"x": long}, transport=transport) as before:
        await before.ask({"model": "y"}, CHAT)
        short = (await before.stats("ext_proc.stream_msgs_sent"))["http.clients.ext_proc.stream_msgs_sent"]
        assert (await before.ask({"model": "x"}, CHAT)).body.endswith(b"data: 49\n\n")
        both = await before.stats("ext_proc.stream_msgs_sent|downstream_rq_total")
        assert both["http.clients.ext_proc.stream_msgs_sent"] == 2 * short
        assert "http.attempts.downstream_rq_total" not in both
        assert before.entities.attempts == [0, 0]


async def test_attempts_under_load_keep_apart(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    """100 requests at once, whose first entity fails now and then."""
    calls = 0

    async def sometimes(exchange: Exchange) -> None:
        nonlocal calls
        calls += 1
        await (cuts_after_head, says(503), good)[calls % 3](exchange)

    async with attempts(envoy_binary, tmp_path, [A, B], {"a": sometimes}, transport=transport) as before:
        answers = await asyncio.gather(*[before.ask({"model": "ep", "n": n}, BOTH[n % 2]) for n in range(100)])
        assert {each.status for each in answers} == {200}
        assert {each.json["model"] == each.headers["served-model-name"] for each in answers} == {True}
        assert {each.json["model"] for each in answers} == {"a", "b"}
        await until_over(before)
