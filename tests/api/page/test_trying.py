"""Try it: what would be decided, on a page, and nothing of it happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from extproc.control.changes import Create
from extproc.domain import RequestHead
from tests.api.page.visitors import PARTLY, elements, visiting
from tests.api.test_decided import Deciding
from tests.api.tokens import QUENTIN
from tests.control.desks import Bench, document
from tests.stages.front import FULL, ROOM, Front

GIVEN = {"path": "/serving-endpoints/chat/invocations", "headers": "x-user-id: ada", "body": '{"messages": []}'}
HOSTILE = "<script>alert(1)</script>"


async def bench() -> Bench:
    made = Bench()
    await made.desk.open()
    await made.desk.apply(Create(document()), "ada")
    return made


async def test_an_example_is_filled_in_for_the_endpoint() -> None:
    async with visiting(bench=await bench(), explain=Deciding().explain) as visitor:
        text = (await visitor.look("/ui/try?endpoint=chat&example=completion")).text
        assert 'value="/serving-endpoints/chat/invocations"' in text
        assert "Once upon a time" in text
        assert 'value="/serving-endpoints/chat/invocations"' in (await visitor.look("/ui/try")).text, "there is no other"


async def test_the_result_is_that_of_a_decision() -> None:
    deciding = Deciding()
    async with visiting(bench=await bench(), explain=deciding.explain) as visitor:
        part = await visitor.send("/ui/try", GIVEN, PARTLY)
        assert "<html" not in part.text
        for words in (
            "It would be served so",
            "chat/a",
            "/ui/endpoints/chat/history?version=1",
            "runner-up",
            "queue-scorer",
            "No limit is used up.",
            'class="notice flip"',
        ):
            assert words in part.text, words
        bars = [each for tag, each in elements(part.text) if tag == "rect" and each.get("width") != "10"]
        assert bars
        assert not any("style" in each for _, each in elements(part.text)), "which the policy forbids"
        whole = await visitor.send("/ui/try", GIVEN)
        assert "It would be served so" in whole.text
        assert "x-user-id: ada" in whole.text
    assert len(deciding.deployment.log) == 0


async def test_why_it_would_not_be_served() -> None:
    async with visiting(explain=Deciding().explain) as visitor:
        text = (await visitor.send("/ui/try", {**GIVEN, "path": "/serving-endpoints/other/invocations"}, PARTLY)).text
        assert "It would not be served" in text
        assert "404" in text


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("path", "chat", "Path: got &#39;chat&#39;; expected one such as"),
        ("headers", "x-a: 1\nnonsense", "line 2: got &#39;nonsense&#39;; expected `name: value`"),
        ("headers", "\n".join([f"x-{n}: 1" for n in range(101)]), "at most 100"),
        ("headers", f"{HOSTILE}: 1", "&lt;script&gt;"),
        ("path", f"/{HOSTILE}", ""),
    ],
)
async def test_what_is_no_request_is_told_and_stays_text(field: str, value: str, words: str) -> None:
    async with visiting(explain=Deciding().explain) as visitor:
        for headers in ({}, PARTLY):
            text = (await visitor.send("/ui/try", {**GIVEN, field: value}, headers)).text
            assert words.lower() in text.lower()
            assert HOSTILE not in text


async def test_only_who_may_query_and_only_from_a_page_of_ours() -> None:
    async with visiting(QUENTIN, explain=Deciding().explain) as visitor:
        assert (await visitor.send("/ui/try", GIVEN, PARTLY)).status == 200
        refused = await visitor.send("/ui/try", {**GIVEN, "path": "/v1/completions"}, PARTLY)
        assert (refused.status, "no right to query" in refused.text) == (403, True)
        foreign = await visitor.send("/ui/try", GIVEN, {"sec-fetch-site": "cross-site"})
        assert foreign.status == 403
        large = await visitor.send("/ui/try", {**GIVEN, "body": "x" * 70_000})
        assert large.status == 413
    async with visiting() as visitor:
        assert (await visitor.send("/ui/try", GIVEN)).status == 404


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"WaitForRoom": {"waits_for": "the pool", "timeout_s": 60.0}}, "It would wait for the pool, 60 s at most"),
        ({"ModelHeaders": {"answered": 200}}, "It would be answered here, with 200."),
        ({"LimitRate": {"exceeded": "10 calls a minute"}}, "A limit is used up: 10 calls a minute."),
        ({"CopyToShadows": {"shadows": ["b"]}}, "A copy would go to b."),
        ({"unread": "it is no JSON"}, "The body could not be read: it is no JSON."),
        ({"AskProvider": {"model": "gpt", "authority": "api.example.com", "address": "1.2.3.4:443"}}, "(api.example.com)"),
        (
            {"ChooseRegion": {"region": "us", "origin": "eu", "reason": "empty", "cost": 3.0}},
            "us, not eu: empty, at a cost of 3",
        ),
        (
            {"ServeEndpoint": {"entity": "a", "reason": "by <i>", "bucket": 5, "experiments": {"x": "y"}}},
            "by &lt;i&gt;, bucket 5",
        ),
    ],
)
async def test_what_else_would_be(told: dict[str, Any], words: str) -> None:
    def explain(head: object, body: object, known: object = {}) -> dict[str, Any]:
        return {"FindEndpoint": {"endpoint": "chat"}, "model": "chat", **told}

    async with visiting(explain=explain) as visitor:
        assert words in (await visitor.send("/ui/try", GIVEN, PARTLY)).text


async def test_a_full_pool_is_told_and_what_flow_control_would_do() -> None:
    front = Front()

    def explain(head: RequestHead, body: bytes | None, known: Mapping[str, object] = {}) -> dict[str, Any]:
        return front.director.explain(head, body, known)

    async with visiting(bench=await bench(), explain=explain) as visitor:
        given = {**GIVEN, "path": "/v1/chat/completions", "headers": "x-llm-d-inference-fairness-id: <team>"}
        front.pages(FULL)
        text = (await visitor.send("/ui/try", given, PARTLY)).text
        for words in (
            "It would have to wait",
            "Its pool is full (saturation 100 %): it would wait in the queue of the flow &lt;team&gt; with priority 0",
            "where 0 requests wait already",
            "what comes behind that can&#39;t be told",
        ):
            assert words in text, words
        front.pages(ROOM)
        text = (await visitor.send("/ui/try", given, PARTLY)).text
        assert "so it would not wait" in text
        assert "It would be served so" in text
    assert len(front.gate.queues) == 0


async def test_which_regions_might_serve_it_and_where_it_has_to_stay() -> None:
    def explain(head: RequestHead, body: bytes | None, known: Mapping[str, object] = {}) -> dict[str, Any]:
        pools = [
            {"pool": "w", "region": "west", "cost": 0.0, "state": "saturated", "share_elsewhere": 1.0},
            {"pool": "n", "region": "north", "cost": 3.0, "state": "empty", "share_elsewhere": 0.0},
        ]
        place = {"origin": "west", "region": "north", "pool": "n", "reason": "spill: saturated", "cost": 3.0, "pools": pools}
        return {"model": "m", "ChooseRegion": place | {"stay_in": ["north", "west"], "residency": ["clinics"]}}

    async with visiting(bench=await bench(), explain=explain) as visitor:
        text = (await visitor.send("/ui/try", GIVEN, PARTLY)).text
        assert "north, not west: spill: saturated, at a cost of 3" in text
        assert "Pools that may serve it, the best one first: w in west (saturated), n in north (empty)." in text
        assert "It has to stay in north, west, by clinics." in text
