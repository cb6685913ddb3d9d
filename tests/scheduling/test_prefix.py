"""Prefix cache plugins: what was sent where counts for those who come with the same beginning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from extproc.candidates import ARRAY_SIZE, Candidates, Pick
from extproc.domain import Load
from extproc.scheduling import Blueprint, Cycle, Scheduled, Scheduler, build_scheduler
from extproc.scheduling.facts import PrefixMatch, Prompt
from extproc.scheduling.plugins.base import Run, UnusableSnapshot
from extproc.settings.base import SettingsError
from extproc.settings.picker import load_picker_config
from tests.fakes.candidates import REQUEST, candidates
from tests.fakes.chance import seeded
from tests.fakes.plugins import kit, make

PLAIN = "plugins: [{type: prefix-cache-scorer}]"
TEXT = "The quick brown fox jumps over the lazy dog. " * 100
"""4,500 bytes: 17.6 blocks of 64 tokens."""


def build(config: str = PLAIN) -> Blueprint:
    return build_scheduler(load_picker_config(config)[0])


def asked(prompt: object = TEXT, model: str = "m", **more: object) -> Cycle:
    return Cycle(REQUEST._replace(model=model, payload={"model": model, "prompt": prompt, **more}))


def idle(number: int = 3, *, loads: Sequence[Load] = (), arrays: bool = False) -> Candidates:
    zeros = [0.0] * number
    return candidates(number, waiting=zeros, running=zeros, kv_usage=zeros, loads=list(loads), arrays=arrays)


def send(scheduler: Scheduler, cycle: Cycle, given: Candidates) -> Scheduled:
    """Choose and go out."""
    scheduled = scheduler.schedule(cycle, given)
    scheduler.picked(cycle, scheduled)
    return scheduled


def points(scheduler: Scheduler, cycle: Cycle, given: Candidates, name: str = "prefix-cache-scorer") -> dict[str, float]:
    scheduler.schedule(cycle, given)
    return {row.endpoint.key: row.points[name] for row in scheduler.explain(cycle, given)[0].candidates}


@pytest.mark.parametrize("number", [3, 70], ids=["lists", "arrays"])
def test_the_same_prompt_goes_where_it_went(number: int) -> None:
    scheduler, given = build().scheduler(seeded()), idle(number, arrays=number >= ARRAY_SIZE)
    first = send(scheduler, asked(), given).run.endpoint
    for _ in range(5):
        assert send(scheduler, asked(), given).run.endpoint == first
    told = points(scheduler, asked(), given)
    assert told.pop(first) == 1
    assert set(told.values()) == {0}


def test_points_are_the_share_of_blocks_that_were_sent_there() -> None:
    scheduler, given = build().scheduler(seeded()), idle()
    first = send(scheduler, asked(TEXT[:2560]), given).run.endpoint  # ten blocks of 256 bytes
    assert points(scheduler, asked(TEXT[:2560] + "x" * 2560), given)[first] == 0.5


def test_explaining_leaves_no_trace() -> None:
    scheduler, given = build().scheduler(seeded()), idle()
    points(scheduler, asked(), given)
    assert set(points(scheduler, asked(), given).values()) == {0}


@pytest.mark.parametrize(
    "other", [asked(model="adapter"), asked(cache_salt="tenant"), asked("another " + TEXT)], ids=["model", "salt", "beginning"]
)
def test_what_is_not_the_same_is_not_shared(other: Cycle) -> None:
    scheduler, given = build().scheduler(seeded()), idle()
    send(scheduler, asked(), given)
    assert set(points(scheduler, other, given).values()) == {0}


def test_a_conversation_that_goes_on_stays_where_it_is() -> None:
    scheduler, given = build().scheduler(seeded()), idle()

    def turn(number: int) -> Cycle:
        said = [{"role": "user", "content": TEXT[n : n + 800]} for n in range(number)]
        return Cycle(REQUEST._replace(path="/v1/chat/completions", payload={"model": "m", "messages": said}))

    first = send(scheduler, turn(1), given).run.endpoint
    for number in range(2, 6):
        assert points(scheduler, turn(number), given)[first] > 0.4
        assert send(scheduler, turn(number), given).run.endpoint == first


def test_what_matched_is_counted_where_it_went() -> None:
    scheduler, given = build().scheduler(seeded()), idle()
    for _ in range(3):
        send(scheduler, asked("x" * 2560), given)
    told = {figure.name: figure.value for _, figure in scheduler.figures()}
    assert told["extproc_prefix_queried_tokens_total"] == 3 * 640
    assert told["extproc_prefix_matched_tokens_total"] == 2 * 640
    assert told["inference_extension_prefix_indexer_size"] == 10
    assert told["extproc_prefix_index_bytes"] > 80


def test_an_endpoint_that_was_started_anew_has_lost_it() -> None:
    scheduler, given = build().scheduler(seeded()), idle()
    first = send(scheduler, asked(), given).run.endpoint
    scheduler.forget(first)
    assert set(points(scheduler, asked(), given).values()) == {0}


def test_a_request_without_a_prompt_is_picked_for_all_the_same() -> None:
    scheduler, given = build().scheduler(seeded()), idle()
    for request in (REQUEST, REQUEST._replace(payload={}), REQUEST._replace(payload={"prompt": ""})):
        assert send(scheduler, Cycle(request), given).run.endpoint
    assert set(points(scheduler, asked(), given).values()) == {0}


def test_a_batch_counts_all_of_its_prompts() -> None:
    scheduler, given = build().scheduler(seeded()), idle()
    first = send(scheduler, asked(["a" * 512, "b" * 512]), given).run.endpoint
    assert points(scheduler, asked(["b" * 512, "c" * 512]), given)[first] == 0.5


class TestSnapshot:
    """What is known outlives us, unless the endpoints do not."""

    NOW_S = 1_800_000_000.0

    def kept(self) -> tuple[str, bytes]:
        """Where the prompt went, and what was written then."""
        scheduler, given = build().scheduler(seeded()), idle(loads=[Load(started_s=7.0)] * 3)
        for endpoint in given.endpoints:
            scheduler.began(endpoint.key, 7.0)
        first = send(scheduler, asked(), given).run.endpoint
        (keeper,) = scheduler.keepers.values()
        return first, b"".join(keeper.snapshot(self.NOW_S))

    def restored(self, data: bytes, *, later_s: float = 10.0) -> Scheduler:
        scheduler = build().scheduler(seeded())
        (keeper,) = scheduler.keepers.values()
        assert list(keeper.restore(data, self.NOW_S + later_s))
        return scheduler

    def test_a_restart_of_ours_goes_on_where_it_was(self) -> None:
        first, data = self.kept()
        scheduler = self.restored(data)
        scheduler.began(first, 7.0)
        assert points(scheduler, asked(), idle())[first] == 1

    def test_an_endpoint_that_was_started_anew_meanwhile_has_lost_it(self) -> None:
        first, data = self.kept()
        scheduler = self.restored(data)
        scheduler.began(first, 8.0)
        assert points(scheduler, asked(), idle())[first] == 0

    @pytest.mark.parametrize(
        ("damage", "later_s", "why"),
        [
            (lambda data: data[:-1], 0.0, "checksum"),
            (lambda data: b"", 0.0, "no snapshot"),
            (lambda data: data, 4000.0, "4000 s old, expected at most 3600 s"),
        ],
        ids=["cut", "empty", "old"],
    )
    def test_what_can_not_be_used_is_refused(self, damage: Callable[[bytes], bytes], later_s: float, why: str) -> None:
        with pytest.raises(UnusableSnapshot, match=why):
            self.restored(damage(self.kept()[1]), later_s=later_s)


class TestTuning:
    """Blocks as the pages say, where they are tuned."""

    PAGE = Load(kv_block_size=128, kv_blocks=1000)

    def match(self, config: str, loads: Sequence[Load]) -> tuple[PrefixMatch, Mapping[str, Any]]:
        scheduler, given = build(config).scheduler(seeded()), idle(2, loads=loads)
        cycle = asked()
        scheduled = scheduler.schedule(cycle, given)
        (match,) = [fact for fact in cycle.facts.values() if isinstance(fact, PrefixMatch)]
        scheduler.picked(cycle, scheduled)
        (dumped,) = [each for each in scheduler.dump().values() if "blocks" in each]
        return match, dumped

    @pytest.mark.parametrize(
        ("parameters", "block_tokens", "capacity"),
        [
            ("{}", 128, 1000),
            ("{autoTune: false, blockSizeTokens: 32, lruCapacityPerServer: 77}", 32, 77),
            ("{autoTune: false, blockSize: 5, maxPrefixBlocksToMatch: 7}", 5, 31250),
            ("{autoTune: false, hashBlockSize: 64}", 16, 31250),
        ],
    )
    def test_size_and_number(self, parameters: str, block_tokens: int, capacity: int) -> None:
        config = f"plugins: [{{type: prefix-cache-scorer}}, {{type: approx-prefix-cache-producer, parameters: {parameters}}}]"
        match, dumped = self.match(config, [self.PAGE, self.PAGE])
        assert match.block_tokens == block_tokens
        assert [each["capacity"] for each in dumped["endpoints"]] == [capacity]

    def test_pages_that_say_nothing_leave_blocks_of_64_and_the_default_capacity(self) -> None:
        match, dumped = self.match(PLAIN, [Load(), Load()])
        assert match.block_tokens == 64
        assert [each["capacity"] for each in dumped["endpoints"]] == [31250]

    def test_of_a_long_prompt_the_beginning_is_looked_at(self) -> None:
        config = (
            "plugins: [{type: prefix-cache-scorer, parameters: {autoTune: false, blockSize: 16, maxPrefixBlocksToMatch: 7}}]"
        )
        assert self.match(config, [])[0].total == 7


class TestScorer:
    """The length of a match, beside its share."""

    @pytest.mark.parametrize("arrays", [False, True], ids=["lists", "arrays"])
    def test_formula(self, arrays: bool) -> None:
        parameters = {"matchLengthWeight": 0.25, "matchLengthScaleTokens": 1024}
        scorer = make("prefix-cache-scorer", parameters, kit("s", sources=["p"]))
        given = candidates(3, arrays=arrays)
        cycle = asked()
        cycle.facts["p"] = PrefixMatch(given.of(candidates(in_flight=[0, 8, 20], arrays=arrays).in_flight), 20, 64)
        # 0.25 × min(1, 8 × 64 / 1024)² + 0.75 × 8 / 20, and both whole
        assert list(scorer.score(cycle, given)) == pytest.approx([0, 0.25 * 0.25 + 0.75 * 0.4, 1])


class TestOlderFiles:
    def test_a_scorer_with_its_index_makes_a_producer_of_its_own(self) -> None:
        blueprint = build(
            "plugins: [{type: prefix-cache-scorer, parameters: {hashBlockSize: 64, maxPrefixBlocksToMatch: 256, "
            "lruCapacityPerServer: 31250}}]"
        )
        assert blueprint.producers == ("token-producer", "prefix-cache-scorer/approx-prefix-cache-producer")
        (warning,) = blueprint.warnings
        assert "what is about the index (hashBlockSize, maxPrefixBlocksToMatch, lruCapacityPerServer)" in warning

    def test_what_is_wrong_with_it_is_told(self) -> None:
        with pytest.raises(SettingsError) as caught:
            build("plugins: [{type: prefix-cache-scorer, parameters: {hashBlockSize: -1}}]")
        assert "hashBlockSize" in caught.value.problems[0]

    def test_precise_types_stand_on_the_approximate_index_and_say_so(self) -> None:
        blueprint = build(
            "plugins: [{type: precise-prefix-cache-scorer,"
            " parameters: {indexerConfig: {tokenProcessorConfig: {blockSize: 5}}}}, "
            "{type: tokenizer, parameters: {modelName: m, vllm: {http: 'http://localhost:8000'}}}]"
        )
        said = "\n".join(blueprint.warnings)
        assert "events of KV caches are not read" in said
        assert "deprecated, use prefix-cache-scorer with a precise-prefix-cache-producer" in said
        assert "tokenizer is an older name, use token-producer" in said
        assert "tokens are estimated" in said
        scheduler, given = blueprint.scheduler(seeded()), idle()
        first = send(scheduler, asked(TEXT[:40]), given).run.endpoint
        assert points(scheduler, asked(TEXT[:40]), given, "precise-prefix-cache-scorer")[first] == 1


def test_the_prompt_says_how_long_it_is() -> None:
    producer = make("token-producer")
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,xyz"}}
    said = [{"role": "user", "content": [{"type": "text", "text": "x" * 400}, image]}]
    fact = producer.produce(Cycle(REQUEST._replace(payload={"messages": said})), idle())
    assert isinstance(fact, Prompt)
    assert fact.multimodal
    assert 100 <= fact.tokens < 200
    ids = producer.produce(Cycle(REQUEST._replace(payload={"prompt": [1, 2, 3]})), idle())
    assert (ids.tokens, ids.multimodal) == (3, False)


def test_a_prefill_endpoint_has_the_prompt_as_well() -> None:
    """The profile that is called so, as upstream has it."""
    scheduler = build(
        "plugins: [{type: prefix-cache-scorer}, {type: queue-scorer}]\n"
        "schedulingProfiles: [{name: prefill, plugins: [{pluginRef: prefix-cache-scorer}]}]"
    ).scheduler(seeded())
    given, cycle = idle(2), asked()
    run = scheduler.schedule(cycle, given).run
    other = Run(run.candidates, Pick((1 - run.pick.positions[0],), 0.0))
    scheduler.picked(cycle, Scheduled("decode", {"decode": run, "prefill": other}))
    assert set(points(scheduler, asked(), given).values()) == {1}


def test_clusters_have_an_index_of_their_own() -> None:
    """A picker of clusters sends a prompt where it sent the beginning; beside the index of endpoints where both are there."""
    both = "plugins: [{type: multicluster-prefix-cache-scorer}, {type: prefix-cache-scorer}]"
    blueprint = build(both)
    assert set(blueprint.producers) >= {"multicluster-approx-prefix-cache-producer", "approx-prefix-cache-producer"}
    assert any("what clusters say of their own prefix caches is not read" in warning for warning in blueprint.warnings)
    scheduler, given = blueprint.scheduler(seeded()), idle()
    first = send(scheduler, asked(TEXT[:2560]), given).run.endpoint
    told = points(scheduler, asked(TEXT[:2560] + "x" * 2560), given, "multicluster-prefix-cache-scorer")
    assert told.pop(first) == 0.5
    assert set(told.values()) == {0}


def test_what_each_endpoint_had_of_its_prompts_is_counted_until_it_leaves() -> None:
    scheduler, given = build().scheduler(seeded()), idle(2)
    assert scheduler.reuse() == {}
    there = send(scheduler, asked(), given).run.endpoint
    queried, matched = scheduler.reuse()[there]
    assert queried > 1000
    assert matched == 0
    assert send(scheduler, asked(), given).run.endpoint == there
    assert tuple(scheduler.reuse()[there]) == (2 * queried, queried)
    scheduler.forget(there)
    assert there not in scheduler.reuse()


def test_without_a_prefix_plugin_nothing_is_counted() -> None:
    scheduler = build("plugins: [{type: queue-scorer}]").scheduler(seeded())
    send(scheduler, asked(), idle(2))
    assert scheduler.reuse() == {}
