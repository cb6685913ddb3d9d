"""Requests wait until their pool has room."""

from __future__ import annotations

import gc

import pytest

from extproc.domain import Load
from extproc.flow import BandPlan, FlowPlan
from extproc.flow.fairness import RoundRobin
from extproc.flow.gate import AT_ONCE
from extproc.flow.ordering import SloDeadline
from extproc.flow.programs import ProgramAware
from extproc.protocol import Decide
from extproc.stages import Draft, Pending, Reasons
from extproc.stages.queue import WaitForRoom, flow_of
from tests.fakes import messages
from tests.fakes.candidates import endpoints
from tests.fakes.deployment import Deployment, request
from tests.fakes.events import head
from tests.fakes.page import read_page
from tests.stages.front import BODY, FULL, ROOM, Asked, Front
from tests.stages.running import explained, run


class TestRoom:
    def test_nobody_waits_while_there_is_room(self) -> None:
        front = Front()
        assert front.ask().picked()
        assert front.deployment.later.planned == []
        assert len(front.gate.queues) == 0

    def test_who_comes_to_a_full_pool_waits_until_a_page_shows_room(self) -> None:
        front = Front()
        front.pages(FULL)
        asked = front.ask()
        front.run()
        assert (asked.answers, asked.session.is_waiting) == ([], True)
        front.pages(ROOM)
        assert not asked.picked(), "it is told from the event loop"
        front.run()
        assert asked.picked()
        assert front.deployment.later.planned == [], "nothing is planned while nobody waits"

    def test_a_request_that_ends_makes_room(self) -> None:
        front = Front(config="plugins: [{type: concurrency-detector, parameters: {maxConcurrency: 1}}]")
        first, second = front.ask(), front.ask()
        front.run()
        assert (first.picked(), second.picked()) == (True, False)
        first.session.closed()
        front.run()
        assert second.picked()

    def test_no_burst_slips_past_the_gate(self) -> None:
        front = Front(members=2)
        asked = [front.ask() for _ in range(100)]
        front.run(0.1)
        assert sum(each.picked() for each in asked) == 10  # 2 × queueDepthThreshold, whatever the pages say
        front.pages(Load(waiting=0, running=5, kv_usage=0.1))
        front.run(0.05)
        assert sum(each.picked() for each in asked) == 20

    def test_a_queue_that_is_let_go_does_not_either(self) -> None:
        front = Front(members=2)
        front.pages(FULL)
        asked = [front.ask() for _ in range(100)]
        front.pages(ROOM)
        front.run(0.01)
        assert sum(each.picked() for each in asked) == 10

    def test_the_saturation_has_to_fall_a_little_below_its_ceiling(self) -> None:
        front = Front(members=1)
        front.pages(Load(waiting=0, running=1, kv_usage=0.8))
        asked = front.ask()
        front.run()
        front.pages(Load(waiting=0, running=1, kv_usage=0.79))
        front.run()
        assert not asked.picked()
        front.pages(Load(waiting=0, running=1, kv_usage=0.75))
        front.run()
        assert asked.picked()

    def test_a_picker_that_lost_its_pages_lets_everybody_on(self) -> None:
        front = Front()
        front.pages(FULL)
        asked = front.ask()
        front.run(0.3)
        assert not asked.picked()
        front.run(2)
        assert asked.picked()
        assert front.ask().picked()

    def test_what_an_engine_need_not_compute_does_not_wait(self) -> None:
        front = Front()
        front.pages(FULL)
        asked = Asked(front, "")
        what = {":method": b"GET", ":path": b"/v1/models"}
        asked.answers += asked.session.receive(messages.request_headers(what, end=True))
        assert asked.picked()


class TestWhoIsNext:
    def test_by_priority_and_then_in_the_order_of_arrival(self) -> None:
        front = Front()
        front.pages(FULL)
        for name, objective in [("b", ""), ("z", "batch"), ("a", "chat"), ("c", "unknown")]:
            front.ask(name, x_llm_d_inference_objective=objective)
        front.run()
        front.pages(ROOM)
        front.run()
        assert front.order == ["a", "b", "c", "z"]

    def test_nobody_is_shed_where_requests_wait(self) -> None:
        front = Front()
        front.pages(FULL)
        asked = front.ask(x_llm_d_inference_objective="batch")
        front.run()
        assert asked.session.is_waiting
        assert front.counted("extproc_requests_shed_total") == {}

    def test_flows_take_turns(self) -> None:
        front = Front(FlowPlan(default=BandPlan(make_fairness=RoundRobin)))
        front.pages(FULL)
        for name in ("a1", "a2", "a3"):
            front.ask(name, x_llm_d_inference_fairness_id="a")
        front.ask("b1", x_gateway_inference_fairness_id="b")
        front.pages(ROOM)
        front.run()
        assert front.order == ["a1", "b1", "a2", "a3"]

    def test_by_when_the_first_token_is_wanted(self) -> None:
        front = Front(FlowPlan(default=BandPlan(ordering=SloDeadline())))
        front.pages(FULL)
        front.ask("later")
        front.ask("soon", x_llm_d_slo_ttft_ms="500")
        front.pages(ROOM)
        front.run()
        assert front.order == ["soon", "later"]

    def test_whoever_comes_while_others_wait_is_behind_them(self) -> None:
        front = Front()
        front.pages(FULL)
        first = front.ask("first")
        front.pages(ROOM)
        second = front.ask("second")
        assert (first.picked(), second.picked()) == (False, False)
        front.run()
        assert front.order == ["first", "second"]

    def test_what_a_program_was_served_counts(self) -> None:
        front = Front(FlowPlan(default=BandPlan(make_fairness=lambda: ProgramAware(1, 0))))
        served = front.ask("served", x_llm_d_inference_fairness_id="greedy")
        answer = b'{"usage":{"prompt_tokens":10,"completion_tokens":20}}'
        for raw in (messages.response_headers(), messages.response_body(answer, end=True)):
            served.session.receive(raw)
        served.session.closed()
        (band,) = front.gate.queues.bands
        fairness = band.fairness
        assert isinstance(fairness, ProgramAware)
        assert fairness.service("greedy", front.deployment.clock()) == 50
        front.pages(FULL)
        front.ask("greedy", x_llm_d_inference_fairness_id="greedy")
        front.ask("modest", x_llm_d_inference_fairness_id="modest")
        front.pages(ROOM)
        front.run()
        assert front.order == ["modest", "greedy"]


class TestLeaving:
    def test_a_client_that_leaves_loses_its_place_at_once(self) -> None:
        front = Front()
        front.pages(FULL)
        stays, leaves = front.ask("stays"), front.ask("leaves")
        leaves.session.closed()
        assert len(front.gate.queues) == 1
        front.pages(ROOM)
        front.run()
        assert front.order == ["stays"]
        assert stays.picked()
        assert front.gate.gauge.on_the_way == 0
        outcomes = front.counted("llm_d_epp_flow_control_requests_total")
        assert outcomes[_outcome("EvictedContextCancelled")] == 1
        assert outcomes[_outcome("Dispatched")] == 1

    def test_the_last_one_that_leaves_takes_the_timer_along(self) -> None:
        front = Front()
        front.pages(FULL)
        asked = front.ask()
        front.run()
        assert front.deployment.later.planned
        asked.session.closed()
        assert front.deployment.later.planned == []

    def test_its_time_is_over(self) -> None:
        front = Front(FlowPlan(ttl_s=1.5))
        front.pages(FULL)
        asked = front.ask()
        for _ in range(14):
            front.run(0.1)
            front.pages(FULL)
        assert asked.answers == []
        front.run(0.1)
        status, code, headers = asked.refused
        assert (status, code) == (429, "queue_timeout")
        assert headers["x-llm-d-request-dropped-reason"] == "rejected-ttl-expired"
        assert int(headers["retry-after"]) >= 1
        assert front.counted("llm_d_epp_flow_control_requests_total") == {_outcome("EvictedTTL"): 1}
        assert len(front.gate.queues) == 0

    def test_its_time_is_over_in_a_pool_without_endpoints(self) -> None:
        front = Front(FlowPlan(ttl_s=1.0, no_endpoint_ttl_s=3.0))
        front.store.replace_endpoints([])
        asked = front.ask()
        front.run(2.9)
        assert asked.answers == []
        front.run(0.1)
        status, code, headers = asked.refused
        assert (status, code) == (503, "no_endpoints")
        assert headers["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"
        assert headers["retry-after"] == "5"

    def test_a_pool_that_comes_up_serves_who_waits_for_it(self) -> None:
        front = Front(FlowPlan(ttl_s=1.0, no_endpoint_ttl_s=60.0))
        front.store.replace_endpoints([])
        asked = front.ask()
        front.run(30)
        front.store.replace_endpoints(endpoints(1))
        front.run()
        assert asked.picked()

    def test_the_time_without_endpoints_does_not_count_when_there_are_some(self) -> None:
        """Or a pool that comes up with one endpoint would refuse all who waited for it but the first few."""
        front = Front(FlowPlan(ttl_s=1.0, no_endpoint_ttl_s=60.0))
        front.store.replace_endpoints([])
        asked = [front.ask() for _ in range(6)]
        front.run(30)
        front.store.replace_endpoints(endpoints(1))
        front.pages(ROOM)
        front.run(0.9)
        assert [each.picked() for each in asked] == [True] * 5 + [False]
        assert asked[5].session.is_waiting
        front.pages(FULL)
        front.run(0.1)
        assert asked[5].refused[:2] == (429, "queue_timeout")

    def test_a_full_band_takes_nobody(self) -> None:
        front = Front(FlowPlan(default=BandPlan(max_requests=1)))
        front.pages(FULL)
        front.ask()
        status, code, headers = front.ask().refused
        assert (status, code) == (429, "queue_full")
        assert headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
        assert int(headers["retry-after"]) >= 1
        assert front.counted("llm_d_epp_flow_control_requests_total") == {_outcome("RejectedCapacity"): 1}

    def test_a_full_band_of_a_pool_without_endpoints(self) -> None:
        front = Front(FlowPlan(default=BandPlan(max_requests=1)))
        front.store.replace_endpoints([])
        front.ask()
        assert front.ask().refused[:2] == (503, "no_endpoints")

    def test_somebody_more_important_takes_the_place(self) -> None:
        front = Front(FlowPlan(max_requests=1))
        front.pages(FULL)
        batch = front.ask("batch", x_llm_d_inference_objective="batch")
        chat = front.ask("chat", x_llm_d_inference_objective="chat")
        front.run()
        assert batch.refused[:2] == (429, "queue_full")
        front.pages(ROOM)
        front.run()
        assert chat.picked()

    def test_who_has_lost_its_place_may_leave_before_it_is_told(self) -> None:
        front = Front(FlowPlan(max_requests=1))
        front.pages(FULL)
        batch = front.ask("batch", x_llm_d_inference_objective="batch")
        front.ask("chat", x_llm_d_inference_objective="chat")
        batch.session.closed()
        front.run()
        assert batch.answers == []
        assert len(front.gate.queues) == 1

    def test_a_process_that_stops_tells_them_all(self) -> None:
        front = Front()
        front.pages(FULL)
        waits = front.ask()
        front.gate.stops = True
        late = front.ask()
        assert late.refused[:2] == (503, "shutting_down")
        assert waits.answers == []
        front.gate.shut()
        front.run()
        status, code, headers = waits.refused
        assert (status, code) == (503, "shutting_down")
        assert headers["x-llm-d-request-dropped-reason"] == "rejected-shutting-down"
        assert front.deployment.later.planned == []

    def test_a_pick_that_fails_behind_the_queue_leaves_nothing(self) -> None:
        front = Front()
        front.pages(FULL)
        asked = front.ask()
        front.store.replace_endpoints([])
        front.store.replace_endpoints(endpoints(2)[1:])
        front.run()
        assert asked.picked()
        assert front.gate.gauge.on_the_way == 0

    def test_the_carrier_ends_a_wait_that_the_queue_did_not(self) -> None:
        front = Front(FlowPlan(ttl_s=1.0))
        front.pages(FULL)
        asked = front.ask()
        (timer,) = asked.timers
        assert timer.delay_s == 62.0  # both, and a second
        asked.expire()
        assert asked.refused[:2] == (429, "queue_timeout")
        assert len(front.gate.queues) == 0


class TestNothingIsLeft:
    """To the garbage collector: a body would stay until it comes."""

    @pytest.mark.parametrize("end", ["served", "left", "too long", "refused", "explained"])
    def test_of_a_request(self, end: str) -> None:
        front = Front(FlowPlan(ttl_s=1.0, default=BandPlan(max_requests=0 if end == "refused" else 9)))
        front.pages(FULL)
        if end == "served":
            front.ask()
        gc.collect()
        gc.disable()
        before = _places()
        try:
            draft = Draft(0.0, reasons=Reasons() if end == "explained" else None)
            pending = front.stage.decide(request(), draft)
            assert isinstance(pending, Pending)
            assert _places() == before + 1
            told: list[object] = []
            if end != "explained":
                cancel = pending.begin(told.append)
                if end == "left":
                    cancel()
                del cancel
            if end == "served":
                front.pages(ROOM)
            front.run(2.0 if end == "too long" else 0)
            assert len(told) == (0 if end in ("left", "explained") else 1)
            told.clear()
            del pending
            assert _places() <= before
        finally:
            gc.enable()

    def test_of_many_whose_time_is_over_at_once(self) -> None:
        """A few are told in one turn of the event loop."""
        front = Front(FlowPlan(ttl_s=1.0))
        front.pages(FULL)
        asked = [front.ask() for _ in range(3 * AT_ONCE + 1)]
        front.deployment.clock.advance(0.9)
        front.run()
        front.deployment.clock.advance(0.1)
        front.pages(FULL)
        front.deployment.later.planned[-1].call()
        assert sum(bool(each.answers) for each in asked) == AT_ONCE
        front.run()
        assert {each.refused[:2] for each in asked} == {(429, "queue_timeout")}


class TestRetryAfter:
    def test_says_when_those_before_it_are_gone_at_the_pace_of_the_last_seconds(self) -> None:
        front = Front(FlowPlan(default=BandPlan(max_requests=40)))
        for _ in range(100):
            front.ask().session.closed()
            front.deployment.clock.advance(0.1)
            front.pages(ROOM)
        front.pages(FULL)
        for _ in range(40):
            front.ask()
        retry_s = int(front.ask().refused[2]["retry-after"])
        assert 5 <= retry_s <= 10  # 40 at some 6 a second: the average has not caught up with 10 yet


class TestExplaining:
    def test_books_nothing_and_says_what_it_saw(self) -> None:
        front = Front()
        front.pages(FULL)
        what = request(head=head(x_llm_d_inference_fairness_id="team"))
        draft = Draft(0.0, reasons=Reasons())
        step = front.stage.decide(what, draft)
        assert isinstance(step, Pending)
        assert draft.reasons is not None
        facts = draft.reasons.by_stage["WaitForRoom"]
        assert facts == {"flow": "team", "priority": 0, "saturation": 1.0, "waiting": 0, "held": True}
        assert len(front.gate.queues) == 0
        front.pages(ROOM)
        assert explained(front.stage, what)["held"] is False

    def test_through_the_director(self) -> None:
        front = Front()
        front.pages(FULL)
        told = front.director.explain(head(), BODY)
        assert told["WaitForRoom"]["waits_for"] == "the pool"


class TestPages:
    def test_who_waits_is_shown_by_flow_and_priority(self) -> None:
        front = Front()
        front.pages(FULL)
        front.ask(x_llm_d_inference_objective="chat", x_llm_d_inference_fairness_id="team")
        front.ask(x_llm_d_inference_objective="chat", x_llm_d_inference_fairness_id="team")
        labels = 'fairness_id="team",inference_pool="p",model_name="other",priority="5",target_model_name="other"'
        for name in ("inference_extension_flow_control_queue_size", "llm_d_epp_flow_control_queue_size"):
            assert front.counted(name) == {f"{name}{{{labels}}}": 2}
        size = "llm_d_epp_flow_control_queue_bytes"
        assert front.counted(size) == {f"{size}{{{labels}}}": 2 * len(BODY)}
        used = "llm_d_epp_flow_control_capacity_utilization_requests"
        assert front.counted(used) == {f'{used}{{inference_pool="p",priority="5"}}': 2 / 5000}
        front.pages(ROOM)
        front.run()
        assert front.counted("llm_d_epp_flow_control_queue_size") == {}

    def test_how_long_it_took(self) -> None:
        front = Front()
        front.pages(FULL)
        front.ask()
        front.run(0.2)
        front.pages(ROOM)
        front.run()
        front.ask()
        for name in (
            "inference_extension_flow_control_request_queue_duration_seconds",
            "llm_d_epp_flow_control_request_queue_duration_seconds",
        ):
            page = read_page(front.deployment.instruments, name)
            labels = (
                'fairness_id="default-flow",inference_pool="p",model_name="m",outcome="Dispatched",priority="0",'
                'target_model_name="m"'
            )
            assert page[f"{name}_count{{{labels}}}"] == 2
            assert page[f"{name}_sum{{{labels}}}"] == pytest.approx(0.2)
        cycles = read_page(front.deployment.instruments, "llm_d_epp_flow_control_dispatch_cycle_duration_seconds")
        assert cycles["llm_d_epp_flow_control_dispatch_cycle_duration_seconds_count"] >= 1

    def test_ids_that_clients_invent_are_bounded(self) -> None:
        front = Front()
        front.pages(FULL)
        for number in range(300):
            front.ask(x_llm_d_inference_fairness_id=f"id-{number}")
        front.pages(ROOM)
        for _ in range(200):
            front.run(0.1)
            front.pages(ROOM)
        name = "llm_d_epp_flow_control_request_queue_duration_seconds_count"
        page = front.counted(name)
        assert sum(page.values()) == 300
        assert len(page) == 101
        assert sum(value for line, value in page.items() if 'fairness_id="other"' in line) == 200


class TestHeaders:
    def test_the_fairness_id(self) -> None:
        assert flow_of(head()) == "default-flow"
        assert flow_of(head(x_gateway_inference_fairness_id="old")) == "old"
        assert flow_of(head(x_llm_d_inference_fairness_id="new", x_gateway_inference_fairness_id="old")) == "new"
        assert flow_of(head(x_llm_d_inference_fairness_id="\xff")) == "\xff"
        assert len(flow_of(head(x_llm_d_inference_fairness_id="x" * 10_000))) == 256

    def test_else_who_the_agent_says_it_is(self) -> None:
        assert flow_of(head(session_id="s"), ["session-id"]) == "s"
        assert flow_of(head(session_id="s", x_llm_d_inference_fairness_id="f"), ["session-id"]) == "f"
        assert flow_of(head(), ["session-id"]) == "default-flow"


def test_a_pool_without_flow_control_is_not_touched() -> None:
    deployment = Deployment()
    deployment.add_pool("p")
    deployment.add_pool("queued")
    stage = deployment.queue(queued=FlowPlan())
    draft, step = run(stage, request())
    assert (step, draft.queued) == (None, None)
    assert isinstance(stage, WaitForRoom)
    assert deployment.director(stage, deployment.picker()).decide(Decide(head(), BODY)) is not None


def _places() -> int:
    return sum(type(each).__name__ == "_Place" for each in gc.get_objects())


def _outcome(outcome: str, priority: int = 0) -> str:
    return f'llm_d_epp_flow_control_requests_total{{inference_pool="p",outcome="{outcome}",priority="{priority}"}}'
