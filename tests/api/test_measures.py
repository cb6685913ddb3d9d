"""How the entities of an endpoint are doing, over the API, and what somebody says of their answers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from extproc.api.measured import Answer
from extproc.measures import Measures, Sample
from tests.api.served import Api, served
from tests.api.tokens import ALICE, QUENTIN, VICTOR, Door
from tests.control.desks import document
from tests.fakes.clock import FakeClock


def answered(ttft_s: float) -> Sample:
    sample = Sample()
    sample.headers_s, sample.ttft_s, sample.e2e_s = 0.01, ttft_s, 2 * ttft_s
    sample.input_tokens, sample.output_tokens = 100, 10
    sample.cost = 0.5
    return sample


def failed(kind: str) -> Sample:
    sample = Sample()
    sample.error = kind
    return sample


def priced() -> dict[str, Any]:
    endpoint = document()
    endpoint["config"]["served_entities"][0]["price"] = {"input_per_million": 2, "currency": "EUR"}
    return endpoint


async def rows(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = await api.get(f"/chat/measures{query}")
    assert answer.status == 200, answer.text
    TypeAdapter(Answer).validate_python(answer.json, strict=True)
    return list(answer.json["measures"])


async def test_every_entity_is_shown() -> None:
    measures = Measures(FakeClock())
    for ttft_s in (0.1, 0.2, 0.4):
        measures.cell("chat", "a").add(answered(ttft_s))
    for kind in ("5xx", "429", "4xx"):
        measures.cell("chat", "a").add(failed(kind))
    measures.cell("chat", "b", "tone/warm").add(answered(1.0))
    measures.cell("other", "a").add(answered(9.0))
    async with served(measures=measures) as api:
        await api.post("", priced())
        a, b, warm = await rows(api)
    assert [row["served_entity"] for row in (a, b, warm)] == ["a", "b", "b"]
    assert (warm["experiment"], warm["arm"], warm["requests"]) == ("tone", "warm", 1)
    assert (a["requests"], a["errors"], a["rejected"], a["errors_by_kind"]) == (6, 2, 1, {"429": 1, "5xx": 1})
    assert a["error_rate"] == pytest.approx(1 / 3)
    assert a["ttft_s"]["n"] == 3
    assert a["ttft_s"]["p50"] == pytest.approx(0.2, rel=0.01)
    assert a["ttft_s"]["mean"] == pytest.approx(0.7 / 3)
    assert a["tokens"] == {"answers": 3, "input": 300, "output": 30, "cached": 0}
    assert a["cost"] == {"requests": 3, "amount": 1.5, "currency": "EUR"}
    assert "cost" not in b
    assert (b["requests"], b["error_rate"], b["ttft_s"]["p99"], b["hit_fraction"]["mean"]) == (0, None, None, None)


async def test_windows() -> None:
    clock = FakeClock()
    measures = Measures(clock)
    measures.cell("chat", "a").add(answered(0.1))
    async with served(measures=measures) as api:
        await api.post("", document())
        clock.advance(600)
        measures.cell("chat", "a").add(answered(0.1))

        async def requests(query: str) -> int:
            return int((await rows(api, query))[0]["requests"])

        assert await requests("") == 1, "five minutes"
        assert await requests("?window=1h") == 2
        clock.advance(7200)
        assert await requests("?window=1h") == 0
        assert await requests("?window=all") == 2
        for given in ("2h", "0s", "-5m", "soon", "1e9"):
            status, code, words = (await api.get(f"/chat/measures?window={given}")).error
            assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
            assert words.startswith(f"window: got '{given}'; expected"), words


async def test_feedback() -> None:
    measures = Measures(FakeClock(), remembered=10)
    measures.remembered.add(b"one", (measures.cell("chat", "a"),))
    measures.remembered.add(b"two", (measures.cell("other", "a"),))
    async with served(measures=measures) as api:
        await api.post("", document())
        answer = await api.post("/chat/feedback", {"request_id": "one", "score": 0.75})
        assert (answer.status, answer.json) == (200, {"request_id": "one", "verdict": "counted"})
        assert (await api.post("/chat/feedback", {"request_id": "one", "good": False})).status == 409
        for request_id in ("two", "three"):
            status, code, words = (await api.post("/chat/feedback", {"request_id": request_id, "good": True})).error
            assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST")
            assert "--feedback-requests" in words
        assert (await rows(api))[0]["feedback"] == {"good": 1, "bad": 0, "score": 0.75}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"request_id": "one"}, "expected one of good and score"),
        ({"request_id": "one", "good": True, "score": 1}, "expected one of good and score"),
        ({"request_id": "one", "score": 2}, "score: got 2; expected a number from 0 to 1"),
        ({"good": True}, "request_id: got nothing; expected a value"),
        ({"request_id": 7, "good": True}, "request_id: got 7; expected text"),
    ],
)
async def test_no_feedback(body: dict[str, Any], words: str) -> None:
    async with served(measures=Measures(FakeClock(), remembered=10)) as api:
        await api.post("", document())
        status, _, said = (await api.post("/chat/feedback", body)).error
        assert status == 400
        assert words in said


async def test_who_may() -> None:
    """Who sees it sees its measures, and who may query it may say how good the answers were."""
    measures = Measures(FakeClock(), remembered=10)
    measures.remembered.add(b"one", (measures.cell("chat", "a"),))
    async with served(guard=Door().guard, measures=measures) as api:
        await api.post("", document(), Authorization=f"Bearer {ALICE}")
        api.token = VICTOR
        assert (await api.get("/chat/measures")).status == 200
        assert (await api.post("/chat/feedback", {"request_id": "one", "good": True})).status == 403
        api.token = QUENTIN
        assert (await api.post("/chat/feedback", {"request_id": "one", "good": True})).status == 200


async def test_where_nothing_is_measured() -> None:
    async with served() as api:
        await api.post("", document())
        assert (await api.get("/chat/measures")).error[:2] == (501, "NOT_IMPLEMENTED")
        assert (await api.post("/chat/feedback", {"request_id": "one", "good": True})).error[0] == 501
        assert (await api.get("/none/measures")).error[0] == 404
