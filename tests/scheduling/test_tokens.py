"""How long a prompt is thought to be, and what is learned of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.candidates import Pick
from extproc.domain import InferenceRequest, RequestHead
from extproc.scheduling import Cycle, Scheduled
from extproc.scheduling.cycle import Measured
from extproc.scheduling.facts import Prompt
from extproc.scheduling.plugins.base import Run
from extproc.scheduling.plugins.tokens import LEAST_RATIO, MOST_MODELS, MOST_RATIO, Ratio
from tests.fakes.candidates import candidates
from tests.fakes.plugins import kit, make, scheduler_of

GIVEN = candidates(2)
TEXT = "x" * 4000
CHAT = "/v1/chat/completions"


def body(text: object = TEXT, **more: object) -> dict[str, object]:
    return {"prompt": text, **more}


class Bench:
    def __init__(self) -> None:
        self.producer: Any = make("token-producer", {}, kit("tokens"))

    def cycle(self, payload: Mapping[str, object], model: str = "m", path: str = CHAT) -> Cycle:
        cycle = Cycle(InferenceRequest(RequestHead({}), path, model, payload=payload))
        cycle.facts["tokens"] = self.producer.produce(cycle, GIVEN)
        return cycle

    def tokens(self, payload: Mapping[str, object], model: str = "m") -> int:
        told = self.cycle(payload, model).facts["tokens"]
        assert isinstance(told, Prompt)
        return told.tokens

    def serve(
        self,
        payload: Mapping[str, object],
        had: int | None,
        *,
        model: str = "m",
        path: str = CHAT,
        status: int = 200,
        times: int = 1,
    ) -> None:
        for _ in range(times):
            cycle = self.cycle(payload, model, path)
            self.producer.picked(cycle, Scheduled("d", {"d": Run(GIVEN, Pick((0,), 0.0))}))
            cycle.let_go()
            cycle.measured = Measured(None, None, had)
            self.producer.ended(cycle, status, "")
            assert "tokens" not in cycle.kept


def test_four_bytes_until_something_is_learned_and_then_what_answers_say() -> None:
    bench = Bench()
    assert bench.tokens(body()) == 1000
    bench.serve(body(), 2000)
    assert 1000 < bench.tokens(body()) < 2000, "four bytes a token are a thousand tokens' worth of knowledge"
    bench.serve(body(), 2000, times=50)
    assert bench.tokens(body()) == pytest.approx(2000, rel=0.02)
    assert bench.tokens(body(), "other") == 1000, "another model has another tokenizer"
    told = bench.producer.dump()
    assert told["models"] == 1
    assert told["bytes_per_token"]["m"] == {"value": pytest.approx(2, rel=0.02), "prompts": 51}


def test_the_blocks_of_a_prompt_stay_the_same_and_what_is_cached_counts_in_the_same_tokens() -> None:
    scheduler = scheduler_of("plugins: [{type: token-load-scorer}, {type: prefix-cache-scorer}]")

    def serve(had: int) -> tuple[Prompt, Any, Any]:
        cycle = Cycle(InferenceRequest(RequestHead({}), CHAT, "m", payload=body()))
        made = scheduler.schedule(cycle, GIVEN)
        facts = {name.rpartition("/")[2]: fact for name, fact in cycle.facts.items()}
        scheduler.picked(cycle, made)
        cycle.measured = Measured(None, None, had)
        scheduler.ended(cycle, 200, "")
        prompt = facts["token-producer"]
        assert isinstance(prompt, Prompt)
        return prompt, facts["approx-prefix-cache-producer"], facts["inflight-load-producer"]

    first = serve(2000)
    for _ in range(100):
        prompt, match, load = serve(2000)
    assert first[0].tokens == 1000
    assert prompt.tokens == pytest.approx(2000, rel=0.02)
    assert (match.total, match.chains) == (first[1].total, first[1].chains)
    assert match.block_tokens == pytest.approx(2 * first[1].block_tokens, rel=0.02)
    assert sorted(map(float, load.uncached)) == [0, prompt.tokens], "one of the two has all of it"


@pytest.mark.parametrize(
    ("payload", "had", "more"),
    [
        (body(), None, {}),
        (body(), 0, {}),
        (body(), 2000, {"status": 500}),
        (body(), 2000, {"path": "/v1/messages"}),
        (body(truncate_prompt_tokens=10), 2000, {}),
        (body("x" * 255), 200, {}),
        (body([1, 2, 3] * 200), 600, {}),
        (body(["one" * 100, "two" * 100]), 600, {}),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}, TEXT]}]}, 2000, {}),
        (body(), 4001, {}),
        (body(), 249, {}),
    ],
)
def test_nothing_is_learned_of(payload: Mapping[str, object], had: int | None, more: dict[str, Any]) -> None:
    """No usage, failures, answers that leave out what was cached, prompts that may be cut, short ones, token ids, batches,
    images, and what can't be."""
    bench = Bench()
    bench.serve(payload, had, **more)
    assert bench.tokens(body()) == 1000


def test_token_ids_and_images_are_counted_as_before() -> None:
    bench = Bench()
    bench.serve(body(), 2000, times=9)
    image = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]}
    assert bench.tokens(body([1, 2, 3])) == 3
    assert bench.tokens(image) == Bench().tokens(image)


def test_models_are_bounded_and_those_heard_of_last_stay() -> None:
    bench = Bench()
    for number in range(MOST_MODELS):
        bench.serve(body(), 2000, model=f"m{number}")
    bench.serve(body(), 2000, model="m0")
    bench.serve(body(), 2000, model="new")
    assert bench.producer.dump()["models"] == MOST_MODELS
    assert bench.tokens(body(), "m0") > 1000
    assert bench.tokens(body(), "m1") == 1000


def test_what_was_learned_long_ago_counts_less() -> None:
    ratio = Ratio()
    for _ in range(3000):
        ratio.add(4000, 1000)
    for _ in range(6000):
        ratio.add(3000, 1000)
    assert ratio.value == pytest.approx(3, rel=0.1)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**9))))
def test_a_ratio_is_between_its_bounds(prompts: list[tuple[int, int]]) -> None:
    ratio = Ratio()
    for length_bytes, tokens in prompts:
        ratio.add(length_bytes, tokens)
        assert LEAST_RATIO <= ratio.value <= MOST_RATIO
