"""The list: what it shows of each endpoint, searched and paged on the server."""

from __future__ import annotations

import re

import pytest

from extproc.control.changes import Create, Declare
from tests.api.page.visitors import Visitor, visiting
from tests.control.desks import Bench, document


async def many(visitor: Visitor, number: int) -> None:
    documents = [document(f"e-{each:05}") for each in range(number)]
    await visitor.bench.desk.apply(Declare("api", documents, whole=False), "alice")


def names(text: str) -> list[str]:
    return re.findall(r'href="/ui/endpoints/([\w-]+)"', text)


async def test_two_thousand_are_searched_and_paged() -> None:
    async with visiting() as visitor:
        await many(visitor, 2000)
        first = (await visitor.look("/ui/")).text
        assert names(first) == [f"e-{each:05}" for each in range(50)]
        assert "2,000 endpoints, page 1 of 40" in first
        last = (await visitor.look("/ui/?page=40")).text
        assert names(last) == [f"e-{each:05}" for each in range(1950, 2000)]
        assert ('rel="next"' in last, 'rel="prev"' in last) == (False, True)
        found = (await visitor.look("/ui/?q=E-0123")).text
        assert names(found) == [f"e-0123{each}" for each in range(10)]
        assert "10 endpoints" in found
        assert len(names((await visitor.look("/ui/?q=e-01&page=2")).text)) == 50
        assert 'href="/ui/?q=e-01&amp;page=3"' in (await visitor.look("/ui/?q=e-01&page=2")).text


@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 30, "²"])
async def test_a_page_that_is_none_is_the_first_or_the_last(page: str) -> None:
    async with visiting() as visitor:
        await many(visitor, 60)
        assert len(names((await visitor.look(f"/ui/?page={page}")).text)) in (50, 10)


@pytest.mark.parametrize("asked", ["chat", "CH", "model-b", "team", "search", "team=search a", "for people"])
async def test_search_goes_by_name_model_tag_and_description(asked: str) -> None:
    async with visiting() as visitor:
        tags = [{"key": "team", "value": "search"}]
        await visitor.bench.desk.apply(Create(document() | {"tags": tags, "description": "For people"}), "alice")
        await visitor.bench.desk.apply(Create(document("other", a=100)), "alice")
        assert names((await visitor.look(f"/ui/?q={asked}")).text) == ["chat"]


async def test_nothing_found_is_said() -> None:
    async with visiting() as visitor:
        assert "There are no serving endpoints" in (await visitor.look("/ui/")).text
        assert "Nothing is called so: “x&lt;”" in (await visitor.look("/ui/?q=x%3C")).text


async def test_an_endpoint_shows_its_state_split_and_what_decides_before_it() -> None:
    bench = Bench()
    async with visiting(bench=bench) as visitor:
        rules = [{"name": "r", "match": {"path": "/v1/x"}, "entity": "b"}]
        await bench.desk.apply(Create(document() | {"rules": rules}), "alice")
        visitor.api.down.add("b")
        text = (await visitor.look("/ui/")).text
        assert 'aria-label="Split: a 90 %, b 10 %"' in text
        assert '<rect class="c1" x="90" y="0" width="10" height="10">' in text
        assert '<span data-cell="chat//state">not ready</span>' in text
        assert '<span class="tag">rules</span>' in text
        await bench.desk.apply(Declare("file:gateway.yaml", [document("declared")]), "file:gateway.yaml")
        assert '<span class="tag">file:gateway.yaml</span>' in (await visitor.look("/ui/")).text
