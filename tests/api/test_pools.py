"""Pools over the API: how endpoints are, with the numbers; found, sorted and cut on the server."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from extproc.api.pools import EndpointsAnswer, HistoryAnswer, PoolsAnswer
from extproc.api.standing import DOWN, NEW, OK, SILENT, STALE
from tests.api.served import Api, served
from tests.api.standing import Standing, endpoint
from tests.api.tokens import ALICE, QUENTIN, VICTOR, Door

POOLS = "/api/2.0/pools"


async def rows(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = await api.call("GET", f"{POOLS}/own/endpoints{query}")
    assert answer.status == 200, answer.text
    TypeAdapter(EndpointsAnswer).validate_python(answer.json, strict=True)
    return list(answer.json["endpoints"])


async def test_every_endpoint_says_how_it_is_and_why() -> None:
    standing = Standing()
    store = standing.pool("own", 6)
    standing.page("own", 3, waiting=1, running=1, kv_usage=0.1)
    standing.clock.advance(7)
    standing.page("own", 0, waiting=2, running=4, kv_usage=0.5)
    standing.page("own", 1, waiting=2)
    standing.page("own", 2)
    for _ in range(3):
        store.page_failed(endpoint(4).key, "connection refused", down=True)
    store.page_failed(endpoint(3).key, "503", down=False)
    async with served(pools=standing.pools) as api:
        found = await rows(api)
        assert [row["health"] for row in found] == [OK, OK, SILENT, STALE, DOWN, NEW]
        ok, partly, silent, stale, down, new = [row["why"] for row in found]
        assert ok == ""
        assert partly == "its page does not say running, kv_usage"
        assert "nothing of its load" in silent
        assert stale == (
            "its page is 7.0 s old, more than 2 s (--metrics-staleness-threshold): 503; its signals count as unknown"
        )
        assert down == "it could not be connected to at the last 3 attempts: connection refused; so it is left out"
        assert "not asked for yet" in new
        assert [row["eligible"] for row in found] == [True, True, True, True, False, True]
        assert found[0]["signals"]["kv_usage"] == 0.5
        assert (found[0]["signals_age_s"], found[3]["signals_age_s"]) == (0.0, 7.0)
        (pool,) = (await api.call("GET", POOLS)).json["pools"]
        assert (pool["endpoints"], pool["fresh"], pool["down"], pool["eligible"]) == (6, 3, 1, 5)
        assert (pool["waiting_mean"], pool["kv_usage_mean"]) == (2.0, 0.5)


async def test_of_a_pool_that_is_down_as_a_whole_everybody_is_picked() -> None:
    standing = Standing()
    store = standing.pool("own", 2)
    for at in range(2):
        store.page_failed(endpoint(at).key, "connection refused", down=True)
    async with served(pools=standing.pools) as api:
        for row in await rows(api):
            assert row["eligible"]
            assert row["why"].endswith("and so is every other, so it is picked all the same")


async def test_endpoints_are_found_sorted_and_cut() -> None:
    standing = Standing()
    standing.pool("own", 30)
    for at in range(20):
        standing.page("own", at, waiting=at % 10, kv_usage=at / 20)
    standing.sample(0.5)
    standing.pick("own", 7, 5)
    standing.sample(0.5)
    async with served(pools=standing.pools) as api:
        assert [row["name"] for row in await rows(api, "?sort=waiting&limit=3")] == ["pod-0009", "pod-0019", "pod-0008"]
        assert [row["name"] for row in await rows(api, "?sort=kv_usage&limit=2&offset=1")] == ["pod-0018", "pod-0017"]
        (most,) = await rows(api, "?sort=picks&limit=1")
        assert (most["name"], most["picks"], most["picks_per_s"]) == ("pod-0007", 5, 10.0)
        assert len(await rows(api, "?filter=new")) == 10
        assert [row["name"] for row in await rows(api, "?filter=POD-000%20ok&limit=2")] == ["pod-0000", "pod-0001"]
        assert (await api.call("GET", f"{POOLS}/own/endpoints?filter=nothing")).json["total"] == 0
        unknown = await rows(api, "?sort=waiting")
        assert unknown[-1]["signals"]["waiting"] is None, "who is unknown comes last"


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/own/endpoints?sort=colour", 400, "sort: got"),
        ("/own/endpoints?limit=1001", 400, "limit: got 1001"),
        ("/own/endpoints?limit=-1", 400, "limit: got"),
        ("/other/endpoints", 404, "There is no pool"),
        ("/own/history?measure=colour", 400, "measure: got"),
        ("/own/history?endpoint=10.9.9.9:1", 404, "endpoint: got"),
    ],
)
async def test_what_is_wrong_is_said(path: str, status: int, word: str) -> None:
    standing = Standing()
    standing.pool("own", 1)
    async with served(pools=standing.pools) as api:
        got = await api.call("GET", POOLS + path)
        assert got.status == status
        assert word in got.json["message"]


async def test_what_they_were_like() -> None:
    standing = Standing()
    standing.pool("own", 3)
    for kv_usage in (0.25, 0.5):
        for at in range(3):
            standing.page("own", at, kv_usage=kv_usage)
        standing.sample(1)
    async with served(pools=standing.pools) as api:
        whole = (await api.call("GET", f"{POOLS}/own/history")).json
        TypeAdapter(HistoryAnswer).validate_python(whole, strict=True)
        assert whole["values"] == pytest.approx([0.25, 0.5], abs=0.01)
        assert whole["most"] == pytest.approx([0.25, 0.5], abs=0.01)
        one = (await api.call("GET", f"{POOLS}/own/history?endpoint={endpoint(1).key}&measure=waiting")).json
        assert one["values"] == [None, None]


async def test_who_may_see_pools_may_see_every_endpoint() -> None:
    standing = Standing()
    standing.pool("own", 1)
    async with served(guard=Door().guard, pools=standing.pools) as api:
        for token, status in ((ALICE, 200), (VICTOR, 200), (QUENTIN, 403), (None, 401)):
            api.token = token
            for path in ("", "/own/endpoints", "/own/history"):
                assert (await api.call("GET", POOLS + path)).status == status, (token, path)


async def test_where_there_are_none() -> None:
    async with served() as api:
        assert (await api.call("GET", POOLS)).status == 501
    async with served(pools=Standing().pools) as api:
        answer = (await api.call("GET", POOLS)).json
        TypeAdapter(PoolsAnswer).validate_python(answer, strict=True)
        assert answer == {"pools": []}
