"""Which pool serves, by regions."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from extproc.audit.waiting import Waiting
from extproc.domain import Decision, InferenceRequest
from extproc.errors import NoEndpoints, RegionForbidden
from extproc.live import Live
from extproc.observability.regions import RegionMetrics
from extproc.observability.serving import ServingMetrics
from extproc.observability.shapes import decision_shape
from extproc.protocol import Decide, Finished
from extproc.request import parse
from extproc.stages import (
    AuditDecisions,
    ChooseRegion,
    Draft,
    FindEndpoint,
    RegionRules,
    RouteToPool,
    ServeEndpoint,
    Stage,
)
from extproc.traffic import (
    Catalog,
    CatalogEntry,
    EndpointSpec,
    EntitySpec,
    ExternalSpec,
    MadeAt,
    Route,
    RouteTable,
    Served,
    ServingEndpoint,
    TrafficTable,
)
from extproc.traffic.conditions import Wanted
from extproc.traffic.match import MatchSpec, RuleSpec
from extproc.traffic.regions import Place, Placed, Regions, symmetric
from extproc.traffic.residency import Residency, ResidencySpec
from extproc.traffic.segments import Segments, SegmentSpec
from extproc.traffic.spill import EMPTY, SATURATED, Spill, SpillBounds
from tests.fakes.chance import Draws
from tests.fakes.deployment import Deployment, request
from tests.fakes.events import HEAD, head
from tests.stages.running import counts, explained, run

PLACES = {"w": Place("west"), "n": Place("north")}
COSTS = symmetric({"west": {"north": 3}})
ROUTES = RouteTable([Route(("m",), "w", ("n",)), Route(("one",), "n"), Route(("far",), "e"), Route(("plain",), "plain")])
CLINIC = (MatchSpec(headers=(("x-tenant", Wanted("exact", ("clinic",))),)),)


class World:
    """A stage, and what it goes by."""

    def __init__(self, *residency: ResidencySpec, trusted: bool = False) -> None:
        self.deployment = Deployment()
        self.stores = {name: self.deployment.add_pool(name) for name in ("w", "n", "e", "plain")}
        regions = Regions(["west", "north", "east"], "west", {**PLACES, "e": Place("east")}, COSTS)
        self.spills = {name: Spill(SpillBounds(1.0, 0.5, 0.0, 0.0), name) for name in "wne"}
        for spill in self.spills.values():
            spill.saw(True, 0.0, 0.0)
        self.rules = RegionRules(
            Live(regions), Live(Residency(residency)), self.spills, self.deployment.pools, trusted=trusted, draw=Draws(0.1, 0.9)
        )
        self.stage: Stage = ChooseRegion(self.rules, RegionMetrics(self.deployment.instruments), Live(ROUTES))

    def full(self, *pools: str) -> None:
        """So much that all its requests are too many."""
        for pool in pools:
            for now_s in range(1, 5):
                self.spills[pool].saw(True, 2.0, float(now_s))
            assert self.spills[pool].share == 1.0

    def half_full(self, pool: str) -> float:
        """So that a share of its requests is."""
        self.spills[pool].saw(True, 1.75, 1.0)
        return self.spills[pool].share

    def placed(self, what: InferenceRequest, draft: Draft) -> Placed | None:
        return run(self.stage, what, draft)[0].placed

    def counts(self) -> dict[str, float]:
        return counts(self.deployment, "extproc_region_")


def asked(model: str | None = "m", **headers: str) -> InferenceRequest:
    given = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    return request(model, head=HEAD._replace(headers={**HEAD.headers, **given}))


def routed(pool: str = "w") -> Draft:
    draft = Draft(0.0)
    draft.pool = pool
    return draft


def test_a_plain_route_is_served_at_home() -> None:
    world = World()
    draft = routed()
    assert world.placed(asked(), draft) == Placed("w", "west", "west", "local")
    assert draft.pool == "w"
    assert world.counts() == {}


def test_a_pool_that_can_not_serve_is_passed_over_at_once() -> None:
    world = World()
    world.stores["w"].replace_endpoints([])
    draft = routed()
    assert world.placed(asked(), draft) == Placed("n", "west", "north", "spill_empty", 3)
    assert draft.pool == "n"
    assert world.counts() == {'extproc_region_spills_total{from="west",reason="spill_empty",to="north"}': 1}


def test_one_of_which_every_endpoint_is_down_can_not_serve_either() -> None:
    world = World()
    for key in world.stores["w"].members():
        assert world.rules.able("w")
        world.stores["w"].page_failed(key, "refused", down=True)
    assert not world.rules.able("w")
    assert world.placed(asked(), routed()) == Placed("n", "west", "north", "spill_empty", 3)


def test_a_full_pool_is_left() -> None:
    world = World()
    world.full("w")
    assert world.placed(asked(), routed()) == Placed("n", "west", "north", "spill_saturated", 3)
    assert world.placed(asked("one"), routed("n")) == Placed("n", "west", "north", "absent", 3)
    world.full("n")
    assert world.placed(asked(), routed()) == Placed("w", "west", "west", "local")


def test_of_a_pool_that_is_too_full_a_share_goes_and_always_the_same_users() -> None:
    world = World()
    share = world.half_full("w")
    assert 0.4 < share < 0.6
    users = [f"user-{number}" for number in range(1000)]
    first, again = [[world.placed(asked(x_user_id=user), routed()) for user in users] for _ in range(2)]
    assert first == again
    went = sum(placed == Placed("n", "west", "north", "spill_saturated", 3) for placed in first)
    assert went / 1000 == pytest.approx(share, abs=0.06)
    assert {placed.pool for placed in first if placed is not None} == {"w", "n"}
    world.full("n")
    assert {world.placed(asked(x_user_id=user), routed()) for user in users} == {Placed("w", "west", "west", "local")}


def test_who_says_no_name_goes_by_the_requests_id_and_without_one_by_chance() -> None:
    world = World()
    world.half_full("w")
    ids = [world.placed(asked(x_request_id=f"request-{number}"), routed()) for number in range(20)]
    assert {placed.pool for placed in ids if placed is not None} == {"w", "n"}
    assert ids == [world.placed(asked(x_request_id=f"request-{number}"), routed()) for number in range(20)]
    assert [world.placed(asked(x_request_id=""), routed()) for _ in range(2)] == [
        Placed("n", "west", "north", "spill_saturated", 3),
        Placed("w", "west", "west", "local"),
    ]


def test_where_the_request_comes_from() -> None:
    there = asked(x_gateway_region="north")
    assert World().placed(there, routed()) == Placed("w", "west", "west", "local")
    world = World(trusted=True)
    assert world.placed(there, routed()) == Placed("n", "north", "north", "local")
    assert world.counts() == {}
    assert world.placed(asked(x_gateway_region="mars"), routed()) == Placed("w", "west", "west", "local")
    assert world.placed(asked(x_gateway_region=""), routed()) == Placed("w", "west", "west", "local")
    assert world.counts() == {"extproc_region_unknown_total": 1}


def test_no_way_leads_there() -> None:
    with pytest.raises(NoEndpoints, match="no way leads from the region west to any of the pools e"):
        World().placed(asked("far"), routed("e"))


def test_a_pool_that_nobody_placed() -> None:
    assert World().placed(asked("plain"), routed("plain")) is None
    with pytest.raises(RegionForbidden, match=r"has to stay in west \(residency: own\), and no pool there .* nobody named"):
        World(ResidencySpec("own", ())).placed(asked("plain"), routed("plain"))


def test_residency() -> None:
    world = World(ResidencySpec("clinics", (), CLINIC))
    world.full("w")
    assert world.placed(asked(), routed()) == Placed("n", "west", "north", "spill_saturated", 3)
    assert world.placed(asked(x_tenant="clinic"), routed()) == Placed("w", "west", "west", "local")
    world.stores["w"].replace_endpoints([])
    draft = routed()
    with pytest.raises(RegionForbidden) as raised:
        world.placed(asked(x_tenant="clinic"), draft)
    assert raised.value.message == (
        "the request has to stay in west (residency: clinics), and no pool there can serve it "
        "(w in west: empty; n in north: open)"
    )
    assert draft.pool is None
    assert draft.placed is not None
    assert draft.placed.spilled == "forbidden"
    with pytest.raises(RegionForbidden, match=r"has to stay in nowhere \(residency: a, b\)"):
        World(ResidencySpec("a", ("north",)), ResidencySpec("b", ("west",))).placed(asked(), routed())


def catalog() -> Catalog:
    return Catalog([CatalogEntry("A", "", Served("a", "w", beside=("n",)))], ROUTES, regions=("west", "north", "east"))


def endpoint(*rules: ResidencySpec, region: str = "") -> ServingEndpoint:
    external = ExternalSpec("gpt", "openai", "llm/v1/chat")
    entities = (EntitySpec("own", "A"), EntitySpec("other", "m"), EntitySpec("outside", external=external, region=region))
    return ServingEndpoint(EndpointSpec("chat", entities, (50, 50, 0), residency=rules), catalog())


def chosen(made: ServingEndpoint, entity: str) -> Draft:
    draft = Draft(0.0)
    draft.endpoint = made
    draft.entity = made.entity(entity)
    draft.pool = draft.entity.pool
    return draft


def test_an_entity_is_served_by_its_pools_and_stays_what_it_is() -> None:
    world = World()
    world.full("w")
    for name in ("own", "other"):
        draft = chosen(endpoint(), name)
        assert world.placed(asked("chat"), draft) == Placed("n", "west", "north", "spill_saturated", 3)
        assert draft.entity is not None
        assert draft.entity.name == name


def test_an_endpoints_rules_and_the_gateways_are_kept_both() -> None:
    made = endpoint(ResidencySpec("own", ("west", "north"), entities=("own",)))
    world = World(ResidencySpec("clinics", ("north", "east"), CLINIC))
    assert world.placed(asked("chat", x_tenant="clinic"), chosen(made, "own")) == Placed("n", "west", "north", "residency", 3)
    assert world.rules.kept(asked("chat", x_tenant="clinic"), chosen(made, "own"), "west", "own").rules == ("clinics", "own")
    assert world.rules.kept(asked("chat"), chosen(made, "other"), "west", "other").regions is None


def test_a_provider_is_where_its_entity_says() -> None:
    rule = ResidencySpec("eu", ("west", "north"))
    world = World()
    assert world.placed(asked("chat"), chosen(endpoint(), "outside")) is None
    draft = chosen(endpoint(rule, region="north"), "outside")
    assert world.placed(asked("chat"), draft) == Placed("", "west", "north", "absent", 3)
    assert world.placed(asked("chat"), chosen(endpoint(rule, region="west"), "outside")) == Placed("", "west", "west", "local")
    for region, said in (("east", "its provider is in east"), ("", "its provider is in a region that nobody named")):
        with pytest.raises(RegionForbidden, match=said):
            world.placed(asked("chat"), chosen(endpoint(rule, region=region), "outside"))


def test_what_is_stored_is_asked_where_it_is() -> None:
    world = World()
    draft = routed()
    draft.made_at = MadeAt("n", "10.0.0.1:8000")
    assert world.placed(asked(), draft) == Placed("n", "west", "north", "stored", 3)
    world = World(ResidencySpec("own", ()))
    draft.pool = "w"
    assert world.placed(asked(), draft) == Placed("w", "west", "west", "local")


def test_what_names_no_model() -> None:
    world = World()
    world.full("w")
    assert world.placed(asked(None), routed()) == Placed("n", "west", "north", "spill_saturated", 3)


def test_copies_stay_where_their_requests_have_to() -> None:
    made = endpoint(ResidencySpec("here", ("west",), CLINIC, ("other",)))
    world = World()
    other = made.entity("other")
    assert world.rules.copied_to(asked("chat"), chosen(made, "own"), other) == "w"
    world.full("w")
    assert world.rules.copied_to(asked("chat"), chosen(made, "own"), other) == "n"
    assert world.rules.copied_to(asked("chat", x_tenant="clinic"), chosen(made, "own"), other) == "w"
    world.stores["w"].replace_endpoints([])
    assert world.rules.copied_to(asked("chat", x_tenant="clinic"), chosen(made, "own"), other) == ""


def test_an_attempt_at_an_entity_that_may_not_serve_is_passed_over_for_the_next() -> None:
    made = endpoint(
        ResidencySpec("here", ("north",), entities=("own",)), ResidencySpec("there", ("west",), entities=("other",))
    )
    world = World()
    world.stores["n"].replace_endpoints([])
    serving = ServingEndpoint(made.spec._replace(fallback=True, percentages=(100, 0, 0)), catalog())
    find = FindEndpoint(Live(TrafficTable([serving])))
    serve = ServeEndpoint(ServingMetrics(world.deployment.instruments), Draws(), region_of=world.rules.origin_bytes)
    director = world.deployment.director(find, serve, world.stage)
    body = b'{"messages":[],"model":"chat"}'
    with pytest.raises(RegionForbidden, match=r"has to stay in north \(residency: here\)") as raised:
        director.decide(Decide(head("/v1/chat/completions", None)._replace(attempt=1), body))
    assert raised.value.falls_back
    second = director.decide(Decide(head("/v1/chat/completions", None)._replace(attempt=2), body))
    assert isinstance(second, Decision)
    assert isinstance(second.ticket, Draft)
    assert second.ticket.entity is not None
    assert (second.ticket.entity.name, second.ticket.pool) == ("other", "w")


def test_rules_of_an_endpoint_ask_for_the_region_that_is_believed() -> None:
    rule = RuleSpec("north", (MatchSpec(regions=("north",)),), "other")
    serving = ServingEndpoint(endpoint().spec._replace(rules=(rule,), percentages=(100, 0, 0)), catalog())
    for trusted, entity in ((True, "other"), (False, "own")):
        world = World(trusted=trusted)
        serve = ServeEndpoint(ServingMetrics(world.deployment.instruments), Draws(), region_of=world.rules.origin_bytes)
        draft = Draft(0.0)
        draft.endpoint = serving
        run(serve, asked("chat", x_gateway_region="north"), draft)
        assert draft.entity is not None
        assert draft.entity.name == entity


def test_it_is_in_the_audit() -> None:
    world = World(ResidencySpec("clinics", (), CLINIC))
    sink = Waiting(2**20)
    audit: Stage = AuditDecisions(sink, clock=world.deployment.clock, wall_clock=world.deployment.clock)
    routes = RouteToPool(Live(ROUTES), 0)
    director = world.deployment.director(audit, routes, world.stage, world.deployment.picker(None))
    body = b'{"messages":[],"model":"m"}'
    world.full("w")
    decision = director.decide(Decide(HEAD, body))
    assert isinstance(decision, Decision)
    director.finished(Finished(decision, 200, True), "")
    (record,) = world.deployment.log.latest()
    assert record.placed == Placed("n", "west", "north", "spill_saturated", 3)
    shape = decision_shape(record)
    assert [shape[key] for key in ("region", "region_from", "region_reason", "region_cost")] == [
        "north",
        "west",
        "spill_saturated",
        3,
    ]
    world.stores["w"].replace_endpoints([])
    with pytest.raises(RegionForbidden):
        director.decide(Decide(HEAD._replace(headers={**HEAD.headers, "x-tenant": b"clinic"}), body))
    fields = ("pool", "region", "spill", "spill_cost", "status", "error")
    sink.gather()
    lines = [orjson.loads(line) for text in sink.take(2**20)[0] for line in text.splitlines()]
    assert [{name: line[name] for name in fields if name in line} for line in lines] == [
        {"pool": "n", "region": "north", "spill": "spill_saturated", "spill_cost": 3, "status": 200},
        {"spill": "forbidden", "status": 503, "error": "region_forbidden"},
    ]


def test_it_is_explained() -> None:
    world = World(ResidencySpec("clinics", (), CLINIC))
    world.full("w")
    world.stores["n"].replace_endpoints([])
    told: dict[str, Any] = explained(world.stage, asked(x_tenant="clinic"), routed())
    assert told == {
        "origin": "west",
        "region": "west",
        "pool": "w",
        "reason": "local",
        "cost": 0.0,
        "stay_in": ["west"],
        "residency": ["clinics"],
        "pools": [
            {"pool": "w", "region": "west", "cost": 0.0, "state": SATURATED, "share_elsewhere": 1.0},
            {"pool": "n", "region": "north", "cost": 3.0, "state": EMPTY, "share_elsewhere": 0.0},
        ],
    }
    assert world.counts() == {}


def test_segments_by_key_are_asked_with_the_key() -> None:
    segments = Segments([SegmentSpec("vip", keys=frozenset({b"ann"}))])
    world = World()
    rules = Residency([ResidencySpec("vip", ("north",), (MatchSpec(segments=("vip",)),))], "regions", segments)
    rules_of = RegionRules(Live(world.rules.regions), Live(rules), world.spills, world.deployment.pools)
    what = parse(asked(x_user_id="ann").head, b'{"model": "m"}')
    assert rules_of.kept(what, routed(), "west", "").rules == ("vip",)
    assert rules_of.kept(asked(x_user_id="bob"), routed(), "west", "").rules == ()
