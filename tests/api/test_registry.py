"""Endpoints that follow a registry, over the API: what is shown, and what who sends it back changes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from extproc.control.changes import Follow
from extproc.registry.known import Unresolved
from extproc.registry.moves import Block
from extproc.registry.references import Reference
from extproc.traffic import Catalog, CatalogEntry, Served
from tests.api.served import served
from tests.control.desks import Bench


class Registry:
    """`churn` in version 3; anything else can't be asked for."""

    async def learn(self, references: Collection[Reference]) -> None:
        """All is known that can be."""

    def block(self, reference: Reference) -> Block:
        if reference.name != "churn":
            raise Unresolved("the registry has not answered yet", away=True)
        if reference.alias != "champion":
            raise Unresolved("expected an alias of the registered model 'churn': @champion")
        return {"version": "3"}


def bench() -> Bench:
    made = Bench(versions=Registry())
    made.catalog = Catalog([CatalogEntry("churn", "", Served("churn-v{version}", "a"))])
    return made


def endpoint(entity: str = "churn", version: str = "@champion", **more: Any) -> dict[str, Any]:
    entities = [{"name": "current", "entity_name": entity, "entity_version": version, **more}]
    return {"name": "chat", "config": {"served_entities": entities}}


async def test_alias_and_version_are_shown_and_sending_them_back_changes_nothing() -> None:
    async with served(bench()) as api:
        forged = {"version": "9", "pool": "z", "model": "m"}
        made = (await api.post("", endpoint(registry=forged))).json
        (entity,) = made["config"]["served_entities"]
        assert (entity["entity_version"], entity["registry"]) == ("@champion", {"version": "3"})
        await api.bench.desk.apply(Follow("chat", {"current": {"version": "4"}}), "registry:mlflow")
        again = {"served_entities": [{**entity, "registry": {"version": "3"}}]}
        (entity,) = (await api.put("/chat/config", again)).json["config"]["served_entities"]
        assert entity["registry"] == {"version": "4"}
        (listed,) = (await api.get()).json["endpoints"]
        assert listed["config"]["served_entities"][0]["registry"] == {"version": "4"}


async def test_who_does_not_follow_says_why() -> None:
    async with served(bench(), held=lambda name: {"current": "no pool serves version 4"} if name == "chat" else {}) as api:
        made = (await api.post("", endpoint())).json
        words = "it does not follow its registry: no pool serves version 4"
        assert made["config"]["served_entities"][0]["state"] == {
            "deployment": "DEPLOYMENT_READY",
            "deployment_state_message": words,
        }
        assert made["gateway_problems"] == [f"current: {words}"]
        assert made["state"]["ready"] == "READY"


async def test_what_the_registry_has_not_and_what_it_can_not_say_now_are_told_apart() -> None:
    place = "config.served_entities[0].entity_version"
    async with served(bench()) as api:
        assert (await api.post("", endpoint(version="@nope"))).error == (
            400,
            "INVALID_PARAMETER_VALUE",
            f"{place}: got '@nope' of 'churn'; expected an alias of the registered model 'churn': @champion",
        )
        assert (await api.post("", endpoint("unheard"))).error == (
            503,
            "TEMPORARILY_UNAVAILABLE",
            f"{place}: got '@champion' of 'unheard'; the registry has not answered yet",
        )
