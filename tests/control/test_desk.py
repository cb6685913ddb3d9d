from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from extproc.control import changes
from extproc.control.changes import Create, Delete, PatchTags, PutGateway, PutRateLimits, Revert, UpdateConfig
from extproc.control.desk import Problem
from extproc.control.errors import AlreadyExists, Conflict, DeskError, DoesNotExist, InvalidParameter, Unavailable
from extproc.traffic import EndpointSpec, RateLimit
from tests.control.desks import START_MS, Bench, catalog, document, split
from tests.settings.serving.documents import KEY, external, openai


@pytest.fixture
async def bench() -> Bench:
    made = Bench()
    await made.desk.open()
    return made


async def refused(bench: Bench, change: changes.DeskChange, **words: Any) -> DeskError:
    before, number = bench.table, bench.desk.number
    with pytest.raises(DeskError) as raised:
        await bench.desk.apply(change, "eve", **words)
    assert (bench.table, bench.desk.number) == (before, number)
    return raised.value


async def test_what_is_created_is_served_and_stored(bench: Bench) -> None:
    applied = await bench.desk.apply(Create(document()), "ann", reason="begin")
    assert bench.shares("chat") == {"a": 90, "b": 10}
    record = bench.desk.get("chat")
    assert applied.record is record
    assert (record.creator, record.owner, record.config_version, record.id) == ("ann", "api", 1, "id1")
    assert (record.created_ms, record.updated_ms) == (START_MS, START_MS)
    assert record.born == {"a": ("ann", START_MS), "b": ("ann", START_MS)}
    again = Bench(bench.store)
    await again.desk.open()
    assert again.desk.get("chat") == record
    assert again.shares("chat") == {"a": 90, "b": 10}


async def test_a_split_is_changed_and_few_move(bench: Bench) -> None:
    await bench.desk.apply(Create(document(a=90, b=10)), "ann")
    applied = await bench.desk.apply(UpdateConfig("chat", split(a=80, b=20)), "bob")
    assert bench.shares("chat") == {"a": 80, "b": 20}
    assert bench.desk.get("chat").layout == (("a", 8000), ("b", 2000))
    assert applied.effect is not None
    assert (applied.effect.moved, applied.effect.before, applied.effect.after) == (
        1000,
        {"a": 9000, "b": 1000},
        {"a": 8000, "b": 2000},
    )
    record = bench.desk.get("chat")
    assert (record.config_version, record.created_ms < record.updated_ms) == (2, True)
    assert record.born == {"a": ("ann", START_MS), "b": ("ann", START_MS)}, "the entities are the same"


async def test_a_dry_run_says_all_and_does_nothing(bench: Bench) -> None:
    await bench.desk.apply(Create(document(a=90, b=10)), "ann")
    before = bench.table
    applied = await bench.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "bob", dry_run=True)
    assert applied.effect is not None
    assert applied.effect.moved == 4000
    assert applied.record is not None
    assert applied.record.percentages == {"a": 50, "b": 50}
    assert bench.table is before
    assert bench.desk.get("chat").config_version == 1
    assert len(await bench.desk.history("chat")) == 1


async def test_pools_loads_are_told_when_somebody_knows_them() -> None:
    bench = Bench(load_of=lambda pool: {"waiting": float(len(pool))})
    await bench.desk.open()
    applied = await bench.desk.apply(Create(document(a=100, b=0)), "ann", dry_run=True)
    assert applied.effect is not None
    assert {pool: each[:2] for pool, each in applied.effect.pools.items()} == {"a": (0, 100), "b": (0, 0)}
    assert applied.effect.pools["a"].load == {"waiting": 1.0}


async def test_what_does_nothing_here_is_said(bench: Bench) -> None:
    words = {**document(), "email_notifications": {"on_update_failure": ["x"]}}
    applied = await bench.desk.apply(Create(words), "ann")
    assert applied.effect is not None
    assert applied.effect.notes == ("email_notifications is kept and has no effect here",)


async def test_only_what_is_given_is_replaced(bench: Bench) -> None:
    await bench.desk.apply(Create({**document(), "description": "words"}), "ann")
    entities = [{"name": each, "entity_name": f"model-{each.upper()}"} for each in "abc"]
    await bench.desk.apply(UpdateConfig("chat", {"served_entities": entities}), "ann")
    assert bench.shares("chat") == {"a": 90, "b": 10, "c": 0}
    await bench.desk.apply(UpdateConfig("chat", {"sticky": "none"}), "ann")
    assert bench.shares("chat") == {"a": 90, "b": 10, "c": 0}
    endpoint = bench.table.get("chat")
    assert endpoint is not None
    assert not endpoint.sticky
    assert bench.desk.get("chat").description == "words"


async def test_an_entity_that_has_traffic_is_not_dropped_in_silence(bench: Bench) -> None:
    await bench.desk.apply(Create(document()), "ann")
    error = await refused(
        bench, UpdateConfig("chat", {"served_entities": [*document(a=90, c=10)["config"]["served_entities"]]})
    )
    assert isinstance(error, InvalidParameter)
    assert "'b' is left out, which has 10 % of the traffic" in error.message


async def test_who_has_one_entity_needs_no_split_to_replace_it(bench: Bench) -> None:
    await bench.desk.apply(
        Create({"name": "one", "config": {"served_entities": [{"entity_name": "cat.schema.m", "entity_version": "1"}]}}), "ann"
    )
    assert bench.shares("one") == {"cat-schema-m-1": 100}
    await bench.desk.apply(
        UpdateConfig("one", {"served_entities": [{"entity_name": "cat.schema.m", "entity_version": "2"}]}), "ann"
    )
    assert bench.shares("one") == {"cat-schema-m-2": 100}
    assert bench.desk.get("one").layout == (("cat-schema-m-2", 10_000),)


@pytest.mark.parametrize(
    ("entity", "said"),
    [
        (
            {"entity_name": "model-Z"},
            "config.served_entities[0].entity_name: got 'model-Z'; expected an entity that a pool serves",
        ),
        ({"entity_name": "cat.schema.m", "entity_version": "3"}, "has versions 1, 2, and version '3' was asked for"),
    ],
)
async def test_an_entity_that_no_pool_serves_is_refused(bench: Bench, entity: dict[str, Any], said: str) -> None:
    error = await refused(bench, Create({"name": "chat", "config": {"served_entities": [entity]}}))
    assert isinstance(error, InvalidParameter)
    assert said in error.message
    assert (error.status, error.code) == (400, "INVALID_PARAMETER_VALUE")


async def test_own_models_do_not_become_external_ones(bench: Bench) -> None:
    await bench.desk.apply(Create(document()), "ann")
    await bench.desk.apply(Create(external(openai())), "ann")
    error = await refused(bench, UpdateConfig("chat", external(openai())["config"]))
    assert "got external models; expected own ones as before" in error.message
    error = await refused(bench, UpdateConfig("proxy", document()["config"]))
    assert "got own models; expected external ones as before" in error.message


async def test_more_entities_than_set_are_refused() -> None:
    bench = Bench(most_entities=1)
    await bench.desk.open()
    assert "got 2 entities; expected at most 1" in (await refused(bench, Create(document()))).message


async def test_what_is_there_is_not_created_again(bench: Bench) -> None:
    await bench.desk.apply(Create(document()), "ann")
    error = await refused(bench, Create(document()))
    assert isinstance(error, AlreadyExists)
    assert (error.status, error.code) == (409, "RESOURCE_ALREADY_EXISTS")


@pytest.mark.parametrize("change", [UpdateConfig("no", split(a=100)), Delete("no"), PatchTags("no", {}), Revert("no", 1)])
async def test_what_is_not_there_is_not_changed(bench: Bench, change: changes.DeskChange) -> None:
    error = await refused(bench, change)
    assert isinstance(error, DoesNotExist)
    assert error.message == "The serving endpoint 'no' does not exist"
    with pytest.raises(DoesNotExist):
        bench.desk.get("no")


async def test_who_has_seen_an_older_version_is_told(bench: Bench) -> None:
    await bench.desk.apply(Create(document()), "ann")
    await bench.desk.apply(UpdateConfig("chat", split(a=80, b=20)), "ann", expected=1)
    error = await refused(bench, UpdateConfig("chat", split(a=70, b=30)), expected=1)
    assert isinstance(error, Conflict)
    assert error.message == "config_version: got 1; expected 2: the endpoint 'chat' was changed meanwhile"


async def test_an_endpoint_goes_and_its_history_stays(bench: Bench) -> None:
    await bench.desk.apply(Create(document()), "ann")
    applied = await bench.desk.apply(Delete("chat"), "bob", reason="done")
    assert applied.record is None
    assert bench.table.get("chat") is None
    newest, oldest = await bench.desk.history("chat")
    assert (newest.kind, newest.actor, newest.reason, newest.record) == ("delete", "bob", "done", None)
    assert oldest.config_version == 1
    with pytest.raises(DoesNotExist):
        await bench.desk.history("never")


async def test_tags_go_and_come(bench: Bench) -> None:
    await bench.desk.apply(Create({**document(), "tags": [{"key": "a", "value": "1"}, {"key": "b"}]}), "ann")
    await bench.desk.apply(PatchTags("chat", {"add_tags": [{"key": "c", "value": "3"}], "delete_tags": ["a", "gone"]}), "ann")
    record = bench.desk.get("chat")
    assert record.tags == {"b": None, "c": "3"}
    assert record.config_version == 1, "tags are no part of the config"
    many = {"add_tags": [{"key": str(i)} for i in range(99)]}
    assert "got 101 tags with those of before; expected at most 100" in (await refused(bench, PatchTags("chat", many))).message


async def test_limits_and_fallback_reach_the_table(bench: Bench) -> None:
    await bench.desk.apply(Create(document()), "ann")
    gateway = {
        "fallback_config": {"enabled": True},
        "rate_limits": [{"renewal_period": "minute", "key": "user", "tokens": 100}],
        "usage_tracking_config": {"enabled": True},
    }
    await bench.desk.apply(PutGateway("chat", gateway), "ann")
    limits = [{"calls": 5, "renewal_period": "minute", "key": key} for key in ("user", "endpoint")]
    await bench.desk.apply(PutRateLimits("chat", {"rate_limits": limits}), "ann")
    endpoint = bench.table.get("chat")
    assert endpoint is not None
    assert (endpoint.spec.fallback, endpoint.spec.usage_tracking) == (True, True)
    assert endpoint.spec.rate_limits == (RateLimit("user", None, 100), RateLimit("endpoint", 5))
    await bench.desk.apply(PutGateway("chat", {}), "ann")
    endpoint = bench.table.get("chat")
    assert endpoint is not None
    assert not endpoint.spec.fallback


@pytest.mark.parametrize("change", [changes.PatchNotifications, changes.PatchTelemetry])
async def test_what_has_no_effect_is_kept(bench: Bench, change: Any) -> None:
    await bench.desk.apply(Create(document()), "ann")
    field = "email_notifications" if change is changes.PatchNotifications else "telemetry_config"
    await bench.desk.apply(change("chat", {field: {"on_update_failure": ["x"]}}), "ann")
    record = bench.desk.get("chat")
    assert {"on_update_failure": ["x"]} in (record.notifications, record.telemetry)


# -- history ---------------------------------------------------------------------------------------------------------------


async def test_the_history_says_who_changed_what_and_why(bench: Bench) -> None:
    await bench.desk.apply(Create(document()), "ann")
    await bench.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "bob", reason="looks good")
    await bench.desk.apply(PatchTags("chat", {"add_tags": [{"key": "k", "value": "v"}]}), "cid")
    tags, update, create = await bench.desk.history("chat")
    assert [(each.revision, each.kind, each.actor, each.reason) for each in (tags, update, create)] == [
        (3, "tags", "cid", ""),
        (2, "update", "bob", "looks good"),
        (1, "create", "ann", ""),
    ]
    assert [tuple(each) for each in update.changed] == [("config.traffic.a", 90, 50), ("config.traffic.b", 10, 50)]
    assert [tuple(each) for each in tags.changed] == [("tags.k", None, "v")]
    assert ("config.served_entities.a.entity_name", None, "model-A") in [tuple(each) for each in create.changed]
    assert [each.revision for each in await bench.desk.history("chat", before=3, limit=1)] == [2]


async def test_a_revert_brings_back_everybody_to_where_they_were(bench: Bench) -> None:
    await bench.desk.apply(Create(document(a=90, b=10)), "ann")
    first = bench.desk.get("chat")
    await bench.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "ann")
    await bench.desk.apply(UpdateConfig("chat", document(b=30, c=70)["config"]), "ann")
    await bench.desk.apply(PatchTags("chat", {"add_tags": [{"key": "stays"}]}), "ann")
    applied = await bench.desk.apply(Revert("chat", 1), "bob", expected=3)
    record = bench.desk.get("chat")
    assert applied.record is record
    assert (record.config_version, record.entities, record.percentages, record.layout) == (
        4,
        first.entities,
        first.percentages,
        first.layout,
    )
    assert record.tags == {"stays": None}
    assert (await bench.desk.history("chat", limit=1))[0].kind == "revert"


async def test_a_version_that_was_never_there_is_not_reverted_to(bench: Bench) -> None:
    await bench.desk.apply(Create(document()), "ann")
    await bench.desk.apply(Delete("chat"), "ann")
    await bench.desk.apply(Create(document(a=100)), "ann")
    await bench.desk.apply(UpdateConfig("chat", {"sticky": "none"}), "ann")
    assert (await bench.desk.apply(Revert("chat", 1), "ann", dry_run=True)).record is not None
    assert isinstance(error := await refused(bench, Revert("chat", 7)), DoesNotExist)
    assert "no version 7 in its history" in error.message


async def test_a_revert_to_models_that_are_gone_is_refused(bench: Bench) -> None:
    await bench.desk.apply(Create(document(a=100)), "ann")
    await bench.desk.apply(UpdateConfig("chat", document(b=100)["config"]), "ann")
    bench.catalog = catalog("b")
    assert "served_entities[0].entity_name: got 'model-A'" in (await refused(bench, Revert("chat", 1))).message


# -- models that leave -----------------------------------------------------------------------------------------------------


async def test_an_endpoint_whose_model_is_gone_stays_and_is_said(bench: Bench) -> None:
    await bench.desk.apply(Create(document(a=90, b=10)), "ann")
    await bench.desk.apply(Create(document("other", c=100)), "ann")
    bench.catalog = catalog("a", "c")
    bench.desk.recompile()
    assert bench.desk.problems() == {"chat": ["b: no pool serves 'model-B'; there are: cat.schema.m, model-A, model-C"]}
    assert bench.shares("chat") == {"a": 90, "b": 10}
    assert bench.shares("other") == {"c": 100}
    await bench.desk.apply(PatchTags("chat", {"add_tags": [{"key": "k"}]}), "ann")
    await bench.desk.apply(UpdateConfig("chat", split(a=95, b=5)), "ann")
    error = await refused(bench, UpdateConfig("chat", split(a=50, b=50)))
    assert "served_entities[1].entity_name: got 'model-B'" in error.message


# -- secrets ---------------------------------------------------------------------------------------------------------------


async def test_a_secret_given_as_text_is_kept_and_shown_to_nobody(bench: Bench) -> None:
    applied = await bench.desk.apply(Create(external(openai(openai_api_key_plaintext=KEY))), "ann")
    record = bench.desk.get("proxy")
    assert record.config["served_entities"][0]["external_model"]["openai_config"] == {
        "openai_api_key": "{{secrets/@plaintext/id2}}"
    }
    secret = bench.desk.secret("id2")
    assert secret is not None
    assert secret.reveal() == KEY
    assert bench.desk.secret("other") is None
    history = await bench.desk.history("proxy")
    for shown in (record, applied, history, history[0].changed, bench.table.get("proxy"), bench.desk):
        assert KEY not in repr(shown)
    endpoint = bench.table.get("proxy")
    assert endpoint is not None
    assert endpoint.entities[0].external is not None
    assert endpoint.entities[0].external.options == (("openai_api_key", "{{secrets/@plaintext/id2}}"),)


async def test_a_secret_stays_when_its_reference_comes_back_and_goes_when_it_does_not(bench: Bench) -> None:
    await bench.desk.apply(Create(external(openai(openai_api_key_plaintext=KEY))), "ann")
    echoed = bench.desk.get("proxy").config
    await bench.desk.apply(UpdateConfig("proxy", {"served_entities": echoed["served_entities"]}), "ann")
    assert list(bench.desk.get("proxy").sealed) == ["id2"]
    await bench.desk.apply(UpdateConfig("proxy", {"served_entities": [openai()]}), "ann")
    assert not bench.desk.get("proxy").sealed
    assert bench.desk.secret("id2") is None


async def test_nobody_uses_the_secrets_of_another_endpoint(bench: Bench) -> None:
    await bench.desk.apply(Create(external(openai(openai_api_key_plaintext=KEY))), "ann")
    thief = external(openai(openai_api_key="{{secrets/@plaintext/id2}}"), name="thief")
    error = await refused(bench, Create(thief))
    assert error.message == (
        "config.served_entities[0].external_model.openai_config.openai_api_key: "
        "got a reference to a secret that this endpoint does not keep; expected another one"
    )


async def test_what_somebody_else_knows_of_an_entity_is_asked_for_and_said_with_its_path() -> None:
    asked: list[EndpointSpec] = []

    async def verify(spec: EndpointSpec) -> Sequence[Problem]:
        asked.append(spec)
        return [Problem(each.name, "openai_config.openai_api_key", "expected a secret that there is") for each in spec.entities]

    bench = Bench(verify=verify)
    await bench.desk.open()
    error = await refused(bench, Create(external(openai("a"), openai("b"))))
    assert error.problems == tuple(
        f"config.served_entities[{i}].external_model.openai_config.openai_api_key: expected a secret that there is"
        for i in (0, 1)
    )
    assert [spec.name for spec in asked] == ["proxy"]


# -- who stops waiting -----------------------------------------------------------------------------------------------------


async def test_who_stops_waiting_does_not_stop_the_change(bench: Bench) -> None:
    waiting = asyncio.ensure_future(bench.desk.apply(Create(document()), "ann"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await bench.desk.close()
    assert bench.shares("chat") == {"a": 90, "b": 10}


@pytest.mark.parametrize("reason", ["x" * 1025, "a\0b"])
async def test_a_reason_is_short_and_plain(bench: Bench, reason: str) -> None:
    assert "reason: got" in (await refused(bench, Create(document()), reason=reason)).message


async def test_a_desk_that_is_not_open_changes_nothing() -> None:
    assert isinstance(await refused(Bench(), Create(document())), Unavailable)


async def test_endpoints_are_found_by_name_and_by_id(bench: Bench) -> None:
    for name in ("b", "a"):
        await bench.desk.apply(Create(document(name)), "ann")
    assert [record.name for record in bench.desk.list()] == ["a", "b"]
    assert bench.desk.by_id(bench.desk.get("a").id).name == "a"
    with pytest.raises(DoesNotExist):
        bench.desk.by_id("no")
