"""The last decisions: found by what is known of a request, shown to who may see their endpoint."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from extproc.candidates import Pages
from extproc.control.audited import Audited
from extproc.domain import NO_LOAD, Endpoint, Load
from extproc.observability.decisions import Answered, DecisionLog, DecisionRecord, Outcome
from extproc.scheduling import Profile, WeightedScorer
from extproc.scheduling.considered import Considered
from extproc.scheduling.plugins.pickers import MaxScorePicker
from extproc.scheduling.plugins.scorers import QueueScorer
from extproc.traffic.regions import Placed
from tests.api.page.visitors import PARTLY, elements, visiting
from tests.api.tokens import ALICE, QUENTIN
from tests.control.test_audited import write
from tests.fakes.candidates import NAN, candidates, cycle
from tests.fakes.chance import seeded

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


def among_three(log: DecisionLog) -> Considered:
    given = candidates(3, waiting=[2, 5, 9], loads=[Load(waiting=2, kv_usage=0.25), NO_LOAD, Load(waiting=9)])
    profile = Profile("default", [WeightedScorer("queue-scorer", QueueScorer(), 2.0)], MaxScorePicker())
    run = profile.run(cycle(), given, seeded())
    pages = Pages(given.endpoints, given.loads, [9.0, NAN, 8.0])
    return log.keep(
        Considered(
            profile,
            given,
            run.pick.positions,
            pages,
            10.5,
            profile.points(cycle(), given),
        )
    )


async def test_candidates_with_bars_and_what_would_have_changed_it() -> None:
    log = DecisionLog()
    outcome = Outcome()
    outcome.status, outcome.took_s, outcome.answer = 200, 1.5, Answered(0.125, 0.02, 512, 128)
    placed = Placed("a", "eu", "us", "saturated", 10.0)
    decided(log, "r", considered=among_three(log), outcome=outcome, version=7, placed=placed, experiments=(("tone", "warm"),))
    async with visiting(decisions=log) as visitor:
        seen = await visitor.look("/ui/decisions?request_id=r")
        for words in (
            "10.0.0.2:8000 would have won with 4 fewer waiting requests (it had 5).",
            "1.50 s</td>",
            "waiting 2, KV cache 25 %, in flight 0",
            "first token after 125 ms, each token 20 ms, tokens in 512, tokens out 128, whole after 1.50 s",
            '<a href="/ui/endpoints/chat/history?version=7">version 7</a>',
            "us, not eu: saturated, at a cost of 10",
            "<dt>Experiment tone</dt><dd>warm</dd>",
            "/ui/try?endpoint=chat",
        ):
            assert words in seen.text, words
        widths = [
            each["width"] for tag, each in elements(seen.text) if tag == "rect" and each["height"] == "10" and "x" in each
        ]
        assert widths == ["100.0", "57.14"], "and none for who had no points"
        assert not any("style" in each for _, each in elements(seen.text)), "which the policy forbids"


async def test_of_many_with_one_id_few_are_told_in_full_and_forgotten_candidates_are_said() -> None:
    log = DecisionLog(most_numbers=3 * 2)
    for _ in range(30):
        decided(log, "r", considered=among_three(log))
    async with visiting(decisions=log) as visitor:
        text = (await visitor.look("/ui/decisions?request_id=r")).text
        assert re.findall(r"<h2>(Attempt \d+)", text) == [f"Attempt {number}" for number in range(30, 25, -1)]
        assert text.count("would have won with") == 1
        assert text.count("What the candidates were is not kept any more.") == 4
        assert (await visitor.look("/ui/decisions?request_id=none")).status == 404


async def test_older_ones_come_out_of_the_audits_files(tmp_path: Path) -> None:
    at = 1_790_000_000
    row = {
        "at_ms": at * 1000,
        "id": "old",
        "endpoint": "chat",
        "entity": "b",
        "why": "sticky: header x-user-id",
        "bucket": 12,
        "server": "s",
    }
    row |= {
        "version": 3,
        "status": 200,
        "score": 0.91,
        "second": 0.88,
        "ttft_ms": 120.0,
        "out_tokens": 7,
        "arms": ["tone/warm"],
    }
    write(tmp_path, at, "a-1", row, {"at_ms": at * 1000, "id": "theirs", "endpoint": "secret", "model": HOSTILE})
    async with visiting(QUENTIN, decisions=DecisionLog(), audited=Audited(None, tmp_path)) as visitor:
        text = (await visitor.look("/ui/decisions")).text
        assert "Look into the audit’s files, too" in text
        assert ids((await visitor.look("/ui/decisions?older=true")).text) == ["old"]
        text = (await visitor.look("/ui/decisions?request_id=old")).text
        for words in (
            "chat/b",
            "0.91 points, the best other had 0.88",
            "first token after 120 ms, tokens out 7",
            "version=3",
            "warm",
        ):
            assert words in text, words
        assert (await visitor.look("/ui/decisions?request_id=theirs")).status == 404
    async with visiting(ALICE, decisions=DecisionLog(), audited=Audited(None, tmp_path)) as visitor:
        text = (await visitor.look("/ui/decisions?request_id=theirs")).text
        assert HOSTILE not in text
        assert "&lt;script&gt;" in text
        gone = Audited(None, tmp_path / "gone")
    async with visiting(decisions=DecisionLog(), audited=gone) as visitor:
        assert "can&#39;t be read" in (await visitor.look("/ui/decisions?older=true")).text


async def test_what_is_no_question_is_told() -> None:
    async with visiting(decisions=DecisionLog()) as visitor:
        for query, words in (
            ("since=soon", "expected a time"),
            ("status=often", "expected a status"),
            ("outcome=fine", "expected good"),
        ):
            seen = await visitor.look(f"/ui/decisions?{query}")
            assert (seen.status, words in seen.text) == (400, True)


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
