"""Images go to who has encoded them."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.candidates import Candidates, Pick
from extproc.domain import InferenceRequest, RequestHead
from extproc.scheduling import Cycle, Scheduled, Scheduler
from extproc.scheduling.plugins.base import Run
from tests.fakes.candidates import candidates
from tests.fakes.plugins import figures_of, problems_of, scheduler_of

ONE = "plugins: [{type: mm-embeddings-cache-scorer}]"


def asked(*images: str, text: str = "what is this?", kind: str = "image_url") -> Cycle:
    parts: list[Any] = [{"type": "text", "text": text}]
    parts += [{"type": kind, kind: {"url": f"https://a.example/{image}.png"}} for image in images]
    payload = {"messages": [{"role": "user", "content": parts}]}
    return Cycle(InferenceRequest(RequestHead({}), "/v1/chat/completions", "m", payload=payload))


def sent(scheduler: Scheduler, pool: Candidates, *images: str, **more: str) -> str:
    """Who gets them."""
    cycle = asked(*images, **more)
    scheduled = scheduler.schedule(cycle, pool)
    scheduler.picked(cycle, scheduled)
    scheduler.ended(cycle, 200, scheduled.run.endpoint)
    return scheduled.run.endpoint


def points(scheduler: Scheduler, pool: Candidates, *images: str) -> dict[str, float]:
    cycle = asked(*images)
    scheduler.schedule(cycle, pool)
    (told,) = scheduler.explain(cycle, pool)
    return {each.endpoint.key: each.points["mm-embeddings-cache-scorer"] for each in told.candidates}


@pytest.mark.parametrize("number", [3, 80])
def test_the_share_of_items_that_it_has_seen(number: int) -> None:
    scheduler, pool = scheduler_of(ONE), candidates(number)
    first = sent(scheduler, pool, "a", "b")
    seen = points(scheduler, pool, "a", "b", "c", "d")
    assert {key for key, value in seen.items() if value} == {first}
    assert seen[first] == 0.5
    assert points(scheduler, pool, "a", "a")[first] == 1.0, "an item counts once"
    assert not any(points(scheduler, pool, "c").values())
    assert not any(points(scheduler, pool).values())
    assert {sent(scheduler, pool, "a", text=f"and {n}") for n in range(9)} == {first}
    assert figures_of(scheduler) == {
        "extproc_encoder_cache_items": 2,
        "extproc_encoder_queried_items_total": 11,
        "extproc_encoder_matched_items_total": 9,
    }


def test_explaining_remembers_nothing() -> None:
    scheduler, pool = scheduler_of(ONE), candidates(3)
    points(scheduler, pool, "a")
    assert not any(points(scheduler, pool, "a").values())


def test_the_last_items_are_kept() -> None:
    producer = "{type: mm-embeddings-cache-producer, parameters: {cacheSizeInMBPerServer: 4}}"
    scheduler, pool = scheduler_of(f"plugins: [{producer}, {{type: mm-embeddings-cache-scorer}}]"), candidates(1)
    for image in ("a", "b", "a", "c"):
        sent(scheduler, pool, image)
    assert [list(points(scheduler, pool, image).values()) for image in "abc"] == [[1.0], [0.0], [1.0]]


def test_who_left_or_was_started_anew_has_nothing() -> None:
    scheduler, pool = scheduler_of(ONE), candidates(2)
    first = sent(scheduler, pool, "a")
    scheduler.forget(first)
    assert not any(points(scheduler, pool, "a").values())
    assert "extproc_encoder_cache_items" not in figures_of(scheduler)


def test_the_one_that_encodes_has_it() -> None:
    scheduler, pool = scheduler_of(ONE), candidates(3)
    cycle = asked("a")
    serves = scheduler.schedule(cycle, pool)
    (other,) = [key for key in ("10.0.0.1:8000", "10.0.0.2:8000") if key != serves.run.endpoint][:1]
    at = [endpoint.key for endpoint in pool.endpoints].index(other)
    encode = Run(serves.run.candidates, Pick((at,), 0.0))
    scheduler.picked(cycle, Scheduled(serves.primary, {**serves.runs, "encode": encode}))
    assert points(scheduler, pool, "a") == {endpoint.key: float(endpoint.key == other) for endpoint in pool.endpoints}


def test_documents_are_not_encoded() -> None:
    scheduler, pool = scheduler_of(ONE), candidates(2)
    sent(scheduler, pool, "a", kind="input_file")
    assert figures_of(scheduler) == {}


def test_parameters() -> None:
    text = "plugins: [{type: mm-embeddings-cache-producer, parameters: {cacheSizeInMBPerServer: 0}}]"
    assert problems_of(text) == [
        "plugins[0].parameters.cacheSizeInMBPerServer: input should be greater than or equal to 1 (got 0)"
    ]
    text = "plugins: [{type: mm-embeddings-cache-scorer, parameters: {producerName: nobody}}]"
    (problem,) = problems_of(text)
    assert problem.startswith("plugins[0].parameters.producerName: no plugin is called 'nobody'")
