"""The last decisions: found by what is known of a request, shown to who may see their endpoint."""

from __future__ import annotations

import re

import pytest

from extproc.domain import NO_LOAD, Endpoint
from extproc.observability.decisions import DecisionLog, DecisionRecord, Outcome
from tests.api.page.visitors import PARTLY, elements, visiting
from tests.api.tokens import ALICE, QUENTIN

HOSTILE = "<script>alert(1)</script>"


def decided(log: DecisionLog, request_id: str, entity: str = "chat/a", status: int | None = 200, **more: object) -> None:
    outcome = Outcome()
    outcome.status = status
    record = DecisionRecord(
        at_s=1_700_000_000.5,
        request_id=request_id,
        model="chat",
        target_model="model-A",
        priority=0,
        pool="a",
        endpoint=Endpoint("10.0.0.1", 8000, "pod-1"),
        fallbacks=("10.0.0.2:8000",),
        score=0.75,
        candidates=3,
        load=NO_LOAD,
        waiting=2.0,
        in_flight=1.0,
        took_s=0.00025,
        outcome=outcome,
        entity=entity,
        entity_reason="sticky: header x-user-id",
        bucket=8123,
    )
    log.add(record._replace(**more))  # type: ignore[arg-type]


def ids(text: str) -> list[str]:
    return re.findall(r'href="/ui/decisions\?request_id=([\w-]+)"', text)


async def test_the_newest_come_first_and_one_says_why() -> None:
    log = DecisionLog()
    for number in range(60):
        decided(log, f"r-{number}")
    async with visiting(decisions=log) as visitor:
        text = (await visitor.look("/ui/decisions")).text
        assert ids(text) == [f"r-{number}" for number in range(59, 9, -1)]
        assert "60 of the last 60 decisions of this gateway; the newest 50 are shown" in text
        text = (await visitor.look("/ui/decisions?request_id=r-7")).text
        for words in (
            "chat/a",
            "sticky: header x-user-id",
            "bucket 8123 of 10,000",
            "queue 2: 0.75 points, best of 3",
            "250 µs",
        ):
            assert words in text, words
        assert "10.0.0.2:8000" in text
        assert "Nothing is kept of this request" in (await visitor.look("/ui/decisions?request_id=other")).text


async def test_attempts_at_one_request_are_told_in_their_order() -> None:
    log = DecisionLog()
    decided(log, "r", "chat/a", 503)
    decided(log, "r", "chat/b", 200)
    async with visiting(decisions=log) as visitor:
        text = (await visitor.look("/ui/decisions?request_id=r")).text
        assert text.index("Attempt 2") < text.index("chat/b") < text.index("Attempt 1") < text.index("chat/a")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=r-2", ["r-2"]),
        ("q=chat/b", ["r-3"]),
        ("q=503", ["r-2"]),
        ("q=10.0.0.1+chat/a", ["r-4", "r-2", "r-1"]),
        ("outcome=good", ["r-3", "r-1"]),
        ("outcome=bad", ["r-2"]),
        ("outcome=open", ["r-4"]),
        ("outcome=&q=beta", ["r-3"]),
        ("endpoint=chat&entity=b", ["r-3"]),
        ("entity=chat/b", ["r-3"]),
        ("status=503", ["r-2"]),
        ("model=model-A", ["r-4", "r-3", "r-2", "r-1"]),
        ("since=2023-11-14T22:13:20Z", ["r-4", "r-3", "r-2", "r-1"]),
        ("until=2023-11-14T22:13:20Z", []),
        ("since=2023-11-15+00:13:20&zone=120&status=503", ["r-2"]),
        ("since=2023-11-15+00:13:20", []),
        ("since=5m", []),
        ("q=nobody", []),
    ],
)
async def test_search(query: str, found: list[str]) -> None:
    log = DecisionLog()
    decided(log, "r-1")
    decided(log, "r-2", status=503)
    decided(log, "r-3", "chat/b", rule="beta")
    decided(log, "r-4", status=None)
    async with visiting(decisions=log) as visitor:
        assert ids((await visitor.look(f"/ui/decisions?{query}")).text) == found


async def test_who_sees_one_endpoint_sees_its_decisions_and_no_others() -> None:
    log = DecisionLog()
    decided(log, "mine")
    decided(log, "theirs", "secret/a")
    decided(log, "plain", "")
    async with visiting(QUENTIN, decisions=log) as visitor:
        assert ids((await visitor.look("/ui/decisions")).text) == ["mine"]
        for hidden in ("theirs", "plain"):
            assert "Nothing is kept" in (await visitor.look(f"/ui/decisions?request_id={hidden}")).text
    async with visiting(ALICE, decisions=log) as visitor:
        assert ids((await visitor.look("/ui/decisions")).text) == ["plain", "theirs", "mine"]


async def test_what_clients_wrote_is_text() -> None:
    log = DecisionLog()
    decided(log, HOSTILE, model=HOSTILE)
    async with visiting(decisions=log) as visitor:
        for path in (
            "/ui/decisions",
            "/ui/decisions?request_id=%3Cscript%3Ealert(1)%3C/script%3E",
            "/ui/decisions?q=%3Cscript%3E",
        ):
            text = (await visitor.look(path)).text
            assert "&lt;script&gt;" in text
            assert [
                each for each in elements(text) if each[0] == "script" and not str(each[1].get("src")).startswith("/ui/")
            ] == []


async def test_a_part_for_a_page_that_is_open() -> None:
    log = DecisionLog()
    decided(log, "r")
    async with visiting(decisions=log) as visitor:
        part = await visitor.ask("GET", "/ui/decisions?part=1&request_id=r", PARTLY)
        assert "<html" not in part.text
        assert "chat/a" in part.text
    async with visiting() as visitor:
        assert (await visitor.look("/ui/decisions")).status == 404
