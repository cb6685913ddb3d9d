"""Endpoints follow a registry that a test moves, breaks and mends; one of two replicas does it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from extproc.app.registry.asking import Asking
from extproc.app.registry.client import AskFailed, NotThere
from extproc.app.registry.component import KEY, FollowedRegistry
from extproc.app.registry.follower import Follower
from extproc.control.changes import Create, Declare, Revert, UpdateConfig
from extproc.control.errors import InvalidParameter, Unavailable
from extproc.observability.instruments import Instruments
from extproc.observability.registry import RegistryMetrics
from extproc.registry.answers import ModelVersion
from extproc.registry.placing import Placing
from extproc.registry.references import Reference
from extproc.rollouts.documents import Rollout
from extproc.storage.memory import MemoryStore
from extproc.traffic import Catalog, CatalogEntry, Route, RouteTable, Served
from tests.control.desks import Bench, split
from tests.fakes.clock import FakeClock

POOLS = {"a": None, "b": None}
CATALOG = Catalog(
    [CatalogEntry("churn", "", Served("churn-v{version}", "a"))], RouteTable([Route(("model-B",), "b")]), pools=POOLS
)


class Mlflow:
    """A registry by its two questions."""

    def __init__(self) -> None:
        self.aliases_of: dict[str, dict[str, str]] = {"churn": {"champion": "3"}, "tagged": {"champion": "1"}}
        self.tags: dict[tuple[str, str], Mapping[str, str]] = {("tagged", "1"): {"extproc.pool": "b"}}
        self.failure: AskFailed | None = None
        self.asked: list[str] = []

    async def aliases(self, name: str) -> dict[str, str]:
        self.asked.append(name)
        if self.failure is not None:
            raise self.failure
        if name not in self.aliases_of:
            raise NotThere
        return dict(self.aliases_of[name])

    async def version(self, name: str, version: str) -> ModelVersion:
        if self.failure is not None:
            raise self.failure
        if int(version) > 9:
            raise NotThere
        return ModelVersion(version, tags=self.tags.get((name, version), {}))

    async def close(self) -> None:
        """Nothing is open."""


class Replica:
    """A gateway's desk with its registry, over a store that others may share."""

    def __init__(self, mlflow: Mlflow, store: MemoryStore | None = None, *, leads: bool = True) -> None:
        self.clock = FakeClock()
        self.leads = leads
        self.down: set[str] = set()
        self.instruments = Instruments()
        metrics = RegistryMetrics(self.instruments, self.clock)
        placing = Placing({("churn", "")}, POOLS, CATALOG.resolve)
        self.registry = FollowedRegistry(
            Asking(mlflow, metrics),  # type: ignore[arg-type]  # asked in the same words
            placing,
            CATALOG,
            interval_s=10,
            clock=self.clock,
            draw=lambda: 0.5,
        )
        self.loads: dict[str, dict[str, float]] = {}
        self.bench = Bench(store, versions=self.registry, load_of=lambda pool: self.loads.get(pool, {}))
        self.bench.catalog = CATALOG
        self.desk = self.bench.desk
        follower = Follower(
            self.desk, self.bench.rollouts, CATALOG, lambda pool: pool not in self.down, lambda: self.leads, metrics
        )
        self.registry.attach(self.desk, self.bench.store, follower)

    async def open(self) -> Replica:
        await self.desk.open()
        await self.registry.start()
        return self

    async def round(self) -> None:
        """As `run` does."""
        await self.registry._round()

    def metric(self, name: str) -> dict[tuple[str, ...], float]:
        found = {}
        for metric in self.instruments.collect():
            for sample in metric.samples:
                if sample.name == name:
                    found[tuple(sample.labels.values())] = sample.value
        return found

    def blocks(self, name: str = "chat") -> dict[str, Any]:
        return {entity["name"]: entity.get("registry") for entity in self.desk.get(name).entities}


@pytest.fixture
def mlflow() -> Mlflow:
    return Mlflow()


@pytest.fixture
async def replica(mlflow: Mlflow) -> Replica:
    return await Replica(mlflow).open()


def document(*entities: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    """Each a name, what it serves and which version; the first has all of the traffic."""
    served = [{"name": name, "entity_name": entity, "entity_version": version} for name, entity, version in entities]
    routes = [
        {"served_entity_name": entity[0], "traffic_percentage": 0 if index else 100} for index, entity in enumerate(entities)
    ]
    return {"name": "chat", "config": {"served_entities": served, "traffic_config": {"routes": routes}}, **more}


CHURN = document(("current", "churn", "@champion"))
PLAN: dict[str, Any] = {
    "baseline": "current",
    "canary": "next",
    "steps": [{"setWeight": 50}, {"pause": {}}],
    "bakeTime": 0,
    "noveltyPeriod": 0,
}
PLANNED = document(("current", "churn", "@champion"), ("next", "churn", "@champion"), rollout=PLAN)


async def test_a_moved_alias_is_a_new_config_revision(replica: Replica, mlflow: Mlflow) -> None:
    await replica.desk.apply(Create(CHURN), "alice")
    await replica.round()
    assert replica.desk.get("chat").config_version == 1
    mlflow.aliases_of["churn"]["champion"] = "4"
    await replica.round()
    assert replica.blocks() == {"current": {"version": "4"}}
    newest = (await replica.desk.history("chat"))[0]
    assert (newest.actor, newest.reason) == ("registry:mlflow", "current: churn@champion moved from version 3 to 4")
    assert replica.metric("extproc_registry_moves_total") == {("chat", "config"): 1.0}
    await replica.round()
    assert replica.desk.get("chat").config_version == 2


async def test_a_model_is_asked_for_once_a_round_for_all_endpoints(replica: Replica, mlflow: Mlflow) -> None:
    for name in ("one", "two", "three"):
        await replica.desk.apply(Create({**CHURN, "name": name}), "alice")
    mlflow.asked.clear()
    await replica.round()
    assert mlflow.asked == ["churn"]


async def test_who_does_not_lead_changes_nothing(mlflow: Mlflow) -> None:
    store = MemoryStore()
    first = await Replica(mlflow, store).open()
    second = await Replica(mlflow, store, leads=False).open()
    await first.desk.apply(Create(CHURN), "alice")
    mlflow.aliases_of["churn"]["champion"] = "4"
    await second.desk.open()
    await second.round()
    assert second.blocks() == {"current": {"version": "3"}}
    await first.round()
    assert first.desk.get("chat").config_version == 2


async def test_two_who_both_think_that_they_lead_make_one_revision(mlflow: Mlflow) -> None:
    store = MemoryStore()
    replicas = [await Replica(mlflow, store).open() for _ in range(2)]
    await replicas[0].desk.apply(Create(CHURN), "alice")
    await replicas[1].desk.open()
    mlflow.aliases_of["churn"]["champion"] = "4"
    await asyncio.gather(*(replica.round() for replica in replicas))
    for replica in replicas:
        await replica.desk.open()
        await replica.round()
        assert replica.blocks() == {"current": {"version": "4"}}
        assert replica.desk.get("chat").config_version == 2
        assert replica.registry.held("chat") == {}


@pytest.mark.parametrize("failure", [AskFailed("unreachable", "connection refused"), AskFailed("unreadable", "not JSON")])
async def test_a_registry_that_fails_changes_nothing_and_is_said_once(
    replica: Replica, mlflow: Mlflow, failure: AskFailed, capsys: pytest.CaptureFixture[str]
) -> None:
    await replica.desk.apply(Create(CHURN), "alice")
    await replica.round()
    replica.clock.advance(30)
    mlflow.failure, mlflow.aliases_of["churn"]["champion"] = failure, "4"
    capsys.readouterr()
    for _ in range(3):
        await replica.round()
    assert replica.blocks() == {"current": {"version": "3"}}
    assert replica.desk.problems() == {}
    said = [line for line in capsys.readouterr().out.splitlines() if "registry of models" in line]
    assert len(said) == 1
    assert str(failure) in said[0]
    assert replica.metric("extproc_registry_up") == {(): 0.0}
    assert replica.metric("extproc_registry_answer_age_seconds") == {(): 30.0}
    assert replica.metric("extproc_registry_requests_total")[(failure.kind,)] == 3
    mlflow.failure = None
    await replica.round()
    assert replica.blocks() == {"current": {"version": "4"}}
    assert replica.metric("extproc_registry_up") == {(): 1.0}


async def test_what_was_known_outlives_a_restart_while_the_registry_is_away(replica: Replica, mlflow: Mlflow) -> None:
    await replica.desk.apply(Create(CHURN), "alice")
    await replica.round()
    assert KEY in await replica.bench.store.kept()
    mlflow.failure = AskFailed("unreachable", "connection refused")
    again = await Replica(mlflow, replica.bench.store).open()  # type: ignore[arg-type]  # a MemoryStore, that is
    await again.desk.apply(Create({**CHURN, "name": "other"}), "alice")
    assert again.blocks("other") == {"current": {"version": "3"}}
    await again.round()
    assert again.blocks() == {"current": {"version": "3"}}


async def test_a_change_asks_about_what_is_not_known(replica: Replica, mlflow: Mlflow) -> None:
    with pytest.raises(
        InvalidParameter, match="'@new' of 'churn'; expected an alias of the registered model 'churn': @champion"
    ):
        await replica.desk.apply(Create(document(("current", "churn", "@new"))), "alice")
    mlflow.aliases_of["churn"]["new"] = "5"  # a moment ago
    await replica.desk.apply(Create(document(("current", "churn", "@new"))), "alice")
    assert replica.blocks() == {"current": {"version": "5"}}
    mlflow.failure = AskFailed("timeout", "no whole answer in 5 s")
    with pytest.raises(Unavailable, match=r"'@champion' of 'unheard'.*can't be asked now: no whole answer in 5 s"):
        await replica.desk.apply(Create({**document(("current", "unheard", "@champion")), "name": "x"}), "alice")


async def test_a_version_that_no_pool_serves_moves_nothing_until_one_does(replica: Replica, mlflow: Mlflow) -> None:
    await replica.desk.apply(Create(document(("current", "tagged", "@champion"))), "alice")
    assert replica.blocks() == {"current": {"version": "1", "pool": "b", "model": "tagged"}}
    mlflow.aliases_of["tagged"]["champion"] = "2"
    await replica.round()
    assert replica.blocks()["current"]["version"] == "1"
    assert "no pool serves version 2" in replica.registry.held("chat")["current"]
    assert replica.metric("extproc_registry_held") == {("chat", "current"): 1.0}
    mlflow.tags["tagged", "2"] = {"extproc.pool": "b"}
    await replica.round()
    assert replica.blocks()["current"]["version"] == "2"
    assert replica.metric("extproc_registry_held") == {}


async def test_a_pool_without_endpoints_gets_nobody(replica: Replica, mlflow: Mlflow) -> None:
    await replica.desk.apply(Create(document(("current", "tagged", "@champion"))), "alice")
    mlflow.aliases_of["tagged"]["champion"] = "2"
    mlflow.tags["tagged", "2"] = {"extproc.pool": "a"}
    replica.down = {"a", "b"}
    await replica.round()
    assert replica.blocks()["current"]["version"] == "1"
    assert replica.registry.held("chat") == {
        "current": "version 2 is served by the pool 'a', which has no endpoint that can serve now"
    }
    replica.down = set()
    await replica.round()
    assert replica.blocks()["current"]["pool"] == "a"


async def test_a_pool_that_can_not_take_the_traffic_does_not_get_it(replica: Replica, mlflow: Mlflow) -> None:
    await replica.desk.apply(Create(document(("current", "tagged", "@champion"))), "alice")
    mlflow.aliases_of["tagged"]["champion"] = "2"
    mlflow.tags["tagged", "2"] = {"extproc.pool": "a"}
    replica.loads = {"a": {"endpoints": 1, "running": 0}, "b": {"endpoints": 10, "running": 100}}
    await replica.round()
    assert replica.blocks()["current"]["pool"] == "b"
    assert "pool a would have about 100 requests at once on 1 endpoints" in replica.registry.held("chat")["current"]
    replica.loads["b"]["running"] = 3
    await replica.round()
    assert replica.blocks()["current"]["pool"] == "a"


@pytest.mark.parametrize("what", ["alias", "model", "version"])
async def test_what_goes_from_the_registry_is_served_on(replica: Replica, mlflow: Mlflow, what: str) -> None:
    await replica.desk.apply(Create(CHURN), "alice")
    if what == "alias":
        mlflow.aliases_of["churn"].clear()
    elif what == "model":
        del mlflow.aliases_of["churn"]
    else:
        mlflow.aliases_of["churn"]["champion"] = "10"
    await replica.round()
    assert replica.blocks() == {"current": {"version": "3"}}
    assert replica.registry.held("chat")["current"].startswith("expected ")


async def test_a_revert_holds_until_the_alias_moves_again(replica: Replica, mlflow: Mlflow) -> None:
    await replica.desk.apply(Create(CHURN), "alice")
    mlflow.aliases_of["churn"]["champion"] = "4"
    await replica.round()
    await replica.desk.apply(Revert("chat", 1), "alice")
    await replica.round()
    assert replica.blocks()["current"]["version"] == "3"
    mlflow.aliases_of["churn"]["champion"] = "5"
    await replica.round()
    assert replica.blocks() == {"current": {"version": "5"}}


async def test_what_a_file_declares_follows_too(replica: Replica, mlflow: Mlflow) -> None:
    mlflow.failure = AskFailed("unreachable", "connection refused")
    declare = Declare("file:a", [CHURN])
    await replica.desk.apply(declare, "file:a")
    assert "not said yet" in replica.desk.problems()["chat"][0]
    mlflow.failure = None
    await replica.round()
    assert replica.desk.problems() == {}
    mlflow.aliases_of["churn"]["champion"] = "4"
    await replica.round()
    assert (await replica.desk.apply(declare, "file:a")).effects == ()
    assert replica.blocks() == {"current": {"version": "4"}}


async def test_a_plan_that_a_file_declares_is_not_begun_and_that_is_said(replica: Replica, mlflow: Mlflow) -> None:
    await replica.desk.apply(Declare("file:a", [PLANNED]), "file:a")
    mlflow.aliases_of["churn"]["champion"] = "4"
    await replica.round()
    assert replica.blocks() == {"current": {"version": "3"}, "next": {"version": "3"}}
    assert "belongs to file:a" in replica.registry.held("chat")["current"]


@pytest.fixture
async def planned(replica: Replica, mlflow: Mlflow) -> Replica:
    """Whose alias has moved from 3 to 4."""
    await replica.desk.apply(Create(PLANNED), "alice")
    mlflow.aliases_of["churn"]["champion"] = "4"
    await replica.round()
    return replica


async def driven(replica: Replica, rounds: int = 3) -> Rollout:
    """After some rounds of the driver."""
    for _ in range(rounds):
        await replica.bench.rollouts.round()
    return await replica.bench.rollouts.get("chat")


async def test_with_a_plan_the_new_version_begins_as_the_canary(planned: Replica) -> None:
    assert planned.blocks() == {"current": {"version": "3"}, "next": {"version": "4"}}
    rollout = await planned.bench.rollouts.get("chat")
    assert rollout.state.events[0].who == "registry:mlflow"
    assert planned.metric("extproc_registry_moves_total") == {("chat", "rollout"): 1.0}
    await driven(planned)
    assert planned.bench.shares("chat") == {"current": 50, "next": 50}
    await planned.round()
    assert (await planned.bench.rollouts.get("chat")).state.id == rollout.state.id


async def test_after_the_promotion_the_alias_and_the_baseline_are_one(planned: Replica, mlflow: Mlflow) -> None:
    await driven(planned)
    await planned.bench.rollouts.command("chat", "promote", "alice", full=True)
    await driven(planned)
    assert planned.blocks() == {"current": {"version": "4"}, "next": {"version": "3"}}
    assert planned.bench.shares("chat") == {"current": 100, "next": 0}
    before = planned.desk.get("chat").config_version
    await planned.round()
    assert planned.desk.get("chat").config_version == before
    assert planned.registry.held("chat") == {}
    mlflow.aliases_of["churn"]["champion"] = "5"
    await planned.round()
    assert planned.blocks() == {"current": {"version": "4"}, "next": {"version": "5"}}


async def test_an_alias_that_goes_back_takes_the_rollout_back(planned: Replica, mlflow: Mlflow) -> None:
    await driven(planned)
    mlflow.aliases_of["churn"]["champion"] = "3"
    await planned.round()
    assert (await driven(planned)).state.phase == "Degraded"
    assert planned.bench.shares("chat") == {"current": 100, "next": 0}
    await planned.round()
    assert planned.registry.held("chat") == {}
    mlflow.aliases_of["churn"]["champion"] = "4"
    await planned.round()
    assert "version 4 was tried" in planned.registry.held("chat")["current"]


async def test_a_plan_that_may_not_begin_now_changes_nothing_and_is_tried_again(replica: Replica, mlflow: Mlflow) -> None:
    await replica.desk.apply(Create({**PLANNED, "rollout": {**PLAN, "bakeTime": 600}}), "alice")
    for shares in ({"current": 50, "next": 50}, {"current": 100, "next": 0}):
        await replica.desk.apply(UpdateConfig("chat", split(**shares)), "alice")
    mlflow.aliases_of["churn"]["champion"] = "4"
    version = replica.desk.get("chat").config_version
    replica.bench.rollouts._clock = lambda: 1_700_000_001.0
    await replica.round()
    assert replica.desk.get("chat").config_version == version
    assert replica.registry.held("chat")["current"].startswith("it is refused: ")
    replica.bench.rollouts._clock = lambda: 1_700_009_999.0
    await replica.round()
    assert replica.blocks() == {"current": {"version": "3"}, "next": {"version": "4"}}


async def test_what_a_change_names_while_a_round_is_under_way_stays_known(replica: Replica, mlflow: Mlflow) -> None:
    await replica.desk.apply(Create(CHURN), "alice")
    change = Create({**document(("current", "tagged", "@champion")), "name": "other"})
    ask = mlflow.aliases

    async def meanwhile(name: str) -> dict[str, str]:
        mlflow.aliases = ask  # type: ignore[method-assign]
        await replica.registry.learn([Reference("tagged", alias="champion")])
        return await ask(name)

    mlflow.aliases = meanwhile  # type: ignore[method-assign]
    await replica.round()
    mlflow.failure = AskFailed("unreachable", "connection refused")
    await replica.desk.apply(change, "alice")
    assert replica.blocks("other")["current"]["version"] == "1"


async def test_the_page_has_what_is_known(replica: Replica, mlflow: Mlflow) -> None:
    await replica.desk.apply(Create(CHURN), "alice")
    assert replica.registry.shape() == {
        "trouble": "",
        "answer_age_s": 0.0,
        "models": {"churn": {"aliases": {"champion": "3"}, "there": True}},
    }
