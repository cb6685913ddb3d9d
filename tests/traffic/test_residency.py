"""Residency: what every rule that matches allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import InferenceRequest, RequestHead
from extproc.request import parse
from extproc.traffic import Catalog, CatalogEntry, EndpointSpec, EntitySpec, Route, RouteTable, Served, ServingEndpoint
from extproc.traffic.conditions import Asking, Wanted
from extproc.traffic.match import MatchSpec
from extproc.traffic.residency import ANYWHERE, Kept, Residency, ResidencySpec
from extproc.traffic.segments import Segments, SegmentSpec
from extproc.traffic.serving import NOT_KEPT

CLINIC = MatchSpec(headers=(("x-tenant", Wanted("exact", ("clinic",))),))


def request(body: bytes = b"{}", **headers: str) -> InferenceRequest:
    given = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    head = RequestHead({":method": b"POST", ":path": b"/v1/chat/completions", "content-type": b"application/json", **given})
    return parse(head, body)


def asking(what: InferenceRequest, region: str = "west", key: bytes | None = None) -> Asking:
    return Asking(what, "m", lambda: 0.0, lambda: 0.0, key, region=region.encode())


def kept(*rules: ResidencySpec, what: InferenceRequest | None = None, entity: str = "", before: Kept = ANYWHERE) -> Kept:
    return Residency(rules).kept(asking(what or request()), "west", entity, before)


def where(found: Kept) -> set[str] | None:
    return None if found.regions is None else set(found.regions)


def test_without_rules_it_may_go_anywhere() -> None:
    assert where(kept()) is None
    assert not Residency(())


def test_every_rule_that_matches_counts() -> None:
    eu = ResidencySpec("eu", ("west", "north"))
    clinic = ResidencySpec("clinic", (), (CLINIC,))
    assert kept(eu, clinic) == Kept(frozenset({"west", "north"}), ("eu",))
    assert kept(eu, clinic, what=request(x_tenant="clinic")) == Kept(frozenset({"west"}), ("eu", "clinic"))
    assert kept(clinic, what=request(x_tenant="clinic"), before=Kept(frozenset({"east"}), ("gateway",))) == Kept(
        frozenset(), ("gateway", "clinic")
    )


def test_a_rule_about_some_entities() -> None:
    rule = ResidencySpec("small", ("north",), entities=("a",))
    assert where(kept(rule, entity="a")) == {"north"}
    assert where(kept(rule, entity="b")) is None
    assert where(kept(rule)) is None


def test_its_own_region_is_where_it_comes_from_also_for_conditions() -> None:
    own = Residency([ResidencySpec("own", (), (MatchSpec(regions=("north",)),))])
    claims = request(x_gateway_region="north")  # which nobody trusts here
    assert where(own.kept(asking(claims, "west"), "west", "")) is None
    assert where(own.kept(asking(claims, "north"), "north", "")) == {"north"}


def test_a_rule_whose_expression_gives_no_answer_is_kept() -> None:
    rule = ResidencySpec("adults", (), (MatchSpec(expression="body.age < 18"),))
    assert where(kept(rule, what=request(b'{"age": 30}'))) is None
    assert where(kept(rule, what=request(b'{"age": 3}'))) == {"west"}
    assert where(kept(rule, what=request(b'{"age": "x"}'))) == {"west"}


def test_it_says_whether_it_asks_who_asks() -> None:
    segments = Segments([SegmentSpec("vip", keys=frozenset({b"ann"}))])
    rules = Residency([ResidencySpec("vip", (), (MatchSpec(segments=("vip",)),))], "chat", segments)
    assert rules.needs_key
    assert not Residency([ResidencySpec("all", ())]).needs_key
    assert where(rules.kept(asking(request(), key=b"ann"), "west", "")) == {"west"}
    assert where(rules.kept(asking(request(), key=b"bob"), "west", "")) is None


def test_a_rule_whose_segment_went_is_kept_for_all() -> None:
    rules = [ResidencySpec("vip", (), (MatchSpec(segments=("vip",)),))]
    assert where(Residency(rules).kept(asking(request()), "west", "")) == {"west"}
    there = Segments([SegmentSpec("vip", keys=frozenset({b"ann"}))])
    assert where(Residency(rules, "", there).kept(asking(request()), "west", "")) is None


NAMES = st.sampled_from(["west", "north", "east"])


@given(st.lists(st.tuples(st.lists(NAMES, max_size=3), st.booleans()), max_size=5))
def test_what_is_allowed_is_what_all_allow(rules: list[tuple[list[str], bool]]) -> None:
    specs = [
        ResidencySpec(str(number), tuple(regions), (CLINIC,) if clinic else ())
        for number, (regions, clinic) in enumerate(rules)
    ]
    got = kept(*specs)
    assert got.rules == tuple(spec.name for spec in specs if not spec.matches)
    for region in ("west", "north", "east"):
        wanted = all(region in (spec.regions or ("west",)) for spec in specs if not spec.matches)
        assert (got.regions is None or region in got.regions) == wanted


def endpoint(regions: tuple[str, ...], *rules: ResidencySpec) -> ServingEndpoint:
    routes = RouteTable([Route(("m",), "p", ("q",)), Route(("n",), "p")])
    catalog = Catalog([CatalogEntry("A", "", Served("m", "p", beside=("q", "r")))], routes, regions=regions)
    entities = (EntitySpec("a", "A"), EntitySpec("b", "m"), EntitySpec("c", "n"))
    return ServingEndpoint(EndpointSpec("chat", entities, (100, 0, 0), residency=rules), catalog)


def test_an_entity_knows_all_pools_that_serve_it() -> None:
    made = endpoint(("west",))
    assert [entity.pools for entity in made.entities] == [("p", "q", "r"), ("p", "q"), ("p",)]
    assert [entity.pool for entity in made.entities] == ["p", "p", "p"]
    assert not made.problems


def test_an_endpoint_whose_residency_can_not_be_kept_is_not_served() -> None:
    made = endpoint((), ResidencySpec("eu", ("west",)))
    assert {entity.problem for entity in made.entities} == {NOT_KEPT}
    assert made.problems == (f"residency eu: {NOT_KEPT}",)


def test_a_region_that_has_gone_is_told() -> None:
    made = endpoint(("west",), ResidencySpec("eu", ("west", "mars"), (MatchSpec(segments=("gone",)),)))
    assert [entity.problem for entity in made.entities] == ["", "", ""]
    assert made.problems == (
        "residency eu: there is no segment 'gone', so it is kept for all requests",
        "residency eu: there is no region 'mars', so nothing is served there",
    )


@pytest.mark.parametrize(("model", "beside"), [("m", ("q",)), ("n", ()), ("adapter", ("q",)), ("none", ())])
def test_pools_beside_of_a_model(model: str, beside: tuple[str, ...]) -> None:
    table = RouteTable([Route(("m",), "p", ("q",)), Route(("n",), "p")])
    assert table.beside(model, lambda name: "m" if name == "adapter" else "") == beside
    assert table.beside_pool("p") == ("q",)
    assert table.beside_pool("q") == ()
