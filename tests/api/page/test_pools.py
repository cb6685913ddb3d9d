"""Pages of pools: listed, one with its endpoints, one endpoint, live, and over time."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from extproc.api.page.figures import TICK_S
from extproc.api.page.pool_figures import PoolFigures
from extproc.api.page.pools import PAGE
from extproc.api.standing import Pool, PoolShape
from tests.api.page.test_live import told
from tests.api.page.visitors import PARTLY, elements, visiting
from tests.api.standing import Standing, endpoint
from tests.api.tokens import QUENTIN, VICTOR

HOSTILE = "<script>alert(1)</script>"


def some() -> Standing:
    standing = Standing()
    standing.pool("own", 3)
    standing.page("own", 0, waiting=2, running=4, kv_usage=0.5)
    standing.page("own", 1, waiting=0, running=1, kv_usage=0.25)
    standing.stores["own"].page_failed(endpoint(2).key, "connection refused", down=True)
    standing.sample(1)
    return standing


async def test_the_list_of_pools() -> None:
    async with visiting(pools=some().pools) as visitor:
        page = (await visitor.look("/ui/pools")).text
        assert 'href="/ui/pool?name=own"' in page
        assert re.search(r'data-cell="own//down">1<', page)
        assert re.search(r'data-cell="own//kv">38 %<', page)


async def test_a_pool_says_who_is_not_well_and_why() -> None:
    async with visiting(pools=some().pools) as visitor:
        page = (await visitor.look("/ui/pool?name=own")).text
        assert "Not well: 1 of 3" in page
        assert "could not be connected to at the last attempt: connection refused; so it is left out" in page
        key = endpoint(0).key
        assert f'data-cell="{key}/waiting">2<' in page
        assert f'data-cell="{key}/kv">50 %<' in page
        assert f'data-cell="{key}/age">1 s<' in page
        assert 'data-plots="/ui/pool/plots?keys=' in page


async def test_sorted_searched_and_paged() -> None:
    standing = Standing()
    standing.pool("own", PAGE + 5)
    standing.page("own", PAGE + 3, waiting=9)
    async with visiting(pools=standing.pools) as visitor:
        page = (await visitor.look("/ui/pool?name=own")).text
        assert f"{PAGE + 5} endpoints, page 1 of 2" in page
        assert "pod-0049" in page
        assert ">pod-0050<" not in page
        assert ">pod-0050<" in (await visitor.look("/ui/pool?name=own&page=2")).text
        page = (await visitor.look("/ui/pool?name=own&sort=waiting")).text
        assert page.index(">pod-0053<", page.index("<tbody")) < page.index(">pod-0000<", page.index("<tbody"))
        assert 'aria-sort="descending"' in page
        assert "2 endpoints" not in page
        found = (await visitor.look("/ui/pool?name=own&q=pod-005+new")).text
        assert "4 endpoints" in found
        assert "Nothing is called so" in (await visitor.look("/ui/pool?name=own&q=nothing")).text
        assert (await visitor.look("/ui/pool?name=own&sort=colour&page=x&measure=y")).status == 200


async def test_one_endpoint() -> None:
    async with visiting(pools=some().pools) as visitor:
        page = (await visitor.look(f"/ui/pool/endpoint?name=own&key={endpoint(0).key}")).text
        assert "<h1>pod-0000</h1>" in page
        for signal in ("waiting", "running", "kv_usage", "max_loras", "started_s"):
            assert f"<code>{signal}</code>" in page
        assert "unknown" in page
        assert (await visitor.look("/ui/pool/endpoint?name=own&key=10.9.9.9:1")).status == 404
        assert (await visitor.look("/ui/pool?name=other")).status == 404


async def test_over_time() -> None:
    standing = some()
    standing.page("own", 0, waiting=2, running=4, kv_usage=0.75)
    standing.sample(1)
    async with visiting(pools=standing.pools) as visitor:
        keys = f"{endpoint(0).key},{endpoint(2).key}"
        address = f"/ui/pool/plots?keys={keys}&name=own&measure=kv_usage"
        spread, heat = json.loads((await visitor.look(address)).text)["plots"]
        assert [each["label"] for each in spread["series"]] == ["most", "p95", "middle"]
        assert [row["label"] for row in heat["rows"]] == ["pod-0000", "pod-0002"]
        assert heat["rows"][0]["values"] == pytest.approx([0.5, 0.75], abs=0.01)
        assert heat["rows"][1]["values"] == [None, None]
        table = await visitor.ask("GET", f"{address}&as=table", PARTLY)
        assert "75 %" in table.text
        assert "pod-0002" in table.text
        of_one = json.loads((await visitor.look(f"/ui/pool/plots?keys={endpoint(0).key}&name=own")).text)["plots"]
        assert len(of_one) == 6


async def test_hostile_names_are_texts() -> None:
    standing = Standing()
    standing.pool(HOSTILE, 2, prefix=HOSTILE)
    standing.sample()
    async with visiting(pools=standing.pools) as visitor:
        for path in (
            "/ui/pools",
            f"/ui/pool?name={quote(HOSTILE)}",
            f"/ui/pool?name={quote(HOSTILE)}&q={quote(HOSTILE)}",
            f"/ui/pool/endpoint?name={quote(HOSTILE)}&key={endpoint(0).key}",
            f"/ui/pool/plots?name={quote(HOSTILE)}&keys={endpoint(0).key}&measure=picks&as=table",
        ):
            seen = await visitor.look(path)
            assert seen.status == 200, path
            assert "alert(1)" in seen.text
            assert HOSTILE not in seen.text
            assert [attributes for tag, attributes in elements(seen.text) if tag == "script" and "src" not in attributes] == []


async def test_only_for_who_may_see_every_endpoint() -> None:
    for token, status in ((VICTOR, 200), (QUENTIN, 403)):
        async with visiting(token, pools=some().pools) as visitor:
            for path in ("/ui/pools", "/ui/pool?name=own", f"/ui/pool/endpoint?name=own&key={endpoint(0).key}"):
                assert (await visitor.look(path)).status == status
            if status != 200:
                assert (await visitor.ask("GET", "/ui/pool/live")).status == status
                assert (await visitor.ask("GET", "/ui/pool/live?keys=&name=own")).status == status
                assert (await visitor.ask("GET", "/ui/pool/plots?keys=&name=own")).status == status


async def test_what_is_new_is_told_and_made_once() -> None:
    standing = some()
    figures = PoolFigures(standing.pools, standing.clock)
    key = endpoint(0).key
    one, other = figures.of("own", [key]), figures.of("own", [key])
    assert one is other
    tick = int(standing.clock() / TICK_S)
    first = dict(one.cells())
    assert first[f"{key}/waiting"] == "2"
    assert one.changed(tick) == {}
    standing.clock.advance(TICK_S)
    standing.page("own", 0, waiting=7, running=4, kv_usage=0.5)
    changed = one.changed(tick)
    assert changed[f"{key}/waiting"] == "7"
    assert f"{key}/running" not in changed
    standing.stores["own"].replace_endpoints([endpoint(1)])
    standing.clock.advance(TICK_S)
    changed = one.changed(tick + 1)
    assert changed[f"{key}/health"] == "gone"
    assert changed["own//version"] != first["own//version"]
    standing.clock.advance(5 * TICK_S)
    assert one.changed(tick + 2) == one.cells(), "who has missed ticks gets everything"
    standing.clock.advance(600)
    figures.of("own", ["other"]).cells()
    assert figures.of("own", [key]) is not one, "what nobody looks at is forgotten"


async def test_what_is_of_the_whole_pool_is_made_once_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    standing = some()
    made: list[str] = []
    shape = Pool.shape

    def counted(pool: Pool) -> PoolShape:
        made.append(pool.name)
        return shape(pool)

    monkeypatch.setattr(Pool, "shape", counted)
    figures = PoolFigures(standing.pools, standing.clock)
    shown = [figures.of("own", [endpoint(at).key]) for at in range(3)]
    for _ in range(2):
        for each in shown:
            each.cells()
        standing.clock.advance(TICK_S)
    assert made == ["own", "own"]


async def test_live_over_http() -> None:
    standing = some()
    async with visiting(pools=standing.pools) as visitor:
        for address, wanted in (
            ("/ui/pool/live", "own//in_flight"),
            (f"/ui/pool/live?keys={endpoint(0).key}&name=own", f"{endpoint(0).key}/health"),
        ):
            async with visitor.http.get(visitor.origin + address) as answer:
                assert answer.headers["content-type"] == "text/event-stream"
                await answer.content.readline()
                assert wanted in told(await answer.content.readline())


async def test_without_pools() -> None:
    async with visiting() as visitor:
        assert (await visitor.look("/ui/pools")).status == 501


def test_whoever_asks_for_ever_other_endpoints_is_remembered_for_few() -> None:
    standing = some()
    figures = PoolFigures(standing.pools, standing.clock)
    first = figures.of("own", ["0"])
    assert figures.of("own", ["0"]) is first
    for number in range(1, 1000):
        figures.of("own", [str(number)])
    assert figures.of("own", ["999"]) is figures.of("own", ["999"])
    assert figures.of("own", ["0"]) is not first, "it was forgotten"
    assert first.cells()["0/health"] == "gone", "a page that is still open is told all the same"
