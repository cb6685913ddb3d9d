from __future__ import annotations

from typing import Any

import pytest

from extproc.rollouts import machine
from extproc.rollouts.documents import Rollout, Unreadable, of_document, to_document
from extproc.rollouts.judge import Look
from extproc.rollouts.machine import DEGRADED, HEALTHY, PAUSED, PROGRESSING, UNDONE, Refused, State
from extproc.rollouts.plan import Plan, read_plan
from extproc.rollouts.samples import Pair
from tests.rollouts.arms import arm, look

GOOD = {"name": "ok", "failureCondition": "error_rate > 0.5"}
NOTHING = Look(Pair())


def plan(*steps: dict[str, Any], **more: Any) -> Plan:
    return read_plan(
        {"baseline": "current", "canary": "challenger", "steps": list(steps), "metrics": [GOOD], "bakeTime": 0, **more}
    )


class Running:
    """A rollout, ticked by hand. After each step it is written and read, as if the process had been killed there."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.now_s = 1000.0
        self.state = machine.started(plan, "chat", "r1", {"percentages": {"current": 100, "challenger": 0}}, self.now_s, "ann")

    def tick(self, seconds: float = 0.0, seen: Look = NOTHING, **answers: bool) -> State:
        self.now_s += seconds
        return self.take(machine.tick(self.plan, self.state, seen, self.now_s, answers))

    def take(self, state: State) -> State:
        read = of_document(to_document(Rollout(self.plan, state)))
        assert read == Rollout(self.plan, state)
        self.state = read.state
        return self.state

    def after(self, n: int, errors: int = 0) -> Look:
        return look(arm(n, errors), arm(n))


def test_step_by_step_to_the_end() -> None:
    it = Running(plan({"setWeight": 10}, {"pause": {"duration": "60s"}}, {"setWeight": 50}, {"pause": {"duration": "60s"}}))
    assert it.tick().weight == 10
    assert it.tick(59, it.after(10)).weight == 10
    assert it.state.step == 1
    assert it.tick(1, it.after(10)).step == 1
    assert it.tick(60, it.after(10)).weight == 50
    it.tick(1, it.after(10))
    assert it.state.phase == PROGRESSING
    state = it.tick(60, it.after(10))
    assert (state.phase, state.weight) == (HEALTHY, 100)
    assert [event.words for event in state.events] == [
        "started: challenger against current",
        "weight 10 %",
        "weight 50 %",
        "promoted: challenger has taken over, which is called current from now on",
    ]
    assert it.tick(1, it.after(10, 10)) == state


def test_an_open_pause_is_a_gate_for_people() -> None:
    it = Running(plan({"setWeight": 10}, {"pause": {}}, {"setWeight": 100}))
    it.tick()
    it.tick(1, it.after(10))
    assert it.state.phase == PAUSED
    assert it.tick(3600, it.after(10)).weight == 10
    with pytest.raises(Refused, match="until somebody says promote"):
        machine.resumed(it.plan, it.state, it.now_s, "ann")
    it.take(machine.promoted(it.plan, it.state, it.now_s, "ann"))
    assert it.tick(1, it.after(10)).weight == 100


def test_a_metric_that_fails_takes_it_back_at_once_also_while_paused() -> None:
    it = Running(plan({"setWeight": 10}, {"pause": {}}))
    it.tick()
    it.tick(1, it.after(10))
    state = it.tick(10, it.after(10, 9))
    assert (state.phase, state.weight) == (DEGRADED, 0)
    assert state.reason == "ok: error_rate > 0.5 holds"
    with pytest.raises(Refused, match="nothing to promote"):
        machine.promoted(it.plan, state, 0, "ann")
    with pytest.raises(Refused, match="nothing to pause"):
        machine.paused(state, 0, "ann")
    with pytest.raises(Refused, match="nothing to resume"):
        machine.resumed(it.plan, state, 0, "ann")
    with pytest.raises(Refused, match="nothing to abort"):
        machine.aborted(state, 0, "ann")
    with pytest.raises(Refused, match="only what was promoted"):
        machine.undone(state, 0, "ann")


def test_a_dry_metric_takes_nothing_back() -> None:
    it = Running(plan({"setWeight": 10}, {"pause": {"duration": "1s"}}, metrics=[{**GOOD, "dryRun": True}]))
    it.tick()
    it.tick(10, it.after(10, 9))
    assert it.tick(10, it.after(10, 9)).phase == HEALTHY
    assert it.state.background["ok"].phase == "Failed"


def test_limits_are_argos() -> None:
    metric = {"name": "m", "successCondition": "errors < 2", "failureCondition": "errors > 5", "failureLimit": 1, "interval": 1}
    it = Running(plan({"setWeight": 10}, {"pause": {}}, metrics=[{**metric, "inconclusiveLimit": 1}]))
    it.tick()
    assert it.tick(1, it.after(10, 9)).phase == PAUSED
    assert it.state.background["m"].failed == 1
    assert it.tick(0.5, it.after(10, 9)).phase == PAUSED, "before its interval is over"
    it.tick(1, it.after(10, 3))
    it.tick(1, it.after(10, 3))
    assert it.state.background["m"].phase == "Inconclusive"
    assert it.tick(1, it.after(10, 9)).phase == DEGRADED


def test_inconclusive_is_for_people_and_resume_looks_again() -> None:
    metric = {"name": "m", "successCondition": "errors < 2", "failureCondition": "errors > 5", "interval": 1}
    it = Running(plan({"setWeight": 10}, {"pause": {"duration": "1s"}}, {"setWeight": 20}, metrics=[metric]))
    it.tick()
    state = it.tick(1, it.after(10, 3))
    assert state.phase == PAUSED
    assert state.reason == "m is inconclusive: neither errors < 2 nor errors > 5 holds"
    it.tick(60, it.after(10, 0))
    assert it.state.phase == PAUSED
    it.take(machine.resumed(it.plan, it.state, it.now_s, "ann"))
    it.tick(1, it.after(10, 0))
    assert it.tick(2, it.after(10, 0)).weight == 20


def test_a_condition_without_a_value_is_an_error_after_its_limit() -> None:
    metric = {"name": "m", "successCondition": "tpot_p95 < 1", "interval": 1, "consecutiveErrorLimit": 1}
    it = Running(plan({"setWeight": 10}, {"pause": {}}, metrics=[metric]))
    it.tick()
    it.tick(1, it.after(10))
    assert it.state.background["m"].last == "Error"
    assert it.tick(1, it.after(10)).phase == DEGRADED


def test_no_traffic_no_further_step() -> None:
    it = Running(plan({"setWeight": 10}, {"pause": {"duration": "1s"}}, {"setWeight": 20}))
    it.tick()
    it.tick(1)
    state = it.tick(600)
    assert (state.weight, state.phase) == (10, PROGRESSING)
    assert state.reason == "waits for ok: no request of the canary in 60 s"
    it.take(machine.promoted(it.plan, state, it.now_s, "ann"))
    assert it.tick(1).weight == 20, "somebody said so"


def test_an_analysis_step_ends_with_its_metrics() -> None:
    it = Running(plan({"setWeight": 10}, {"analysis": {}}, {"setWeight": 20}, metrics=[{**GOOD, "count": 2, "interval": 5}]))
    it.tick()
    it.tick(1, it.after(10))
    it.tick(1, it.after(10))
    assert it.state.watched["ok"].measured == 1
    assert it.state.reason == "ok: error_rate > 0.5 does not hold"
    assert it.tick(4, it.after(10)).weight == 10
    assert it.tick(1, it.after(10)).weight == 20


def test_initial_delay() -> None:
    it = Running(plan({"setWeight": 10}, {"pause": {}}, metrics=[{**GOOD, "initialDelay": "30s"}]))
    it.tick()
    it.tick(29, it.after(10, 10))
    assert it.state.background["ok"].measured == 0
    assert it.tick(1, it.after(10, 10)).phase == DEGRADED


def test_webhooks_are_gates_before_steps() -> None:
    hooks = [
        {"name": "begin", "type": "confirm-rollout", "url": "http://x/1"},
        {"name": "more", "type": "confirm-traffic-increase", "url": "http://x/2"},
        {"name": "end", "type": "confirm-promotion", "url": "http://x/3"},
        {"name": "stop", "type": "rollback", "url": "http://x/4"},
    ]
    it = Running(plan({"setWeight": 10}, {"pause": {"duration": 1}}, webhooks=hooks))
    assert [hook.name for hook in machine.asked(it.plan, it.state)] == ["begin", "more", "stop"]
    assert it.tick(1, more=True).reason == "waits for the webhook begin"
    assert [hook.name for hook in machine.asked(it.plan, it.state)] == ["begin", "stop"], "who said yes is not asked again"
    assert it.tick(1, begin=True).weight == 10
    assert [hook.name for hook in machine.asked(it.plan, it.state)] == ["stop"]
    it.tick(1, it.after(5))
    it.tick(1, it.after(5))
    assert it.state.reason == "waits for the webhook end"
    assert it.tick(1, it.after(5), end=True).phase == HEALTHY
    assert machine.asked(it.plan, it.state) == ()

    other = Running(plan({"setWeight": 10}, {"pause": {}}, webhooks=hooks))
    assert other.tick(1, stop=True).reason == "the webhook stop asks for it"


def test_two_large_changes_are_a_bake_time_apart() -> None:
    it = Running(plan({"setWeight": 30}, {"setWeight": 60}, {"setWeight": 70}, bakeTime="10m"))
    it.tick()
    it.tick(1, it.after(10))
    assert it.tick(1, it.after(10)).reason.startswith("bakes for 598 s more: from 30 % to 60 % is a large change")
    assert it.tick(598, it.after(10)).weight == 60
    assert it.tick(1, it.after(10)).weight == 70, "that is a small one"
    it.tick(1, it.after(10))
    assert "bakes" in it.state.reason
    it.take(machine.paused(it.state, it.now_s, "ann"))
    it.take(machine.resumed(it.plan, it.state, it.now_s, "ann", force=True))
    assert it.tick(1, it.after(10)).phase == HEALTHY


def test_shadow_and_header_routes_come_and_go() -> None:
    route = {"name": "testers", "match": [{"headerName": "x-tester", "headerValue": {"exact": "yes"}}]}
    it = Running(
        plan(
            {"shadow": {"percentage": 5}},
            {"setHeaderRoute": route},
            {"pause": {}},
            {"setHeaderRoute": {"name": "testers"}},
            {"shadow": {"percentage": 0}},
            {"setWeight": 10},
            {"pause": {}},
        )
    )
    state = it.tick()
    assert (state.shadow, state.routes) == (5, {"testers": (("x-tester", "yes"),)})
    it.take(machine.promoted(it.plan, state, it.now_s, "ann"))
    state = it.tick(1)
    assert (state.shadow, state.routes, state.weight) == (0, {}, 10)


def test_pause_resume_abort() -> None:
    it = Running(plan({"setWeight": 10}, {"pause": {"duration": 5}}, {"setWeight": 20}))
    it.tick()
    it.take(machine.paused(it.state, it.now_s, "ann"))
    with pytest.raises(Refused, match="paused already"):
        machine.paused(it.state, it.now_s, "ann")
    it.tick(600, it.after(10))
    assert it.state.weight == 10
    it.take(machine.resumed(it.plan, it.state, it.now_s, "ann"))
    with pytest.raises(Refused, match="not paused"):
        machine.resumed(it.plan, it.state, it.now_s, "ann")
    it.tick(1, it.after(10))
    assert it.tick(5, it.after(10)).weight == 20
    state = it.take(machine.aborted(it.state, it.now_s, "ann"))
    assert (state.phase, state.weight, state.reason) == (DEGRADED, 0, "by ann")


def test_promote_to_the_end_and_undo() -> None:
    it = Running(plan({"setWeight": 10}, {"pause": {}}, {"setWeight": 20}))
    it.tick()
    it.take(machine.promoted(it.plan, it.state, it.now_s, "ann", full=True))
    assert (it.state.phase, it.state.weight) == (HEALTHY, 100)
    assert it.take(machine.undone(it.state, it.now_s, "ann")).phase == UNDONE


def test_resume_at_an_open_pause_is_that_pause() -> None:
    it = Running(plan({"setWeight": 10}, {"pause": {}}))
    it.tick()
    it.tick(1, it.after(10))
    it.take(machine.paused(it.state, it.now_s, "ann"))
    state = it.take(machine.resumed(it.plan, it.state, it.now_s, "ann"))
    assert (state.phase, state.manual) == (PAUSED, False)


def test_a_deadline() -> None:
    it = Running(plan({"setWeight": 10}, {"pause": {}}, progressDeadline="1m"))
    it.tick(60)
    assert it.tick(1).reason == "it is not done after 60 s"


@pytest.mark.parametrize("document", [b"", b"{}", b'{"format":2}', b'{"format":1,"plan":{},"state":{}}', b"[1]"])
def test_what_can_not_be_read_is_said(document: bytes) -> None:
    with pytest.raises(Unreadable):
        of_document(document)
