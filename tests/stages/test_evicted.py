"""Requests in flight are taken back for more important ones that wait."""

from __future__ import annotations

import pytest

from extproc.flow import EvictionPlan, FlowPlan
from extproc.flow.eviction import TIMEOUT_S
from tests.fakes import messages
from tests.fakes.events import head
from tests.fakes.page import read_page
from tests.stages.front import BODY, FULL, ROOM, Asked, Front

BATCH, CHAT = "batch", "chat"
COUNTS = "plugins: [{type: concurrency-detector, parameters: {maxConcurrency: 2}}]"
ON = FlowPlan(eviction=EvictionPlan())


def front(plan: FlowPlan = ON, config: str = COUNTS) -> Front:
    return Front(plan, config=config)


def asked(at: Front, objective: str, name: object = "") -> Asked:
    """A request of this objective."""
    return at.ask(name, x_llm_d_inference_objective=objective)


def revocations(at: Front) -> dict[str, float]:
    """By outcome."""
    page = read_page(at.deployment.instruments, "llm_d_epp_flow_control_revocations_total")
    return {outcome: sum(value for line, value in page.items() if outcome in line) for outcome in ("confirmed", "timed_out")}


def test_the_newest_that_may_be_shed_gives_way() -> None:
    at = front()
    first, second = asked(at, BATCH), asked(at, BATCH)
    chat = asked(at, CHAT)
    at.run()
    assert (first.evicted(), second.evicted(), chat.picked()) == (False, True, False)
    second.session.closed()  # as Envoy does, when it has answered the client
    at.run()
    assert chat.picked()
    assert not first.evicted()


def test_what_the_client_is_told() -> None:
    at = front()
    batch = [asked(at, BATCH), asked(at, BATCH)][1]
    asked(at, CHAT)
    at.run()
    status, code, said = batch.refused
    assert (status, code) == (429, "request_evicted")
    assert said["x-llm-d-request-dropped-reason"] == "evicted"
    assert int(said["retry-after"]) >= 1


def test_one_at_a_time_and_as_many_as_wait() -> None:
    at = front()
    batch = [asked(at, BATCH), asked(at, BATCH)]
    chats = [asked(at, CHAT, name) for name in range(3)]
    at.run(1.0)
    assert [each.evicted() for each in batch] == [False, True]
    batch[1].session.closed()
    at.run(0.005)
    assert [each.picked() for each in chats] == [True, False, False]
    assert not batch[0].evicted(), "the grace is not over"
    at.run(0.01)
    assert batch[0].evicted(), "and then nobody has to say that it is"
    batch[0].session.closed()
    at.run(1.0)
    assert [each.picked() for each in chats] == [True, True, False]
    assert revocations(at) == {"confirmed": 2, "timed_out": 0}


@pytest.mark.parametrize("plan", [FlowPlan(), ON])
def test_nobody_gives_way_to_his_like_or_where_it_is_off(plan: FlowPlan) -> None:
    at = front(plan)
    running = [asked(at, BATCH), at.ask()]
    waits = asked(at, BATCH if plan.eviction else CHAT)
    at.run(1.0)
    assert [each.evicted() for each in running] == [False, False]
    assert not waits.picked()


def test_an_answer_that_has_begun_goes_on() -> None:
    at = front()
    batch = [asked(at, BATCH), asked(at, BATCH)]
    batch[1].answers += batch[1].session.receive(messages.response_headers(b"200"))
    batch[1].answers += batch[1].session.receive(messages.response_body(b"data: 1\n\n"))
    asked(at, CHAT)
    at.run()
    assert batch[0].evicted()
    assert not batch[1].evicted()


def test_a_stream_that_hangs_is_not_waited_for_for_ever() -> None:
    at = front()
    batch = [asked(at, BATCH), asked(at, BATCH)]
    asked(at, CHAT)
    at.run(TIMEOUT_S - 1)
    assert [each.evicted() for each in batch] == [False, True]
    at.run(2.0)
    assert [each.evicted() for each in batch] == [True, True]
    assert revocations(at) == {"confirmed": 0, "timed_out": 1}


def test_pages_show_it_late_and_so_it_is_waited_for_longer() -> None:
    at = front(FlowPlan(eviction=EvictionPlan(grace_s=2.3)), config="")
    batch = [asked(at, BATCH), asked(at, BATCH)]
    at.pages(FULL)
    chat = asked(at, CHAT)
    at.run()
    assert [each.evicted() for each in batch] == [False, True]
    batch[1].session.closed()
    for _ in range(20):
        at.pages(FULL)
        at.run(0.1)
    assert not batch[0].evicted()
    for _ in range(5):
        at.pages(FULL)
        at.run(0.1)
    assert batch[0].evicted()
    at.pages(ROOM)
    at.run(0.3)
    assert chat.picked()


def test_a_pool_without_endpoints_has_nothing_to_give() -> None:
    at = front()
    batch = asked(at, BATCH)
    at.store.replace_endpoints([])
    asked(at, CHAT)
    at.run(1.0)
    assert not batch.evicted()


def test_it_is_no_failure_of_the_endpoint_and_the_counts_are_right() -> None:
    at = front()
    batch = [asked(at, BATCH), asked(at, BATCH)]
    asked(at, CHAT)
    at.run()
    batch[1].session.closed()
    at.run()
    (issued,) = read_page(at.deployment.instruments, "llm_d_epp_flow_control_revocations_issued_total").items()
    assert ('priority="5"' in issued[0], issued[1]) == (True, 1.0)
    (error,) = read_page(at.deployment.instruments, "inference_objective_request_error_total")
    assert "request_evicted" in error
    assert at.store.candidates().in_flight[0] == 2


def test_explained() -> None:
    at = front()
    asked(at, BATCH)
    asked(at, BATCH)
    told = at.director.explain(head(x_llm_d_inference_objective="chat"), BODY)["WaitForRoom"]
    assert (told["held"], told["evictable"], told["would_evict"]) == (True, 2, True)
    told = at.director.explain(head(x_llm_d_inference_objective="batch"), BODY)["WaitForRoom"]
    assert (told["held"], told["would_evict"]) == (True, False)
