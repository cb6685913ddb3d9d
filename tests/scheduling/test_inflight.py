"""Requests and tokens in flight, from the pick to the end, and who goes by them."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.candidates import Candidates, Pick
from extproc.domain import InferenceRequest, Reading, RequestHead
from extproc.domain import Load as Page
from extproc.scheduling import Cycle, Scheduled, Scheduler
from extproc.scheduling.facts import InFlight, PrefixMatch, Prompt
from extproc.scheduling.plugins.base import Run
from extproc.scheduling.plugins.inflight import ANSWERED_S, UNANSWERED_S, asked_for_at_most
from extproc.scheduling.saturation import TokenConcurrencyDetector
from tests.fakes.candidates import candidates, explained
from tests.fakes.chance import seeded
from tests.fakes.clock import FakeClock
from tests.fakes.plugins import blueprint_of, figures_of, kit, make, problems_of, scheduler_of

A, B = "10.0.0.1:8000", "10.0.0.2:8000"

TOLD = """
- {type: told-prompt, parameters: {tokens: 100}}
- {type: told-match, parameters: {matched: [2, 0], total: 7}}
"""


def config(parameters: str = "{}", more: str = "") -> str:
    return f"""
plugins:
- {{type: inflight-load-producer, parameters: {parameters}}}
- {{type: token-load-scorer, parameters: {{queueThresholdTokens: 1000}}}}
- {{name: first, type: only-these, parameters: {{keys: ["{A}"]}}}}
{TOLD}{more}
schedulingProfiles:
- {{name: default, plugins: [{{pluginRef: token-load-scorer}}, {{pluginRef: first}}]}}
"""


class Sent:
    """A request that goes out."""

    def __init__(self, scheduler: Scheduler, given: Candidates, **payload: Any) -> None:
        self.scheduler = scheduler
        asked = InferenceRequest(RequestHead({}), "/v1/completions", "m", payload=payload)
        self.cycle = Cycle(asked)
        self.scheduled: Scheduled = scheduler.schedule(self.cycle, given)
        scheduler.picked(self.cycle, self.scheduled)

    def answered(self, *, body_comes: bool = False, is_stream: bool = False) -> None:
        """With headers; where the body comes by us, its first piece is not here yet."""
        self.cycle.answer_is_seen = body_comes
        self.scheduler.answered(self.cycle, 200)
        if not (body_comes or is_stream):
            self.prefilled()

    def prefilled(self) -> None:
        self.scheduler.prefilled(self.cycle)

    def ended(self) -> None:
        self.scheduler.ended(self.cycle, 200, "")


def dumped(scheduler: Scheduler) -> dict[str, dict[str, float]]:
    endpoints: dict[str, dict[str, float]] = scheduler.dump()["inflight-load-producer"]["endpoints"]
    return endpoints


class TestCounting:
    def test_prompt_tokens_that_are_not_cached_until_the_answer_begins(self) -> None:
        scheduler, given = scheduler_of(config()), candidates(2)
        one, two = Sent(scheduler, given), Sent(scheduler, given)
        assert dumped(scheduler) == {A: {"requests": 2, "tokens": 136}}, "32 of 100 are cached there"
        one.answered()
        assert dumped(scheduler) == {A: {"requests": 2, "tokens": 68}}
        one.ended()
        assert dumped(scheduler) == {A: {"requests": 1, "tokens": 68}}
        two.ended()
        assert dumped(scheduler) == {A: {"requests": 0, "tokens": 0}}
        two.ended()
        two.answered()
        two.prefilled()
        assert dumped(scheduler) == {A: {"requests": 0, "tokens": 0}}, "whatever is told twice"

    def test_until_the_first_piece_of_a_body_that_comes_by(self) -> None:
        scheduler = scheduler_of(config())
        sent = Sent(scheduler, candidates(2))
        sent.answered(body_comes=True)
        assert dumped(scheduler) == {A: {"requests": 1, "tokens": 68}}, "a stream's headers come before it was computed"
        sent.prefilled()
        assert dumped(scheduler) == {A: {"requests": 1, "tokens": 0}}
        sent.prefilled()
        assert dumped(scheduler) == {A: {"requests": 1, "tokens": 0}}
        sent.ended()
        assert dumped(scheduler) == {A: {"requests": 0, "tokens": 0}}

    def test_to_the_end_of_a_stream_that_does_not_come_by(self) -> None:
        scheduler = scheduler_of(config())
        sent = Sent(scheduler, candidates(2))
        sent.answered(is_stream=True)
        assert dumped(scheduler) == {A: {"requests": 1, "tokens": 68}}
        sent.ended()
        assert dumped(scheduler) == {A: {"requests": 0, "tokens": 0}}

    @pytest.mark.parametrize(
        ("parameters", "payload", "output"),
        [
            ("{addEstimatedOutputTokens: true}", {}, 150),
            ("{addEstimatedOutputTokens: true, outputRatio: 0.5}", {}, 50),
            ("{addEstimatedOutputTokens: true}", {"max_tokens": 20}, 20),
            ("{addEstimatedOutputTokens: true}", {"max_completion_tokens": 30, "max_tokens": 20}, 30),
            ("{addEstimatedOutputTokens: true, maxEstimatedOutputTokens: 10}", {"max_tokens": 20}, 10),
            ("{addEstimatedOutputTokens: true}", {"max_tokens": 1000}, 150),
            ("{outputRatio: 3}", {}, 0),
        ],
    )
    def test_estimated_output_to_the_end(self, parameters: str, payload: dict[str, Any], output: float) -> None:
        scheduler = scheduler_of(config(parameters))
        sent = Sent(scheduler, candidates(2), **payload)
        assert dumped(scheduler)[A]["tokens"] == 68 + output
        sent.answered()
        assert dumped(scheduler)[A]["tokens"] == output
        sent.ended()
        assert dumped(scheduler)[A]["tokens"] == 0

    @pytest.mark.parametrize(
        ("way", "at_headers"),
        [
            ({"body_comes": True}, ({"requests": 1, "tokens": 68}, {"requests": 1, "tokens": 100})),
            ({"is_stream": True}, ({"requests": 1, "tokens": 68}, {"requests": 0, "tokens": 0})),
            ({}, ({"requests": 1, "tokens": 0}, {"requests": 0, "tokens": 0})),
        ],
    )
    def test_each_stage_counts_where_it_is_and_prefill_until_the_answer_begins(
        self, way: dict[str, bool], at_headers: tuple[dict[str, float], dict[str, float]]
    ) -> None:
        text = f"""
plugins:
- {{type: disagg-profile-handler, parameters: {{deciders: {{prefill: always-disagg-pd-decider}}}}}}
- {{type: always-disagg-pd-decider}}
- {{type: token-load-scorer}}
- {{name: d, type: only-these, parameters: {{keys: ["{A}"]}}}}
- {{name: p, type: only-these, parameters: {{keys: ["{B}"]}}}}
{TOLD}
schedulingProfiles:
- {{name: decode, plugins: [{{pluginRef: d}}, {{pluginRef: token-load-scorer}}]}}
- {{name: prefill, plugins: [{{pluginRef: p}}]}}
"""
        scheduler = scheduler_of(text)
        sent = Sent(scheduler, candidates(2))
        assert dumped(scheduler) == {A: {"requests": 1, "tokens": 68}, B: {"requests": 1, "tokens": 100}}
        sent.answered(**way)
        assert dumped(scheduler) == dict(zip((A, B), at_headers, strict=True))
        if way.get("body_comes"):
            sent.prefilled()
            assert dumped(scheduler) == {A: {"requests": 1, "tokens": 0}, B: {"requests": 0, "tokens": 0}}
        sent.ended()
        assert dumped(scheduler) == {A: {"requests": 0, "tokens": 0}, B: {"requests": 0, "tokens": 0}}

    def test_requests_of_one_id_are_requests_of_their_own(self) -> None:
        scheduler, given = scheduler_of(config()), candidates(2)
        same = InferenceRequest(RequestHead({"x-request-id": b"same"}), "/v1/completions", "m")
        cycles = [Cycle(same), Cycle(same)]
        for cycle in cycles:
            scheduler.picked(cycle, scheduler.schedule(cycle, given))
        scheduler.ended(cycles[0], 200, "")
        assert dumped(scheduler) == {A: {"requests": 1, "tokens": 68}}

    def test_an_endpoint_that_starts_anew_has_nothing_in_flight(self) -> None:
        scheduler, given = scheduler_of(config()), candidates(2)
        before = Sent(scheduler, given)
        scheduler.forget(A)
        assert dumped(scheduler) == {}
        after = Sent(scheduler, given)
        before.ended()
        assert dumped(scheduler) == {A: {"requests": 1, "tokens": 68}}
        after.ended()
        assert dumped(scheduler)[A]["requests"] == 0

    @pytest.mark.parametrize(("answered", "after_s"), [(False, UNANSWERED_S), (True, ANSWERED_S)])
    def test_what_nothing_is_heard_of_stops_counting(self, answered: bool, after_s: float) -> None:
        clock = FakeClock()
        scheduler, given = scheduler_of(config(), clock=clock), candidates(2)
        lost = Sent(scheduler, given)
        if answered:
            lost.answered()
        clock.advance(after_s - 1)
        Sent(scheduler, given).ended()
        assert scheduler.dump()["inflight-load-producer"]["reaped"] == 0
        clock.advance(61)
        Sent(scheduler, given).ended()
        assert dumped(scheduler) == {A: {"requests": 0, "tokens": 0}}
        assert figures_of(scheduler) == {"extproc_inflight_reaped_total": 1}
        lost.ended()
        assert dumped(scheduler) == {A: {"requests": 0, "tokens": 0}}, "and its end changes nothing"

    def test_deciding_counts_nothing(self) -> None:
        scheduler, given = scheduler_of(config()), candidates(2)
        for _ in range(3):
            scheduler.schedule(Cycle(InferenceRequest(RequestHead({}), "/")), given)
        assert dumped(scheduler) == {}

    def test_it_is_made_when_somebody_needs_it(self) -> None:
        text = f"plugins:\n- {{type: token-load-scorer}}{TOLD}"
        assert blueprint_of(text).producers == ("told-prompt", "told-match", "inflight-load-producer")

    def test_explain_says_what_it_would_add(self) -> None:
        scheduler = scheduler_of(config())
        cycle = Cycle(InferenceRequest(RequestHead({}), "/"))
        scheduler.schedule(cycle, candidates(2))
        assert scheduler.tell(cycle) == {"inflight-load-producer": {"uncached_tokens": [68, 100]}}


class TestColumns:
    def facts(self, producer: Any, given: Candidates) -> tuple[Cycle, InFlight]:
        cycle = Cycle(InferenceRequest(RequestHead({}), "/"))
        cycle.facts = {"prompt": Prompt(10, False), "match": PrefixMatch(given.in_flight, 1, 16)}
        load = producer.produce(cycle, given)
        cycle.facts["load"] = load
        return cycle, load

    @pytest.mark.parametrize("number", [3, 100])
    def test_are_those_of_the_candidates_whatever_comes_and_goes(self, number: int) -> None:
        producer = make("inflight-load-producer", {}, kit("load", sources=["prompt", "match"]))
        arrays = number >= 64
        given = candidates(number, arrays=arrays)
        cycles = []
        for turn in range(20):
            cycle, _ = self.facts(producer, given)
            run = Run(given, Pick((turn % 7 % number,), 0.0))
            producer.picked(cycle, Scheduled("default", {"default": run}))
            cycles.append((cycle, run.endpoint))
        picks = [key for _, key in cycles]
        load = self.facts(producer, given)[1]
        assert [float(each) for each in load.tokens] == [10 * picks.count(each.key) for each in given.endpoints]
        assert isinstance(load.tokens, list) == (not arrays)
        fewer = candidates(number - 1, arrays=arrays)
        load = self.facts(producer, fewer)[1]
        assert [float(each) for each in load.requests] == [picks.count(each.key) for each in fewer.endpoints]
        for cycle, _ in cycles:
            producer.ended(cycle, 200, "")
        assert not any(load.requests)
        assert not any(load.tokens)


class TestTokenLoad:
    def test_room_for_what_is_there_and_what_would_come(self) -> None:
        scheduler, given = scheduler_of(config().replace(", {pluginRef: first}", "")), candidates(2)
        told = explained(scheduler, given)
        assert {row.endpoint.key: row.points["token-load-scorer"] for row in told.candidates} == {
            A: pytest.approx(1 - 0.068),
            B: pytest.approx(1 - 0.1),
        }
        assert Sent(scheduler, given).scheduled.run.endpoint == A
        told = explained(scheduler, given)
        assert {row.endpoint.key: row.points["token-load-scorer"] for row in told.candidates} == {
            A: pytest.approx(1 - 0.136),
            B: pytest.approx(1 - 0.1),
        }

    def test_never_below_0(self) -> None:
        text = config().replace("queueThresholdTokens: 1000", "queueThresholdTokens: 50")
        assert [row.points["token-load-scorer"] for row in explained(scheduler_of(text), candidates(2)).candidates] == [0]


class TestConcurrencyDetector:
    def readings(self, *in_flight: int) -> list[Reading]:
        return [Reading(Page(), None, number, key) for key, number in zip((A, B), in_flight, strict=True)]

    def saturation(self, parameters: str, sent: int, *in_flight: int) -> float:
        more = f"- {{type: concurrency-detector, parameters: {parameters}}}\n"
        scheduler, detector = blueprint_of(config(more=more)).pool(seeded(), FakeClock())
        for _ in range(sent):
            Sent(scheduler, candidates(2))
        return detector.saturation(self.readings(*in_flight))

    @pytest.mark.parametrize(
        ("parameters", "saturation"),
        [
            ("{concurrencyMode: requests, maxConcurrency: 4}", 0.5),
            ("{concurrencyMode: tokens, maxTokenConcurrency: 136}", 0.75),
            ("{concurrencyMode: hybrid, maxTokenConcurrency: 136, maxConcurrency: 4}", (1.5 + 0.25) / 2),
            ("{concurrencyMode: hybrid, maxTokenConcurrency: 1360, maxConcurrency: 4}", (0.75 + 0.25) / 2),
            ("{concurrencyMode: tokens, inFlightLoadProducerName: inflight-load-producer}", 102 / 1_000_000),
        ],
    )
    def test_of_three_requests_of_68_tokens_at_one_of_two(self, parameters: str, saturation: float) -> None:
        assert self.saturation(parameters, 3, 3, 1) == pytest.approx(saturation)

    @pytest.mark.parametrize(
        ("parameters", "kept"),
        [
            ("{concurrencyMode: tokens, maxTokenConcurrency: 204}", [1]),
            ("{concurrencyMode: tokens, maxTokenConcurrency: 205}", [0, 1]),
            ("{concurrencyMode: tokens, maxTokenConcurrency: 200, headroom: 0.1}", [0, 1]),
            ("{concurrencyMode: hybrid, maxConcurrency: 9}", [0]),
        ],
    )
    def test_as_a_filter(self, parameters: str, kept: list[int]) -> None:
        more = f"- {{type: concurrency-detector, parameters: {parameters}}}\n"
        scheduler, detector = blueprint_of(config(more=more)).pool(seeded(), FakeClock())
        for _ in range(3):
            Sent(scheduler, candidates(2))
        assert isinstance(detector, TokenConcurrencyDetector)
        given = candidates(in_flight=[3, 9])
        assert detector.keep(Cycle(InferenceRequest(RequestHead({}), "/")), given) == kept

    def test_a_pool_without_endpoints_is_full(self) -> None:
        detector = blueprint_of(config(more="- {type: concurrency-detector, parameters: {concurrencyMode: tokens}}\n"))
        assert detector.pool(seeded(), FakeClock()).detector.saturation([]) == 1.0

    def test_counting_requests_needs_no_tokens(self) -> None:
        assert blueprint_of("plugins: [{type: concurrency-detector}]").producers == ()

    def test_a_producer_that_is_not_there(self) -> None:
        text = "plugins: [{type: concurrency-detector, parameters: {concurrencyMode: tokens, inFlightLoadProducerName: x}}]"
        (problem,) = problems_of(text)
        assert problem.startswith("plugins[0].parameters.inFlightLoadProducerName: no plugin is called 'x'")


@pytest.mark.parametrize(
    ("payload", "most"),
    [
        (None, None),
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_output_tokens": 7}, 7),
        ({"max_tokens": True}, None),
        ({"max_tokens": "5"}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 10**400}, 2**53),
    ],
)
def test_what_the_client_asks_for_at_most(payload: dict[str, object] | None, most: int | None) -> None:
    assert asked_for_at_most(InferenceRequest(RequestHead({}), "/", payload=payload)) == most
