from __future__ import annotations

import pytest

from extproc.control.changes import Create, Declare, Delete, UpdateConfig
from extproc.control.errors import AlreadyExists, Conflict, InvalidParameter
from tests.control.desks import Bench, catalog, document, split
from tests.settings.serving.documents import KEY, external, openai

FILE = "file:/etc/gateway.yaml"
MAP = "configmap:ml/endpoints"


@pytest.fixture
async def bench() -> Bench:
    made = Bench()
    await made.desk.open()
    return made


async def test_what_is_declared_is_what_there_is_of_the_owner(bench: Bench) -> None:
    await bench.desk.apply(Create(document("of-the-api")), "ann")
    await bench.desk.apply(Declare(FILE, [document("one"), document("two")]), FILE)
    await bench.desk.apply(Declare(MAP, [document("mapped")]), MAP)
    applied = await bench.desk.apply(Declare(FILE, [document("two", a=50, b=50), document("three")]), FILE, reason="git 12ab")
    assert [(record.name, record.owner) for record in bench.desk.list()] == [
        ("mapped", MAP),
        ("of-the-api", "api"),
        ("three", FILE),
        ("two", FILE),
    ]
    assert {effect.endpoint: effect.moved for effect in applied.effects} == {"one": 0, "three": 0, "two": 4000}
    assert applied.record is None
    assert bench.table.get("one") is None
    assert bench.desk.get("two").config_version == 2
    assert (await bench.desk.history("two"))[0].reason == "git 12ab"


async def test_saying_the_same_again_changes_nothing(bench: Bench) -> None:
    declared = Declare(FILE, [document("one"), external(openai(openai_api_key_plaintext=KEY))])
    await bench.desk.apply(declared, FILE)
    before, number = bench.desk.list(), bench.desk.number
    for desk in (bench.desk, (await reopened(bench)).desk):
        applied = await desk.apply(declared, FILE)
        assert (applied.effects, applied.revision, desk.list()) == ((), number, before)


async def test_what_is_added_leaves_the_others(bench: Bench) -> None:
    await bench.desk.apply(Declare("api", [document("one"), document("two")]), "ann")
    applied = await bench.desk.apply(Declare("api", [document("two", a=50, b=50), document("three")], whole=False), "ann")
    assert [effect.endpoint for effect in applied.effects] == ["two", "three"]
    assert [record.name for record in bench.desk.list()] == ["one", "three", "two"]


async def reopened(bench: Bench) -> Bench:
    again = Bench(bench.store, new_id=lambda: "another")
    await again.desk.open()
    return again


async def test_what_is_declared_is_laid_out_in_the_order_of_the_list_whatever_was_before(bench: Bench) -> None:
    fresh = Bench()
    await fresh.desk.open()
    for share in (90, 10, 50):
        await bench.desk.apply(Declare(FILE, [document(a=share, b=100 - share)]), FILE)
    await fresh.desk.apply(Declare(FILE, [document(a=50, b=50)]), FILE)
    here, there = bench.table.get("chat"), fresh.table.get("chat")
    assert here is not None
    assert there is not None
    assert [here.owner_of(bucket).name for bucket in (0, 4999, 5000, 9999)] == ["a", "a", "b", "b"]
    assert here.spec.layout == there.spec.layout == ()
    assert bench.desk.get("chat").id == fresh.desk.get("chat").id, "ids are the same on every replica"


async def test_two_owners_are_an_error_that_names_both_and_nothing_is_changed(bench: Bench) -> None:
    await bench.desk.apply(Declare(FILE, [document()]), FILE)
    before = bench.table
    with pytest.raises(Conflict) as raised:
        await bench.desk.apply(Declare(MAP, [document("mine"), document()]), MAP)
    assert raised.value.message == f"servingEndpoints[1].name: the endpoint 'chat' is declared by {MAP} and belongs to {FILE}"
    assert bench.table is before


@pytest.mark.parametrize("change", [UpdateConfig("chat", split(a=50, b=50)), Delete("chat")])
async def test_the_api_does_not_change_what_a_file_declares(bench: Bench, change: UpdateConfig | Delete) -> None:
    await bench.desk.apply(Declare(FILE, [document()]), FILE)
    with pytest.raises(Conflict) as raised:
        await bench.desk.apply(change, "ann")
    assert raised.value.message == f"The endpoint 'chat' belongs to {FILE}, and api can't change it: change it there"
    with pytest.raises(AlreadyExists, match=f"belongs to {FILE}, not to api"):
        await bench.desk.apply(Create(document()), "ann")


async def test_all_that_is_wrong_with_a_file_is_said_at_once_and_nothing_is_changed(bench: Bench) -> None:
    await bench.desk.apply(Declare(FILE, [document()]), FILE)
    before = bench.table
    wrong = [document("a name"), 3, document("sum", a=1), document("unserved", z=100), document("twice"), document("twice")]
    with pytest.raises(InvalidParameter) as raised:
        await bench.desk.apply(Declare(FILE, wrong, "files/x.yaml"), FILE)
    assert [line.partition(": ")[0] for line in raised.value.problems] == [
        "files/x.yaml[0].name",
        "files/x.yaml[1]",
        "files/x.yaml[5].name",
        "files/x.yaml[2].config.traffic_config.routes",
        "files/x.yaml[3].config.served_entities[0].entity_name",
    ]
    assert bench.table is before


async def test_a_file_may_say_that_an_endpoint_is_of_another_kind_now(bench: Bench) -> None:
    await bench.desk.apply(Declare(FILE, [document("proxy")]), FILE)
    await bench.desk.apply(Declare(FILE, [external(openai())]), FILE)
    assert bench.desk.get("proxy").external


async def test_what_a_file_left_as_it_was_may_be_unserved(bench: Bench) -> None:
    await bench.desk.apply(Declare(FILE, [document(a=90, b=10)]), FILE)
    bench.catalog = catalog("a", "c")
    bench.desk.recompile()
    await bench.desk.apply(Declare(FILE, [document(a=90, b=10), document("new", c=100)]), FILE)
    assert set(bench.desk.problems()) == {"chat"}
