"""Whatever is asked for, in whatever order: it is refused in words, or what is served is what is stored."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.control import changes
from extproc.control.changes import Create, Declare, Delete, PatchTags, PutGateway, Revert, UpdateConfig
from extproc.control.errors import DeskError
from extproc.control.specs import layout_of
from extproc.traffic import BUCKETS
from tests.control.desks import Bench
from tests.settings.serving.documents import KEY, openai

NAMES = st.sampled_from(["chat", "proxy", "other"])
LETTERS = st.sampled_from("abcz")
PERCENT = st.sampled_from([0, 10, 50, 90, 100, "50", 101, None, 99.5])
ODD: st.SearchStrategy[Any] = st.sampled_from([None, 3, [], {}, "text", float("nan"), {"served_entities": 3}, [[]]])


@st.composite
def entities(draw: st.DrawFn) -> Any:
    found: list[Any] = []
    for letter in draw(st.lists(LETTERS, min_size=0, max_size=4)):
        match draw(st.sampled_from(["own", "own", "unnamed", "external", "plaintext", "odd"])):
            case "own":
                found.append({"name": letter, "entity_name": f"model-{letter.upper()}"})
            case "unnamed":
                found.append({"entity_name": "cat.schema.m", "entity_version": draw(st.sampled_from(["1", "2", "3", 1]))})
            case "external":
                found.append(openai(letter))
            case "plaintext":
                found.append(openai(letter, openai_api_key_plaintext=KEY))
            case _:
                found.append(draw(ODD))
    return found


@st.composite
def configs(draw: st.DrawFn) -> Any:
    config: dict[str, Any] = {}
    if draw(st.booleans()):
        config["served_entities"] = draw(entities())
    if draw(st.booleans()):
        shares = draw(st.lists(st.tuples(LETTERS, PERCENT), max_size=4))
        config["traffic_config"] = {
            "routes": [{"served_entity_name": name, "traffic_percentage": each} for name, each in shares]
        }
    if draw(st.booleans()):
        config["sticky"] = draw(st.sampled_from(["key", "none", 1]))
    return config


def whole(name: str, a: int, letter: str) -> dict[str, Any]:
    found = [{"name": each, "entity_name": f"model-{each.upper()}"} for each in ("a", letter if letter != "a" else "b")]
    routes = [
        {"served_model_name": each["name"], "traffic_percentage": share}
        for each, share in zip(found, (a, 100 - a), strict=True)
    ]
    return {"name": name, "config": {"served_entities": found, "traffic_config": {"routes": routes}}}


WHOLE = st.builds(whole, NAMES, st.integers(0, 100), st.sampled_from("bc"))
DOCUMENTS = st.one_of(WHOLE, WHOLE, st.fixed_dictionaries({"name": NAMES, "config": configs()}), ODD)
CHANGES = st.one_of(
    st.builds(Create, DOCUMENTS),
    st.builds(UpdateConfig, NAMES, st.one_of(configs(), WHOLE.map(lambda each: each["config"]), ODD)),
    st.builds(Delete, NAMES, st.booleans()),
    st.builds(PatchTags, NAMES, st.one_of(ODD, st.just({"add_tags": [{"key": "k", "value": "v"}], "delete_tags": ["k"]}))),
    st.builds(PutGateway, NAMES, st.one_of(ODD, st.just({"fallback_config": {"enabled": True}}))),
    st.builds(Revert, NAMES, st.integers(1, 4)),
    st.builds(Declare, st.sampled_from(["file:x", "file:y"]), st.lists(DOCUMENTS, max_size=2)),
)


async def check(bench: Bench) -> None:
    """What is served is what is known, and what another replica reads."""
    records = {record.name: record for record in bench.desk.list()}
    assert {endpoint.name for endpoint in bench.table} == set(records)
    for endpoint in bench.table:
        record = records[endpoint.name]
        assert {each.name: each.percentage for each in endpoint.entities} == record.percentages
        assert sum(record.percentages.values()) == 100
        sizes = dict.fromkeys(record.percentages, 0)
        for name, size in layout_of(record):
            sizes[name] += size
        assert sizes == {name: share * BUCKETS // 100 for name, share in record.percentages.items()}
        assert set(record.born) == set(record.percentages)
        assert KEY not in repr(record) + repr(endpoint.spec)
        assert all(bench.desk.secret(handle) is not None for handle in record.sealed)
    again = Bench(bench.store)
    await again.desk.open()
    assert {record.name: record for record in again.desk.list()} == records
    assert again.desk.problems() == bench.desk.problems() == {}


def said(error: DeskError) -> None:
    assert error.problems
    assert KEY not in error.message


async def made(asked: list[tuple[changes.DeskChange, bool]]) -> None:
    bench = Bench()
    await bench.desk.open()
    for change, dry_run in asked:
        before = (bench.table, bench.desk.number)
        try:
            applied = await bench.desk.apply(change, "ann", dry_run=dry_run)
        except DeskError as error:
            said(error)
            assert (bench.table, bench.desk.number) == before
        else:
            assert KEY not in repr(applied)
            assert not dry_run or (bench.table, bench.desk.number) == before
            assert dry_run or applied.revision == bench.desk.number == before[1] + len(applied.effects)
    await check(bench)
    for name in ("chat", "proxy", "other"):
        history = await bench.store.history(name)
        if history:
            assert len(await bench.desk.history(name)) == len(history)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CHANGES, st.sampled_from([False, False, False, True])), min_size=1, max_size=12))
def test_any_changes_in_any_order(asked: list[tuple[changes.DeskChange, bool]]) -> None:
    asyncio.run(made(asked))
