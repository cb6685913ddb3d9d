"""Serving endpoints: who serves a key, by which names an endpoint is reached."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import AmbiguousModel, UnknownServedEntity
from extproc.traffic import (
    Catalog,
    EndpointSpec,
    EntitySpec,
    ExternalSpec,
    Route,
    RouteTable,
    ServingEndpoint,
    TrafficTable,
    laid_out,
    positioned,
)
from extproc.traffic.serving import ALONE, BY_DRAW, BY_KEY
from tests.fakes.chance import Draws

CATALOG = Catalog(routes=RouteTable([Route(("model-A", "model-B", "model-C"), "pool")]))
MODELS = {"a": "model-A", "b": "model-B", "c": "model-C"}


def endpoint(name: str = "chat", sticky: bool = True, fallback: bool = False, salt: str = "", **shares: int) -> ServingEndpoint:
    entities = tuple(EntitySpec(each, MODELS[each]) for each in shares)
    spec = EndpointSpec(name, entities, tuple(shares.values()), sticky=sticky, fallback=fallback, salt=salt)
    return ServingEndpoint(spec, CATALOG)


def never() -> float:
    raise AssertionError("nobody draws where there is a key")


def external(name: str, model: str = "gpt-4o") -> ServingEndpoint:
    entity = EntitySpec("gpt", external=ExternalSpec(model, "openai", "llm/v1/chat"))
    return ServingEndpoint(EndpointSpec(name, (entity,), (100,)), CATALOG)


class TestChoosing:
    def test_the_same_key_is_served_by_the_same_entity(self) -> None:
        chat = endpoint(a=50, b=50)
        again = endpoint(a=50, b=50)
        for user in range(200):
            key = str(user).encode()
            assert chat.choose(key, never)[0].name == again.choose(key, never)[0].name
        assert chat.choose(b"u", never)[1] == BY_KEY

    def test_each_share_is_what_it_says(self) -> None:
        chat = endpoint(a=90, b=7, c=3)
        counts = Counter(chat.choose(b"user-%d" % user, never)[0].name for user in range(100_000))
        for name, share in (("a", 90), ("b", 7), ("c", 3)):
            assert counts[name] / 1000 == pytest.approx(share, abs=0.35)  # 3.7 standard deviations at 90 %

    def test_endpoints_split_the_same_users_differently_unless_they_share_a_salt(self) -> None:
        keys = [b"user-%d" % user for user in range(1000)]

        def named(chat: ServingEndpoint) -> list[str]:
            return [chat.choose(key, never)[0].name for key in keys]

        assert named(endpoint("one", a=50, b=50)) != named(endpoint("two", a=50, b=50))
        assert named(endpoint("one", salt="x", a=50, b=50)) == named(endpoint("two", salt="x", a=50, b=50))

    def test_without_a_key_it_is_drawn(self) -> None:
        chat = endpoint(a=90, b=10)
        drawn = [chat.choose(None, Draws(number)) for number in (0.0, 0.8999, 0.9, 0.9999999999999999)]
        assert [(entity.name, reason) for entity, reason in drawn] == [
            *[("a", BY_DRAW)] * 2,
            *[("b", BY_DRAW)] * 2,
        ]

    def test_one_that_is_not_sticky_always_draws(self) -> None:
        assert endpoint(sticky=False, a=90, b=10).choose(b"user", Draws(0.95))[0].name == "b"

    def test_an_entity_that_has_all_needs_neither_key_nor_draw(self) -> None:
        chat = endpoint(a=100, b=0)
        assert chat.choose(b"user", never) == (chat.entity("a"), ALONE)
        assert chat.only is chat.entity("a")
        assert endpoint(a=99, b=1).only is None

    def test_a_layout_says_whose_buckets_they_are(self) -> None:
        before = laid_out({"a": 50, "b": 50})
        after = laid_out({"a": 40, "b": 60}, before)
        spec = EndpointSpec("chat", (EntitySpec("a", "model-A"), EntitySpec("b", "model-B")), (40, 60))
        chat = ServingEndpoint(spec._replace(layout=positioned(after, ["a", "b"])), CATALOG)
        assert [chat.owner_of(bucket).name for bucket in (0, 3999, 4000, 5000, 9999)] == ["a", "a", "b", "b", "b"]

    @given(st.binary(max_size=200))
    def test_any_key_has_a_bucket(self, key: bytes) -> None:
        chat = endpoint(a=50, b=50)
        bucket = chat.bucket_of(key)
        assert 0 <= bucket < 10_000
        assert chat.choose(key, never)[0] is chat.owner_of(bucket)

    def test_raising_a_share_keeps_the_users_who_had_it(self) -> None:
        keys = [b"user-%d" % user for user in range(2000)]
        layout = laid_out({"a": 90, "b": 10})
        on_b: list[set[bytes]] = []
        for share in (10, 20, 50, 100):
            layout = laid_out({"a": 100 - share, "b": share}, layout)
            spec = EndpointSpec("chat", (EntitySpec("a", "model-A"), EntitySpec("b", "model-B")), (100 - share, share))
            chat = ServingEndpoint(spec._replace(layout=positioned(layout, ["a", "b"])), CATALOG)
            on_b.append({key for key in keys if chat.choose(key, never)[0].name == "b"})
        assert all(before < after for before, after in pairwise(on_b))


class TestEntities:
    def test_what_an_entity_names(self) -> None:
        chat = endpoint(a=90, b=10)
        entity = chat.entity("b")
        assert (entity.model, entity.pool, entity.path, entity.problem) == ("model-B", "pool", "/invocations", "")
        assert entity.response_headers == (("served-model-name", "b"),)
        assert repr(entity) == "<ServedEntity chat/b 10 % model-B at pool>"

    def test_an_unknown_one_is_told_what_there_is(self) -> None:
        with pytest.raises(UnknownServedEntity, match=r"`chat` has no served entity `x`. There are: a, b"):
            endpoint(a=90, b=10).entity("x")

    def test_one_whose_model_is_gone_stays_and_says_so(self) -> None:
        spec = EndpointSpec("chat", (EntitySpec("a", "model-A"), EntitySpec("gone", "model-X")), (50, 50))
        chat = ServingEndpoint(spec, CATALOG)
        assert chat.entity("a").problem == ""
        assert "no pool serves 'model-X'" in chat.entity("gone").problem

    def test_a_providers_has_no_pool(self) -> None:
        entity = external("chat").entity("gpt")
        assert (entity.model, entity.pool, entity.problem) == ("gpt-4o", "", "")

    def test_attempts_are_the_others_in_the_order_of_the_list(self) -> None:
        chat = endpoint(fallback=True, a=50, b=50, c=0)
        assert [entity.name for entity in chat.attempts(chat.entity("b"))] == ["b", "a", "c"]
        alone = endpoint(a=50, b=50)
        assert [entity.name for entity in alone.attempts(alone.entity("b"))] == ["b"]

    @pytest.mark.parametrize("percentages", [(50, 49), (100,), (50, 51), ()])
    def test_a_split_that_is_none_is_refused(self, percentages: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="expected 100 in all"):
            ServingEndpoint(EndpointSpec("chat", (EntitySpec("a"), EntitySpec("b")), percentages), CATALOG)

    def test_a_layout_that_is_short_is_refused(self) -> None:
        with pytest.raises(ValueError, match="has not 10000 buckets"):
            ServingEndpoint(EndpointSpec("chat", (EntitySpec("a", "model-A"),), (100,), layout=((0, 9999),)), CATALOG)


class TestTable:
    def test_an_endpoint_is_found_by_its_name(self) -> None:
        chat = endpoint(a=90, b=10)
        table = TrafficTable([chat])
        assert table.get("chat") is chat
        assert table.get("model-A") is None
        assert (len(table), list(table), table.is_empty) == (1, [chat], False)
        assert TrafficTable().is_empty

    def test_a_model_of_one_endpoint_leads_to_its_entity(self) -> None:
        chat = endpoint(a=90, b=10)
        assert TrafficTable([chat]).of_model("model-B") == (chat, chat.entity("b"))
        assert TrafficTable([chat]).of_model("model-C") is None

    def test_a_model_of_several_entities_of_one_endpoint_is_split(self) -> None:
        spec = EndpointSpec("chat", (EntitySpec("x", "model-A", "1"), EntitySpec("y", "model-A", "2")), (50, 50))
        chat = ServingEndpoint(spec, CATALOG)
        assert TrafficTable([chat]).of_model("model-A") == (chat, None)

    def test_a_model_of_a_pool_that_several_endpoints_have_is_the_pools(self) -> None:
        assert TrafficTable([endpoint("one", a=100), endpoint("two", a=100)]).of_model("model-A") is None

    def test_a_providers_model_that_several_endpoints_have_is_ambiguous(self) -> None:
        table = TrafficTable([external("two"), external("one")])
        with pytest.raises(AmbiguousModel, match="`gpt-4o` is served by several endpoints; name one of them: one, two"):
            table.of_model("gpt-4o")

    def test_a_change_is_another_table(self) -> None:
        one, two = endpoint("one", a=100), endpoint("two", b=100)
        before = TrafficTable([one, two])
        replaced = endpoint("one", c=100)
        after = before.changed({"one": replaced, "two": None, "never-there": None})
        assert list(before) == [one, two]
        assert list(after) == [replaced]
        assert after.of_model("model-B") is None
