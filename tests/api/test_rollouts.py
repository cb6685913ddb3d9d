from __future__ import annotations

from typing import Any

from tests.api.served import served
from tests.control.desks import Bench, document

PLAN: dict[str, Any] = {"baseline": "a", "canary": "b", "steps": [{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}]}


async def test_start_status_commands() -> None:
    bench = Bench()
    async with served(bench) as api:
        await api.post("", document("chat", a=100, b=0))
        begun = await api.post("/chat/rollouts", PLAN)
        assert begun.status == 200, begun.text
        assert begun.json["phase"] == "Progressing"
        assert begun.json["steps"] == ["setWeight 10", "pause until promoted", "setWeight 50"]
        await bench.rollouts.round()
        assert bench.shares("chat") == {"a": 90, "b": 10}
        found = (await api.get("/chat/rollouts")).json
        assert (found["weight"], found["baseline"], found["canary"]) == (10, "a", "b")
        assert [each["name"] for each in found["metrics"]] == ["ttft", "error-rate"]
        assert (await api.post("/chat/rollouts/pause", {})).json["phase"] == "Paused"
        assert (await api.post("/chat/rollouts/resume", {})).json["phase"] == "Progressing"
        done = (await api.post("/chat/rollouts/promote?full=true", {})).json
        assert done["phase"] == "Healthy"
        assert [each["words"] for each in done["events"]][-2:] == [
            "promote to the end",
            "promoted: b has taken over, which is called a from now on",
        ]
        assert (await api.post("/chat/rollouts/undo", {})).json["phase"] == "Undone"


async def test_what_is_refused_says_where() -> None:
    async with served() as api:
        await api.post("", document("chat", a=100, b=0))
        assert (await api.get("/chat/rollouts")).status == 404
        back = {**PLAN, "steps": [{"setWeight": 10}, {"setWeight": 5}]}
        for given, said in (
            ({"canary": "b", "steps": [{"setWeight": 1}]}, "rollout.baseline: got nothing; expected a value"),
            (back, "rollout.steps[1].setWeight: got 5 after 10; expected more"),
            ({**PLAN, "metrics": [{"name": "x", "failureCondition": "speed > 1"}]}, "rollout.metrics[0].failureCondition: got"),
            ({}, "rollout: got no plan, and the endpoint has none of its own"),
        ):
            refused = await api.post("/chat/rollouts", given)
            assert refused.status == 400
            assert said in refused.json["message"]
        assert (await api.post("/chat/rollouts/launch", {})).json["message"].startswith("action: got 'launch'; expected one of")
        assert (await api.post("/nobody/rollouts", PLAN)).status == 404


async def test_nothing_in_the_body_is_the_endpoints_own_plan() -> None:
    async with served() as api:
        await api.post("", {**document("chat", a=100, b=0), "rollout": PLAN})
        assert (await api.get("/chat")).json["rollout"] == PLAN
        assert (await api.post("/chat/rollouts", {})).json["steps"][0] == "setWeight 10"


async def test_one_at_a_time() -> None:
    async with served() as api:
        await api.post("", document("chat", a=100, b=0))
        assert (await api.post("/chat/rollouts?dry_run=true", PLAN)).status == 200
        assert (await api.get("/chat/rollouts")).status == 404
        await api.post("/chat/rollouts", PLAN)
        again = await api.post("/chat/rollouts", PLAN)
        assert (again.status, again.json["error_code"]) == (409, "RESOURCE_CONFLICT")
        assert (await api.post("/chat/rollouts/undo", {})).status == 409
