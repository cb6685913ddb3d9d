"""Rollouts on a desk and a store, whose endpoints get the traffic that a test says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from extproc.control.changes import Create, Declare, Delete, UpdateConfig
from extproc.control.errors import Conflict, DoesNotExist, InvalidParameter, Unavailable
from extproc.control.rollouts import Rollouts
from extproc.control.store import StoreUnavailable
from extproc.rollouts.judge import Look
from extproc.rollouts.machine import DEGRADED, HEALTHY, PAUSED, UNDONE
from extproc.rollouts.plan import Plan, Webhook
from extproc.rollouts.samples import ArmSample, Pair
from tests.control.desks import START_MS, Bench, document, split
from tests.rollouts.arms import arm

PLAN: dict[str, Any] = {
    "baseline": "a",
    "canary": "b",
    "steps": [{"setWeight": 10}, {"pause": {"duration": 30}}, {"setWeight": 50}, {"pause": {"duration": 30}}],
    "metrics": [{"name": "ok", "failureCondition": "error_rate > 0.2", "interval": 1}],
    "noveltyPeriod": 0,
    "bakeTime": 0,
}


class World:
    """A gateway that may be killed and come back, its clock and its traffic."""

    def __init__(self, **words: Any) -> None:
        self.bench = Bench(**words)
        self.now_s = START_MS / 1000 + 3600
        self.canary, self.baseline = ArmSample(), ArmSample()
        self.told: list[Mapping[str, Any]] = []
        self.yes: set[str] = set()
        self.restarted()

    def restarted(self) -> None:
        self.rollouts = Rollouts(self.bench.desk, self.bench.store, self._look, self._tell, clock=lambda: self.now_s)

    def _look(self, endpoint: str, plan: Plan) -> Look:
        pair = Pair(self.canary, self.baseline)
        return Look(pair, {60.0: pair})

    async def _tell(self, hook: Webhook, payload: Mapping[str, Any]) -> bool:
        self.told.append(payload)
        return hook.name in self.yes

    async def begun(self, plan: dict[str, Any] = PLAN, **shares: int) -> World:
        await self.bench.desk.open()
        await self.bench.desk.apply(Create(document("chat", **(shares or {"a": 100, "b": 0}))), "ann")
        await self.rollouts.start("chat", plan, "ann")
        return self

    async def round(self, seconds: float = 0.0, requests: int = 20, errors: int = 0) -> None:
        self.now_s += seconds
        self.canary, self.baseline = arm(requests, errors), arm(requests)
        await self.rollouts.round()

    async def phase(self) -> str:
        return (await self.rollouts.get("chat")).state.phase

    def serves(self, entity: str) -> str:
        record = self.bench.desk.get("chat")
        return str(next(each["entity_name"] for each in record.entities if each["name"] == entity))


async def test_promotion_changes_names_and_shares_and_nothing_else() -> None:
    world = await World().begun()
    shares = []
    for _ in range(6):
        await world.round(15)
        shares.append(world.bench.shares("chat"))
    assert {"a": 90, "b": 10} in shares
    assert {"a": 50, "b": 50} in shares
    for _ in range(4):
        await world.round(15)
    assert await world.phase() == HEALTHY
    assert world.bench.shares("chat") == {"a": 100, "b": 0}
    assert (world.serves("a"), world.serves("b")) == ("model-B", "model-A")
    history = await world.bench.desk.history("chat")
    assert [(entry.actor, entry.reason) for entry in history[:3]] == [
        ("rollout:chat", "promoted: b has taken over, which is called a from now on"),
        ("rollout:chat", "weight 50 %"),
        ("rollout:chat", "weight 10 %"),
    ]

    await world.rollouts.command("chat", "undo", "ann")
    await world.round()
    assert await world.phase() == UNDONE
    assert (world.serves("a"), world.serves("b")) == ("model-A", "model-B")
    assert world.bench.shares("chat") == {"a": 100, "b": 0}


async def test_a_bad_canary_is_taken_back_in_the_round_that_sees_it() -> None:
    world = await World().begun()
    await world.round()
    assert world.bench.shares("chat") == {"a": 90, "b": 10}
    await world.round(5, errors=10)
    assert await world.phase() == DEGRADED
    assert world.bench.shares("chat") == {"a": 100, "b": 0}
    number = world.bench.desk.number
    await world.round(5, errors=20)
    assert world.bench.desk.number == number, "what is over changes nothing more"


async def test_who_was_killed_at_any_moment_goes_on_where_it_was() -> None:
    world = await World().begun()
    seen = []
    for _ in range(12):
        world.restarted()
        await world.round(15)
        seen.append(world.bench.shares("chat")["b"])
    assert await world.phase() == HEALTHY
    assert [share for share in dict.fromkeys(seen) if share] == [10, 50]


async def test_a_state_that_was_stored_and_not_made_true_is_made_true() -> None:
    world = await World().begun()
    apply = world.bench.desk.apply

    async def killed(*words: Any, **more: Any) -> Any:
        raise Unavailable("killed")

    world.bench.desk.apply = killed  # type: ignore[method-assign]
    await world.round()
    assert world.bench.shares("chat") == {"a": 100, "b": 0}
    world.bench.desk.apply = apply  # type: ignore[method-assign]
    world.restarted()
    await world.round()
    assert world.bench.shares("chat") == {"a": 90, "b": 10}


async def test_shares_of_others_stay() -> None:
    world = await World().begun(a=80, b=0, c=20)
    await world.round()
    assert world.bench.shares("chat") == {"a": 70, "b": 10, "c": 20}
    await world.rollouts.command("chat", "promote", "ann", full=True)
    await world.round()
    assert world.bench.shares("chat") == {"a": 80, "b": 0, "c": 20}
    assert world.serves("a") == "model-B"


async def test_others_changes_pause_it_and_abort_leaves_them() -> None:
    world = await World().begun()
    await world.round()
    await world.bench.desk.apply(UpdateConfig("chat", split(a=60, b=40)), "bob")
    await world.round(1)
    rollout = await world.rollouts.get("chat")
    assert (rollout.state.phase, rollout.state.reason) == (PAUSED, "others have changed the config, to version 3")
    assert world.bench.shares("chat") == {"a": 60, "b": 40}
    await world.rollouts.command("chat", "resume", "ann")
    await world.round(1)
    assert world.bench.shares("chat") == {"a": 90, "b": 10}


async def test_header_routes_are_rules_before_all_others() -> None:
    route = {"name": "testers", "match": [{"headerName": "x-tester", "headerValue": {"exact": "yes"}}]}
    plan = {**PLAN, "steps": [{"setHeaderRoute": route}, {"pause": {}}, {"setWeight": 10}]}
    world = World()
    await world.begun(plan)
    await world.round()
    (rule,) = world.bench.desk.get("chat").delivery["rules"]
    assert (rule["name"], rule["entity"]) == ("rollout-testers", "b")
    await world.rollouts.command("chat", "abort", "ann")
    await world.round()
    assert "rules" not in world.bench.desk.get("chat").delivery


async def test_a_pool_that_is_too_small_holds_it_back_unless_forced() -> None:
    load = {"a": {"endpoints": 4.0, "running": 80.0}, "b": {"endpoints": 1.0, "running": 0.0}, "c": {}}
    plan = {**PLAN, "steps": [{"setWeight": 10}, {"setWeight": 50}, {"pause": {}}]}
    world = await World(load_of=lambda pool: load[pool]).begun(plan)
    for _ in range(4):
        await world.round(1)
    rollout = await world.rollouts.get("chat")
    assert rollout.state.phase == PAUSED
    assert rollout.state.reason.startswith("pool b would have about 32 requests at once on 1 endpoints, 32 on each")
    assert world.bench.shares("chat") == {"a": 90, "b": 10}
    await world.round(1)
    assert world.bench.shares("chat") == {"a": 90, "b": 10}
    await world.rollouts.command("chat", "resume", "ann", force=True)
    await world.round(1)
    assert world.bench.shares("chat") == {"a": 50, "b": 50}


async def test_what_is_held_back_is_watched_on() -> None:
    world = await World().begun()
    await world.round()
    await world.bench.desk.apply(UpdateConfig("chat", split(a=60, b=40)), "bob")
    await world.round(1)
    assert await world.phase() == PAUSED
    await world.round(5, errors=20)
    assert await world.phase() == DEGRADED
    assert world.bench.shares("chat") == {"a": 100, "b": 0}


async def test_two_large_changes_inside_a_bake_time_are_refused_unless_forced() -> None:
    world = World()
    await world.bench.desk.open()
    await world.bench.desk.apply(Create(document("chat", a=100, b=0)), "ann")
    await world.bench.desk.apply(UpdateConfig("chat", split(a=60, b=40)), "bob")
    world.now_s = START_MS / 1000 + 60
    plan = {**PLAN, "steps": [{"setWeight": 90}], "bakeTime": 600}
    with pytest.raises(Conflict, match=r"40 % of the traffic were moved 60 s ago.* expected 600 s between two of them; or say"):
        await world.rollouts.start("chat", plan, "ann")
    await world.rollouts.start("chat", plan, "ann", force=True)


async def test_webhooks_open_gates_and_hear_of_events() -> None:
    hooks = [
        {"name": "gate", "type": "confirm-rollout", "url": "http://gate.example/"},
        {"name": "news", "type": "event", "url": "http://news.example/"},
    ]
    world = await World().begun({**PLAN, "webhooks": hooks})
    await world.round()
    assert world.bench.shares("chat") == {"a": 100, "b": 0}
    world.yes.add("gate")
    await world.round(1)
    assert world.bench.shares("chat") == {"a": 90, "b": 10}
    assert [each["event"] for each in world.told if "event" in each] == ["weight 10 %"]
    assert world.told[0]["endpoint"] == "chat"


async def test_what_is_refused() -> None:
    world = await World().begun()
    with pytest.raises(Conflict, match="goes on"):
        await world.rollouts.start("chat", PLAN, "ann")
    with pytest.raises(DoesNotExist):
        await world.rollouts.start("nobody", PLAN, "ann")
    with pytest.raises(Conflict, match="only what was promoted"):
        await world.rollouts.command("chat", "undo", "ann")
    await world.rollouts.command("chat", "abort", "ann")
    for bad, said in (
        ({**PLAN, "canary": "x"}, "rollout.canary: got 'x'; expected one of the endpoint's served entities: a, b"),
        ({**PLAN, "baseline": "b", "canary": "a"}, "rollout.baseline: got 'b', which has no traffic"),
        ({"canary": "b"}, "rollout.baseline: got nothing"),
    ):
        with pytest.raises(InvalidParameter) as caught:
            await world.rollouts.start("chat", bad, "ann")
        assert said in caught.value.message
    await world.bench.desk.apply(Create(document("code")), "ann")
    with pytest.raises(DoesNotExist, match="has no rollout"):
        await world.rollouts.get("code")


async def test_a_step_that_nobody_here_can_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.control.rollouts.FIELDS", ("rules",))
    world = World()
    await world.bench.desk.open()
    await world.bench.desk.apply(Create(document("chat", a=100, b=0)), "ann")
    with pytest.raises(InvalidParameter, match=r"rollout\.steps\[0\]\.shadow: got it, and endpoints have no shadows"):
        await world.rollouts.start("chat", {**PLAN, "steps": [{"shadow": {"percentage": 5}}, {"setWeight": 10}]}, "ann")


async def test_what_a_feeder_has_declared_is_the_feeders() -> None:
    world = World()
    await world.bench.desk.open()
    await world.bench.desk.apply(Declare("file:x.yaml", [document("chat", a=100, b=0)]), "file:x.yaml")
    with pytest.raises(Conflict, match=r"belongs to file:x.yaml, which would change back .* move the endpoint to the API"):
        await world.rollouts.start("chat", PLAN, "ann")


async def test_an_endpoint_has_a_plan_of_its_own() -> None:
    world = World()
    await world.bench.desk.open()
    await world.bench.desk.apply(Create({**document("chat", a=100, b=0), "rollout": PLAN}), "ann")
    assert world.bench.desk.get("chat").delivery["rollout"] == PLAN
    for bad, said in (
        ({**PLAN, "canary": "x"}, "rollout.canary: got 'x'; expected one of the endpoint's served entities: a, b"),
        ({**PLAN, "steps": [{"setWeight": 5}, {"setWeight": 1}]}, "rollout.steps[1].setWeight: got 1 after 5"),
    ):
        with pytest.raises(InvalidParameter) as caught:
            await world.bench.desk.apply(UpdateConfig("chat", {"rollout": bad}), "ann")
        assert said in caught.value.message
    await world.bench.desk.apply(UpdateConfig("chat", {"rollout": []}), "ann")
    assert "rollout" not in world.bench.desk.get("chat").delivery


async def test_a_dry_run_starts_nothing() -> None:
    world = World()
    await world.bench.desk.open()
    await world.bench.desk.apply(Create(document("chat", a=100, b=0)), "ann")
    await world.rollouts.start("chat", PLAN, "ann", dry_run=True)
    with pytest.raises(DoesNotExist):
        await world.rollouts.get("chat")


async def test_an_endpoint_that_goes_takes_its_rollout_along() -> None:
    world = await World().begun()
    await world.bench.desk.apply(Delete("chat"), "ann")
    await world.round()
    assert await world.rollouts.all() == {}


async def test_one_that_can_not_be_read_is_nobodys_and_does_not_stop_others() -> None:
    world = await World().begun()
    await world.bench.store.keep("rollout/code", 0, b'{"format":9}')
    await world.round()
    assert set(await world.rollouts.all()) == {"chat"}
    assert world.bench.shares("chat") == {"a": 90, "b": 10}


async def test_a_store_that_is_away_is_said() -> None:
    world = await World().begun()

    async def away() -> Any:
        raise StoreUnavailable("gone fishing")

    world.bench.store.kept = away  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="gone fishing"):
        await world.rollouts.get("chat")
