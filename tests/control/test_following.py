"""Entities of a registry at the desk: what they stand for comes with them, is kept and moved, and never written by people."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from extproc.control.changes import Create, Declare, Follow, Revert, UpdateConfig
from extproc.control.desk import Desk
from extproc.control.errors import InvalidParameter, Unavailable
from extproc.control.exchange import exported
from extproc.registry.answers import ModelVersion
from extproc.registry.known import Known, Model, Unresolved
from extproc.registry.moves import Block
from extproc.registry.placing import Placing
from extproc.registry.references import Reference
from extproc.traffic import Catalog, CatalogEntry, Route, RouteTable, Served
from tests.control.desks import Bench

CATALOG = Catalog(
    [CatalogEntry("churn", "", Served("churn-v{version}", "a"))], RouteTable([Route(("model-B",), "b")]), pools=["a", "b"]
)


class Registry:
    """Versions as a desk wants them: `churn` with versions 1 to 9, `tagged` with a pool in a tag."""

    def __init__(self) -> None:
        self.champion = "3"
        self.away = False
        self.asked: list[set[Reference]] = []
        self._placing = Placing({("churn", "")}, {"a": None, "b": None}, CATALOG.resolve)

    async def learn(self, references: Collection[Reference]) -> None:
        self.asked.append(set(references))

    def block(self, reference: Reference) -> Block:
        if self.away:
            raise Unresolved("the registry has not answered yet", away=True)
        tagged = {str(number): ModelVersion(str(number), tags={"extproc.pool": "b"}) for number in range(1, 10)}
        plain: dict[str, ModelVersion | None] = {str(number): ModelVersion(str(number)) for number in range(1, 10)}
        aliases = {"champion": self.champion}
        known = Known({"churn": Model(aliases, plain), "tagged": Model(aliases, {**tagged}), "nowhere": Model(aliases, plain)})
        return self._placing.block(reference.name, known.version(reference))


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
async def bench(registry: Registry) -> Bench:
    bench = Bench(versions=registry)
    bench.catalog = CATALOG
    await bench.desk.open()
    return bench


def config(**entities: tuple[str, str]) -> dict[str, Any]:
    served = [
        {"name": name, "entity_name": entity, **({"entity_version": version} if version else {})}
        for name, (entity, version) in entities.items()
    ]
    shares = [100] + [0] * (len(entities) - 1)
    routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in zip(entities, shares, strict=True)]
    return {"served_entities": served, "traffic_config": {"routes": routes}}


def blocks(desk: Desk, name: str = "chat") -> dict[str, Any]:
    return {entity["name"]: entity.get("registry") for entity in desk.get(name).entities}


def served(bench: Bench, name: str = "chat") -> dict[str, tuple[str, str]]:
    endpoint = bench.table.get(name)
    assert endpoint is not None
    return {entity.name: (entity.model, entity.pool) for entity in endpoint.entities}


@pytest.mark.parametrize("entity", [("churn", "@champion"), ("models:/churn@champion", "")])
async def test_an_alias_is_resolved_when_it_comes(bench: Bench, registry: Registry, entity: tuple[str, str]) -> None:
    await bench.desk.apply(Create({"name": "chat", "config": config(current=entity)}), "alice")
    (kept,) = bench.desk.get("chat").entities
    assert kept == {
        "name": "current",
        "entity_name": "churn",
        "entity_version": "@champion",
        "registry": {"version": "3"},
    }
    assert served(bench) == {"current": ("churn-v3", "a")}
    assert registry.asked == [{Reference("churn", alias="champion")}]


async def test_a_uri_with_a_version_is_that_version(bench: Bench) -> None:
    await bench.desk.apply(Create({"name": "chat", "config": config(current=("models:/churn/2", ""))}), "alice")
    (kept,) = bench.desk.get("chat").entities
    assert (kept["entity_name"], kept["entity_version"]) == ("churn", "2")
    assert served(bench) == {"current": ("churn-v2", "a")}


async def test_a_version_whose_pool_only_a_tag_says(bench: Bench) -> None:
    await bench.desk.apply(Create({"name": "chat", "config": config(current=("tagged", "4"))}), "alice")
    assert blocks(bench.desk) == {"current": {"version": "4", "pool": "b", "model": "tagged"}}
    assert served(bench) == {"current": ("tagged", "b")}


async def test_what_the_catalog_knows_needs_no_registry(bench: Bench, registry: Registry) -> None:
    registry.away = True
    await bench.desk.apply(Create({"name": "chat", "config": config(current=("model-B", "7"))}), "alice")
    assert blocks(bench.desk) == {"current": None}


@pytest.mark.parametrize(
    ("entity", "words"),
    [
        (("churn", "@nope"), "config.served_entities[0].entity_version: got '@nope' of 'churn'; expected an alias"),
        (("none", "@champion"), "config.served_entities[0].entity_version: got '@champion' of 'none'; the registry has not"),
        (("nowhere", "@champion"), "got '@champion' of 'nowhere'; no pool serves version 3: no pool serves 'nowhere'"),
        (
            ("models:/churn/Staging", ""),
            "config.served_entities[0]: got an object with 2 keys; entity_name 'models:/churn/Staging'",
        ),
        (("churn", "@v1"), "reserved"),
    ],
)
async def test_what_can_not_be_resolved_is_refused_with_its_place(bench: Bench, entity: tuple[str, str], words: str) -> None:
    with pytest.raises((InvalidParameter, Unavailable)) as raised:
        await bench.desk.apply(Create({"name": "chat", "config": config(current=entity)}), "alice")
    assert words in str(raised.value)


async def test_while_the_registry_is_away_a_change_that_needs_it_is_to_be_tried_again(bench: Bench, registry: Registry) -> None:
    registry.away = True
    with pytest.raises(Unavailable, match=r"served_entities\[0\].entity_version: got '@champion'"):
        await bench.desk.apply(Create({"name": "chat", "config": config(current=("churn", "@champion"))}), "alice")


async def test_without_a_registry_an_alias_is_refused() -> None:
    bench = Bench()
    await bench.desk.open()
    for change in (Create({"name": "chat", "config": config(current=("churn", "@champion"))}),):
        with pytest.raises(InvalidParameter, match=r"no registry is set: registry\.uri"):
            await bench.desk.apply(change, "alice")
    declared = Declare("file:a", [{"name": "chat", "config": config(current=("churn", "@champion"))}])
    with pytest.raises(InvalidParameter, match="no registry is set"):
        await bench.desk.apply(declared, "file:a")


async def test_other_changes_leave_what_it_stands_for(bench: Bench, registry: Registry) -> None:
    await bench.desk.apply(Create({"name": "chat", "config": config(current=("churn", "@champion"))}), "alice")
    registry.champion, registry.away = "5", True
    await bench.desk.apply(UpdateConfig("chat", config(current=("churn", "@champion"), next=("model-B", ""))), "alice")
    assert blocks(bench.desk) == {"current": {"version": "3"}, "next": None}


async def test_following_is_a_revision_of_the_config(bench: Bench) -> None:
    await bench.desk.apply(Create({"name": "chat", "config": config(current=("churn", "@champion"))}), "alice")
    await bench.desk.apply(Follow("chat", {"current": {"version": "4"}}), "registry:mlflow", 1, "current: 3 to 4")
    assert served(bench) == {"current": ("churn-v4", "a")}
    newest = (await bench.desk.history("chat"))[0]
    assert (newest.kind, newest.actor, newest.config_version) == ("registry", "registry:mlflow", 2)
    assert [(each.path, each.before, each.after) for each in newest.changed if "registry" in each.path] == [
        ("config.served_entities.current.registry.version", "3", "4")
    ]


async def test_a_revert_holds_until_the_alias_moves_again(bench: Bench) -> None:
    await bench.desk.apply(Create({"name": "chat", "config": config(current=("churn", "@champion"))}), "alice")
    await bench.desk.apply(Follow("chat", {"current": {"version": "4"}}), "registry:mlflow")
    await bench.desk.apply(Revert("chat", 1), "alice")
    assert blocks(bench.desk) == {"current": {"version": "3", "alias_version": "4"}}
    assert served(bench) == {"current": ("churn-v3", "a")}
    await bench.desk.apply(Revert("chat", 2), "alice")
    assert blocks(bench.desk) == {"current": {"version": "4"}}


async def test_what_is_declared_follows_too_and_a_reload_changes_nothing(bench: Bench, registry: Registry) -> None:
    declare = Declare("file:a", [{"name": "chat", "config": config(current=("churn", "@champion"))}])
    await bench.desk.apply(declare, "file:a")
    await bench.desk.apply(Follow("chat", {"current": {"version": "4"}}), "registry:mlflow")
    registry.away = True
    assert (await bench.desk.apply(declare, "file:a")).effects == ()
    assert blocks(bench.desk) == {"current": {"version": "4"}}


@pytest.mark.parametrize("entity", [("churn", "@champion"), ("tagged", "4")])
async def test_what_is_declared_while_the_registry_is_away_is_there_and_says_so(
    bench: Bench, registry: Registry, entity: tuple[str, str]
) -> None:
    registry.away = True
    documents = [
        {"name": "chat", "config": config(current=entity)},
        {"name": "other", "config": config(current=("model-B", ""))},
    ]
    await bench.desk.apply(Declare("file:a", documents), "file:a")
    assert served(bench, "other") == {"current": ("model-B", "b")}
    assert served(bench) == {"current": ("", "")}
    assert bench.desk.problems()["chat"]
    registry.away = False
    block = registry.block(Reference(entity[0], **({"alias": "champion"} if entity[1] == "@champion" else {"version": "4"})))
    await bench.desk.apply(Follow("chat", {"current": block}), "registry:mlflow")
    assert bench.desk.problems() == {}


async def test_a_tag_that_names_no_pool_any_more_is_said_and_not_served(bench: Bench) -> None:
    await bench.desk.apply(Create({"name": "chat", "config": config(current=("tagged", "@champion"))}), "alice")
    bench.catalog = Catalog([], RouteTable([Route(("model-B",), "c")]), pools=["c"])
    bench.desk.recompile()
    assert bench.desk.problems() == {"chat": ["current: no pool is called 'b'; there are: c"]}


async def test_what_people_keep_has_no_block(bench: Bench) -> None:
    await bench.desk.apply(Create({"name": "chat", "config": config(current=("churn", "@champion"))}), "alice")
    (entity,) = exported(bench.desk.get("chat"))["config"]["served_entities"]
    assert entity == {"name": "current", "entity_name": "churn", "entity_version": "@champion"}


async def test_a_default_name_has_the_alias_in_it(bench: Bench) -> None:
    document = {"name": "chat", "config": {"served_entities": [{"entity_name": "churn", "entity_version": "@champion"}]}}
    await bench.desk.apply(Create(document), "alice")
    assert [entity["name"] for entity in bench.desk.get("chat").entities] == ["churn-champion"]
