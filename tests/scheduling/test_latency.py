"""Latencies: what is measured, what is predicted from it, and who goes by that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.candidates import Candidates, Column, Pick
from extproc.domain import Endpoint, InferenceRequest, Load
from extproc.errors import Saturated
from extproc.scheduling import Cycle, Scheduled, Scheduler
from extproc.scheduling.cycle import Measured
from extproc.scheduling.facts import Latency, PrefixMatch, Prompt
from extproc.scheduling.plugins.base import Run
from extproc.scheduling.plugins.predicted_latency import NOTE
from tests.fakes.candidates import NAN, REQUEST, candidates
from tests.fakes.clock import FakeClock
from tests.fakes.events import head
from tests.fakes.plugins import blueprint_of, figures_of, kit, make, scheduler_of

A, B = "10.0.0.1:8000", "10.0.0.2:8000"
OLD, NEW = "x-slo-ttft-ms", "x-llm-d-slo-ttft-ms"


def config(parameters: str = "{streamingMode: true}", *, first: str = A, more: str = "") -> str:
    return f"""
plugins:
- {{type: told-prompt, parameters: {{tokens: 744}}}}
- {{type: told-match, parameters: {{matched: [0, 0, 0], total: 47}}}}
- {{type: predicted-latency-producer, parameters: {parameters}}}
- {{type: latency-scorer}}
- {{name: first, type: only-these, parameters: {{keys: ["{first}"]}}}}
{more}
schedulingProfiles:
- {{name: default, plugins: [{{pluginRef: first}}, {{pluginRef: latency-scorer}}]}}
"""


def asked(stream: bool = True, **headers: Any) -> Cycle:
    return Cycle(InferenceRequest(head(**headers), "/v1/completions", "m", payload={"stream": stream}))


class Serving:
    """A scheduler, and answers that take as long as is said."""

    def __init__(self, text: str) -> None:
        self.clock = FakeClock()
        self.scheduler: Scheduler = scheduler_of(text, clock=self.clock)

    def serve(
        self,
        cycle: Cycle,
        given: Candidates,
        *,
        first_s: float | None = 1.0,
        whole_s: float = 3.0,
        measured: Measured | None = None,
        status: int = 200,
        served: str = "",
    ) -> Scheduled:
        made = self.scheduler.schedule(cycle, given)
        self.scheduler.picked(cycle, made)
        self.scheduler.answered(cycle, status)
        self.clock.advance(first_s or 0.0)
        if first_s is not None:
            self.scheduler.prefilled(cycle)
        self.clock.advance(whole_s - (first_s or 0.0))
        cycle.measured = measured
        self.scheduler.ended(cycle, status, served)
        return made

    def predicted(self, given: Candidates, cycle: Cycle | None = None) -> Latency:
        cycle = cycle or asked()
        self.scheduler.schedule(cycle, given)
        told = cycle.facts["predicted-latency-producer"]
        assert isinstance(told, Latency)
        return told


class TestPrediction:
    def test_nothing_is_known_before_the_first_answer(self) -> None:
        serving = Serving(config())
        told = serving.predicted(candidates(waiting=[0, 0, 0]))
        assert not told.known
        assert all(each != each for each in told.ttft_ms)
        cycle = asked()
        serving.scheduler.schedule(cycle, candidates(waiting=[0, 0, 0]))
        assert serving.scheduler.tell(cycle)["predicted-latency-producer"]["stands_on"] == "nothing yet"

    def test_is_what_was_measured_by_the_queue_and_the_prompt(self) -> None:
        """1,000 tokens with those that every request costs, and 1 s with nobody before it."""
        serving = Serving(config())
        serving.serve(asked(), candidates(waiting=[0, 0, 0]))
        told = serving.predicted(candidates(waiting=[0, 1, NAN]))
        assert told.ttft_ms == pytest.approx([1000, 2000, 1000])
        assert told.ttft_headroom_ms == pytest.approx([-1000, -2000, -1000]), "without a wish the least is the best"
        assert told.tpot_headroom_ms == [0, 0, 0]
        serving.serve(asked(), candidates(waiting=[3, 0, 0]), first_s=4.0, whole_s=5.0)
        assert serving.predicted(candidates(waiting=[0, 0, 0])).ttft_ms == pytest.approx([1000, 1000, 1000])

    def test_less_where_some_of_the_prompt_is_cached(self) -> None:
        serving = Serving(config().replace("matched: [0, 0, 0]", "matched: [0, 31.25, 47]"))
        serving.serve(asked(), candidates(waiting=[0, 0, 0]))
        assert serving.predicted(candidates(waiting=[0, 0, 0])).ttft_ms == pytest.approx([1000, 500, 256])

    def test_of_arrays(self) -> None:
        clock = FakeClock()
        made_with = kit("p", clock=clock, sources=["prompt", "match"])
        producer = make("predicted-latency-producer", {"streamingMode": True}, made_with)
        given = candidates(waiting=[0, 1, *[NAN] * 98], arrays=True)

        def predicted() -> tuple[Cycle, Latency]:
            cycle = asked()
            cycle.facts = {"prompt": Prompt(744, False), "match": PrefixMatch(given.in_flight, 47, 16)}
            told = cycle.facts["p"] = producer.produce(cycle, given)
            return cycle, told

        cycle, told = predicted()
        assert not told.known
        producer.picked(cycle, Scheduled("default", {"default": Run(given, Pick((0,), 0.0))}))
        clock.advance(1.0)
        producer.prefilled(cycle)
        producer.ended(cycle, 200, "")
        _, told = predicted()
        assert not isinstance(told.ttft_ms, list)
        assert list(told.ttft_ms) == pytest.approx([1000, 2000, *[1000] * 98])

    def test_a_stream_that_does_not_come_by_teaches_nothing(self) -> None:
        """Its headers come before anything was computed."""
        serving = Serving(config())
        serving.serve(asked(), candidates(waiting=[0, 0, 0]), first_s=None)
        assert not serving.predicted(candidates(waiting=[0, 0, 0])).known

    def test_what_was_measured_of_the_answer_counts(self) -> None:
        serving = Serving(config())
        serving.serve(asked(), candidates(waiting=[0, 0, 0]), first_s=0.1, measured=Measured(2.0, 0.05))
        told = serving.predicted(candidates(waiting=[0, 0, 0]))
        assert told.ttft_ms == pytest.approx([2000] * 3)
        assert told.tpot_ms == pytest.approx([50] * 3)
        assert told.tpot_headroom_ms == pytest.approx([-50] * 3)

    def test_without_streams_the_whole_time_is_the_first_tokens(self) -> None:
        serving = Serving(config("{}"))
        serving.serve(asked(stream=False), candidates(waiting=[0, 0, 0]), measured=Measured(2.0, 0.05))
        told = serving.predicted(candidates(waiting=[0, 0, 0]))
        assert told.ttft_ms == pytest.approx([3000] * 3)
        assert told.tpot_headroom_ms == [0] * 3

    @pytest.mark.parametrize(
        ("stream", "more"),
        [(False, {}), (True, {"status": 503}), (True, {"status": 0}), (True, {"served": B})],
    )
    def test_nothing_is_learned_of(self, stream: bool, more: dict[str, Any]) -> None:
        """Answers that are no streams, failures, and what somebody else answered."""
        serving = Serving(config())
        serving.serve(asked(stream=stream), candidates(waiting=[0, 0, 0]), **more)
        assert not serving.predicted(candidates(waiting=[0, 0, 0])).known

    def test_of_a_rank_that_is_reached_by_its_pods_port(self) -> None:
        handler = "- {type: data-parallel-profile-handler, parameters: {primaryPort: 9000}}\n"
        serving = Serving(config(more=handler))
        serving.serve(asked(), candidates(waiting=[0, 0, 0]), served="10.0.0.1:9000")
        assert serving.predicted(candidates(waiting=[0, 0, 0])).known

    def test_only_measuring(self) -> None:
        serving = Serving(config("{streamingMode: true, predictInProduce: false}"))
        serving.serve(asked(), candidates(waiting=[0, 0, 0]))
        assert not serving.predicted(candidates(waiting=[0, 0, 0])).known
        assert figures_of(serving.scheduler)["extproc_latency_samples_total{ttft}"] == 1

    def test_an_endpoint_that_starts_anew_is_a_new_one(self) -> None:
        serving = Serving(config())
        serving.serve(asked(), candidates(waiting=[0, 0, 0]), first_s=9, whole_s=9)
        serving.scheduler.forget(A)
        assert serving.scheduler.dump()["predicted-latency-producer"]["seconds_of_ttft_a_token_and_request"] == {}

    def test_endpoints_that_only_prefill_give_no_further_tokens(self) -> None:
        serving = Serving(config("{streamingMode: true, endpointRoleLabel: role}"))
        given = candidates(waiting=[0, 0, 0])
        labelled = [
            Endpoint(each.address, each.port, labels={"role": role})
            for each, role in zip(given.endpoints, ("decode", "prefill", ""), strict=True)
        ]
        given = Candidates(labelled, given.waiting, given.running, given.kv_usage, given.in_flight, stamp=object())
        serving.serve(asked(), given, measured=Measured(2.0, 0.05))
        assert serving.predicted(given).tpot_headroom_ms == pytest.approx([-50, 0, -50])

    def test_both_ends_of_a_request_in_stages_learn_when_the_first_token_came(self) -> None:
        text = f"""
plugins:
- {{type: disagg-profile-handler, parameters: {{deciders: {{prefill: always-disagg-pd-decider}}}}}}
- {{type: always-disagg-pd-decider}}
- {{type: told-prompt, parameters: {{tokens: 744}}}}
- {{type: told-match, parameters: {{matched: [0, 0, 0], total: 47}}}}
- {{type: predicted-latency-producer, parameters: {{streamingMode: true}}}}
- {{type: latency-scorer}}
- {{name: d, type: only-these, parameters: {{keys: ["{A}"]}}}}
- {{name: p, type: only-these, parameters: {{keys: ["{B}"]}}}}
schedulingProfiles:
- {{name: decode, plugins: [{{pluginRef: d}}, {{pluginRef: latency-scorer}}]}}
- {{name: prefill, plugins: [{{pluginRef: p}}, {{pluginRef: latency-scorer}}]}}
"""
        serving = Serving(text)
        serving.serve(asked(), candidates(waiting=[0, 0, 0]), measured=Measured(1.0, 0.1))
        told = serving.scheduler.dump()["predicted-latency-producer"]
        assert told["seconds_of_ttft_a_token_and_request"] == pytest.approx({A: 0.001, B: 0.001})
        assert told["tpot_s"] == {A: 0.1}


class TestWishes:
    def headroom(self, parameters: str = "{streamingMode: true}", **headers: Any) -> tuple[float, float]:
        serving = Serving(config(parameters))
        serving.serve(asked(), candidates(waiting=[0, 0, 0]), measured=Measured(1.0, 0.05))
        told = serving.predicted(candidates(waiting=[0, 0, 0]), asked(**headers))
        return float(told.ttft_headroom_ms[0]), float(told.tpot_headroom_ms[0])

    def test_headroom_is_what_is_asked_for_less_what_is_predicted(self) -> None:
        headers = {"x_llm_d_slo_ttft_ms": "1500", "x_slo_tpot_ms": "40.5"}
        assert self.headroom(**headers) == pytest.approx((500, -9.5))
        assert self.headroom("{streamingMode: true, sloBufferFactor: 0.5}", **headers) == pytest.approx((-250, -29.75))

    def test_who_asks_for_one_is_served_by_that(self) -> None:
        assert self.headroom(x_slo_ttft_ms="1500") == pytest.approx((500, 0))
        assert self.headroom(x_slo_tpot_ms="40") == pytest.approx((0, -10))

    def test_what_was_missed_is_counted_and_how_far_predictions_were_off(self) -> None:
        serving = Serving(config())
        serving.serve(asked(), candidates(waiting=[0, 0, 0]), measured=Measured(1.0, 0.05))
        wishes: dict[str, Any] = {"x_slo_ttft_ms": "1500", "x_slo_tpot_ms": "50"}
        serving.serve(asked(**wishes), candidates(waiting=[0, 0, 0]), measured=Measured(2.0, 0.06))
        figures = figures_of(serving.scheduler)
        assert figures["extproc_slo_violations_total{ttft}"] == figures["extproc_slo_violations_total{tpot}"] == 1
        assert figures["extproc_ttft_prediction_error"] == pytest.approx(0.5)
        assert figures["extproc_latency_predictor_info{averages}"] == 1

    def test_it_says_at_start_what_it_stands_on(self) -> None:
        assert f"plugins[2]: predicted-latency-producer: {NOTE}" in blueprint_of(config()).warnings


def scored(
    ttft: Sequence[float],
    tpot: Sequence[float] | None = None,
    parameters: dict[str, object] | None = None,
    *,
    in_flight: Sequence[float] | None = None,
    given: Candidates | None = None,
    known: bool = True,
    matched: Sequence[float] = (),
) -> list[float]:
    given = given or candidates(in_flight=in_flight or [1] * len(ttft))
    scorer = make("latency-scorer", parameters, kit(sources=["latency", "match"]))
    cycle = Cycle(REQUEST)
    none = [0.0] * len(ttft)
    headrooms: tuple[Column, Column] = list(ttft), list(tpot or none)
    if not isinstance(given.in_flight, list):
        headrooms = np.asarray(headrooms[0]), np.asarray(headrooms[1])
    cycle.facts["latency"] = Latency(none, none, *headrooms, known)
    cycle.facts["match"] = PrefixMatch(list(matched) or none, 10, 16)
    return [float(each) for each in scorer.score(cycle, given)]


class TestLatencyScorer:
    def test_of_those_that_do_as_asked_the_one_that_only_just_does(self) -> None:
        assert scored([100, 200, 300]) == [1.0, 0.51, 0.01]

    def test_or_the_one_that_does_most(self) -> None:
        assert scored([100, 200, 300], parameters={"headroomSelectionStrategy": "most"}) == [0.01, 0.51, 1.0]

    def test_who_does_not_has_no_points_while_others_do(self) -> None:
        assert scored([-1, 100, 300], [5, 5, -5]) == [0, 0.51, 0]

    def test_nothing_predicted_of_one_is_no_miss(self) -> None:
        assert scored([NAN, -5, -9]) == [0.51, 0, 0]

    def test_both_by_weight(self) -> None:
        assert scored([100, 300], [30, 10]) == [0.81, 0.2]
        assert scored([100, 300], [30, 10], {"ttftWeight": 0, "tpotWeight": 1}) == [0.01, 1.0]

    def test_a_dimension_in_which_all_are_alike_does_not_count(self) -> None:
        assert scored([100, 100], [10, 20]) == [1.0, 0.01]
        assert scored([100, 200], [10, 10]) == [1.0, 0.01]
        assert scored([100, 100], [10, 10]) == [0.51, 0.51]

    def test_where_nobody_does_idle_ones_come_first(self) -> None:
        assert scored([-100, -200, -300], [-1, -1, -1], in_flight=[1, 0, 0]) == [0, 1.0, 0.01]

    def test_then_those_that_miss_the_lesser_thing(self) -> None:
        assert scored([-100, 5, -300], [-1, -1, 4]) == [0, 0.51, 0], "the time of each token"
        assert scored([-100, -200, -300], [-1, 4, 4]) == [0, 1.0, 0.01], "the first token's"
        assert scored([-100, -200, -300], [-1, -1, -1]) == [1.0, 0.51, 0.01], "both"

    def test_the_least_miss_is_the_best_whatever_the_strategy(self) -> None:
        assert scored([-100, -200], [-1, -1], {"headroomSelectionStrategy": "most"}) == [1.0, 0.01]

    def test_while_nothing_is_predicted_by_cache_queue_and_prefix(self) -> None:
        given = candidates(waiting=[0, 4, NAN], kv_usage=[0.5, 0.1, NAN])
        assert scored([0] * 3, given=given, known=False, matched=[10, 0, 5]) == [0.83, 0.3, 0.17]
        weights: dict[str, object] = {"compositeKVWeight": 0, "compositeQueueWeight": 0, "compositePrefixWeight": 0}
        assert scored([0] * 3, None, weights, given=given, known=False) == [0.5, 0.9, 0]

    def test_without_a_queue_anywhere(self) -> None:
        given = candidates(waiting=[0, 0], kv_usage=[0, 0])
        assert scored([0, 0], given=given, known=False) == [0.67, 0.67]

    def test_of_arrays(self) -> None:
        number = 100
        points = scored([float(at) for at in range(number)], given=candidates(in_flight=[1] * number, arrays=True))
        assert points[0] == 1.0
        assert points == sorted(points, reverse=True)

    @given(
        st.lists(
            st.tuples(st.sampled_from([-300.0, -1.0, 0.0, 5.0, 77.7, NAN]), st.floats(-9, 9), st.integers(0, 2)),
            min_size=1,
            max_size=12,
        ),
        st.sampled_from(["least", "most"]),
    )
    def test_arrays_and_lists_say_the_same(self, rows: list[tuple[float, float, int]], strategy: str) -> None:
        ttft, tpot = [row[0] for row in rows], [row[1] for row in rows]
        parameters: dict[str, object] = {"headroomSelectionStrategy": strategy}
        lists = candidates(in_flight=[row[2] for row in rows])
        arrays = candidates(in_flight=[row[2] for row in rows], arrays=True)
        expected = scored(ttft, tpot, parameters, given=lists)
        assert scored(ttft, tpot, parameters, given=arrays) == pytest.approx(expected)
        assert all(0 <= each <= 1 for each in expected)

    @pytest.mark.parametrize("kind", ["predicted-latency-scorer", "slo-aware-routing"])
    def test_under_its_older_names(self, kind: str) -> None:
        text = f"plugins: [{{type: {kind}, parameters: {{samplingMean: 1000.0, headroomTTFTWeight: 0.8}}}}]"
        blueprint = blueprint_of(text)
        assert "predicted-latency-producer" in blueprint.producers
        assert any("predicted-latency-scorer is deprecated, use latency-scorer" in told for told in blueprint.warnings)


class TestHeadroomTier:
    def keep(
        self, ttft: Sequence[float], *, draw: float = 0.5, known: bool = True, arrays: bool = False
    ) -> Sequence[int] | None:
        headroom: Column = np.asarray(ttft) if arrays else list(ttft)
        neutral: Column = np.zeros(len(ttft)) if arrays else [0.0] * len(ttft)
        made = make("slo-headroom-tier-filter", {}, kit(random=lambda: draw, sources=["latency"]))
        cycle = Cycle(REQUEST)
        cycle.facts["latency"] = Latency([], [], headroom, neutral, known)
        kept: Sequence[int] | None = made.keep(cycle, candidates(len(ttft), arrays=arrays))
        return kept

    def test_those_that_do_as_asked(self) -> None:
        assert self.keep([5, -1, 0, NAN]) == [0, 2]
        assert self.keep([5, -1, 0, NAN], arrays=True) == [0, 2]

    def test_now_and_then_the_others(self) -> None:
        assert self.keep([5, -1, 0, NAN], draw=0.009) == [1, 3]

    @pytest.mark.parametrize("ttft", [[5, 5], [-5, -5], [NAN, NAN]])
    def test_all_where_they_are_all_alike(self, ttft: list[float]) -> None:
        assert self.keep(ttft) is None

    def test_all_while_nothing_is_predicted(self) -> None:
        assert self.keep([5, -1], known=False) is None


class TestLatencyAdmitter:
    def refuses(
        self, ttft: Sequence[float], *, priority: int = -1, known: bool = True, given: Candidates | None = None, **headers: Any
    ) -> bool:
        made = make("latency-slo-admitter", {}, kit(sources=["latency"]))
        cycle = asked(**(headers or {"x_slo_ttft_ms": "100"}))
        cycle.priority = priority
        cycle.facts["latency"] = Latency([], [], list(ttft), [0.0] * len(ttft), known)
        busy = candidates(running=[3] * len(ttft), kv_usage=[0.5] * len(ttft))
        return made.refuses(cycle, given or busy) is not None

    def test_when_nobody_would_do_as_asked(self) -> None:
        assert self.refuses([-1, -2])
        assert self.refuses([NAN, NAN], known=False)
        assert not self.refuses([-1, 2])

    def test_only_what_may_be_shed_and_asks_for_something(self) -> None:
        assert not self.refuses([-1], priority=0)
        assert not self.refuses([-1], x_other="1")

    def test_not_while_somebody_is_idle_or_cold(self) -> None:
        assert not self.refuses([-1, -1], given=candidates(running=[3, 0], kv_usage=[0.5, 0.5]))
        assert not self.refuses([-1, -1], given=candidates(running=[3, 3], kv_usage=[0.5, 0.01]))
        assert self.refuses([-1, -1], given=candidates(running=[NAN, NAN], kv_usage=[NAN, NAN]))


class TestProbabilisticAdmitter:
    def refuses(self, load: Load, draw: float, *, priority: int = -1, **parameters: object) -> bool:
        made = make("probabilistic-admitter", parameters, kit(random=lambda: draw))
        given = candidates(2)
        loads = Candidates(
            given.endpoints,
            given.waiting,
            given.running,
            given.kv_usage,
            given.in_flight,
            object(),
            loads=[load, Load(0, kv_usage=0)],
        )
        cycle = Cycle(REQUEST, priority)
        return made.refuses(cycle, loads) is not None

    @pytest.mark.parametrize(("draw", "refused"), [(0.002, True), (0.004, False)])
    def test_the_chance_rises_with_the_saturation(self, draw: float, refused: bool) -> None:
        """Half of an endpoint's queue is a tenth of... 300 × 0.1^5 = 0.003."""
        assert self.refuses(Load(1, kv_usage=0.1), draw) == refused

    def test_a_full_pool_refuses_all(self) -> None:
        assert self.refuses(Load(50, kv_usage=1), 0.999)

    def test_the_fuller_signal_counts(self) -> None:
        assert self.refuses(Load(0, kv_usage=0.8), 0.999), "0.5^5 × 300 is more than 1"

    def test_parameters(self) -> None:
        assert self.refuses(Load(5), 0.24, power=1, k=0.5)
        assert not self.refuses(Load(5), 0.26, power=1, k=0.5)
        assert not self.refuses(Load(5), 0.13, power=1, k=0.5, queueDepthThreshold=10)

    def test_who_is_unknown_counts_as_full(self) -> None:
        assert self.refuses(Load(), 0.999)

    def test_whoever_may_not_be_shed_is_not(self) -> None:
        assert not self.refuses(Load(50, kv_usage=1), 0.0, priority=0)

    def test_is_asked_for_every_request(self) -> None:
        scheduler = scheduler_of("plugins: [{type: probabilistic-admitter}, {type: queue-scorer}]")
        with pytest.raises(Saturated, match="request cannot be admitted: probabilistic-admitter: the pool is too full"):
            scheduler.schedule(Cycle(REQUEST, -1), candidates(waiting=[9, 9]))
