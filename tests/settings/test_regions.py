"""`regions` of a gateway's file, and what pools and routes say of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extproc.settings.base import SettingsError
from extproc.settings.document import load_document
from extproc.settings.gateway import GatewayConfig, gateway_parts, load_gateway_config
from extproc.settings.regions import RegionSettings, RegionsSettings, home_of

REGIONS: dict[str, Any] = {"self": "west", "names": ["west", "north", "east"]}
POOLS: dict[str, dict[str, Any]] = {"w": {"region": "west", "zone": "a"}, "n": {"region": "north"}, "plain": {}}
ROUTES: list[dict[str, Any]] = [{"models": ["m"], "pools": ["w", "n"]}, {"models": ["p"], "pool": "plain"}]


def document(
    regions: object = REGIONS,
    pools: dict[str, dict[str, Any]] = POOLS,
    routes: list[dict[str, Any]] = ROUTES,
    **more: Any,
) -> str:
    listed = [{"name": name, "endpoints": {"static": ["127.0.0.1:8000"]}, **pool} for name, pool in pools.items()]
    whole = {"apiVersion": "extproc.dev/v1alpha1", "kind": "Gateway", "pools": listed, "routes": routes, **more}
    return yaml.safe_dump(whole if regions is None else {**whole, "regions": regions})


def load(regions: object = REGIONS, **changes: Any) -> GatewayConfig:
    return load_gateway_config(document(regions, **changes))


def problems(regions: object = REGIONS, **changes: Any) -> list[str]:
    with pytest.raises(SettingsError) as error:
        load(regions, **changes)
    assert list(error.value.problems) == list(gateway_parts(load_document(document(regions, **changes))).problems)
    return list(error.value.problems)


def test_what_may_be_left_out() -> None:
    config = load()
    regions = config.regions
    assert regions is not None
    assert (regions.own, regions.zone, regions.trust_header, regions.residency) == ("west", None, False, [])
    spill = regions.spill
    assert (spill.enter, spill.leave, spill.enter_after, spill.leave_after) == (1.0, 0.7, 1.0, 10.0)
    assert [(pool.region, pool.zone) for pool in config.pools] == [("west", "a"), ("north", None), (None, None)]
    assert [(route.pool, route.beside) for route in config.routes] == [("w", ("n",)), ("plain", ())]
    assert load(None, pools={"w": {}}, routes=[{"models": ["m"], "pool": "w"}]).regions is None


def test_everything() -> None:
    match = {"headers": {"x-tenant": "clinic"}}
    regions = load(
        {
            **REGIONS,
            "zone": "a",
            "costs": {"west": {"north": 1, "east": 2.5}},
            "trustHeader": True,
            "spill": {"enter": 0.9, "leave": 0.5, "enterAfter": "500ms", "leaveAfter": "1m"},
            "residency": [{"name": "eu", "stay_in": ["west", "north"]}, {"name": "own", "stay_in": "own", "match": match}],
        }
    ).regions
    assert regions is not None
    assert regions.costs == {"west": {"north": 1.0, "east": 2.5}}
    assert (regions.spill.enter_after, regions.spill.leave_after) == (0.5, 60.0)
    assert [rule.regions for rule in regions.residency] == [("west", "north"), ()]


THERE = "(there are: west, north, east)"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"self": "mars"}, f"regions.self: no region is called 'mars' {THERE}"),
        ({"order": {"west": ["mars"]}}, f"regions.order.west: no region is called 'mars' {THERE}"),
        ({"order": {"mars": ["west"]}}, f"regions.order: no region is called 'mars' {THERE}"),
        ({"order": {"west": ["north", "north"]}}, "regions.order.west: expected each region once (got ['north', 'north'])"),
        ({"order": {"west": ["west"]}}, "regions.order.west: expected other regions than 'west' itself"),
        ({"costs": {"west": {"west": 0}}}, "regions.costs.west: expected other regions than 'west' itself"),
        ({"costs": {"west": {"mars": 1}}}, f"regions.costs.west: no region is called 'mars' {THERE}"),
        ({"costs": {"west": {"north": -1}}}, "regions.costs.west.north: expected a number of at least 0 (got -1)"),
        ({"costs": {"west": {"north": float("nan")}}}, "regions.costs.west.north: expected a number of at least 0 (got nan)"),
        ({"costs": {"west": {"north": float("inf")}}}, "regions.costs.west.north: expected a number of at least 0 (got inf)"),
        ({"costs": {"west": {"north": True}}}, "regions.costs.west.north: expected a number of at least 0 (got True)"),
        ({"order": {"west": []}, "costs": {"west": {}}}, "regions: order and costs exclude each other; expected one of them"),
        ({"names": ["west", "west", "north"]}, "regions.names: expected each name once (got ['west', 'west', 'north'])"),
        ({"spill": {"enter": 0.5}}, "regions.spill: leave is 0.7 and enter 0.5; expected leave below enter"),
        ({"spill": {"enter": 0}}, "regions.spill.enter: expected a saturation of more than 0; 1 is full (got 0)"),
        ({"spill": {"leaveAfter": -1}}, "regions.spill.leaveAfter: expected a duration such as 50ms, 2s or 1m30s (got -1)"),
        (
            {"residency": [{"name": "eu", "stay_in": ["mars"]}]},
            f"regions.residency[0].stay_in: no region is called 'mars' {THERE}",
        ),
        (
            {"residency": [{"name": "eu", "stay_in": []}]},
            "regions.residency[0].stay_in: expected own, for the region that a request comes from, or a list of regions' names",
        ),
        (
            {"residency": [{"name": "eu", "stay_in": "own", "match": {"percentage": 5}}]},
            "regions.residency[0]: match has a percentage; expected none, as residency by chance protects nobody",
        ),
        (
            {"residency": [{"name": "eu", "stay_in": "own", "entities": ["a"]}]},
            "regions.residency[0].entities: expected none, as only an endpoint has entities",
        ),
        (
            {"residency": [{"name": "eu", "stay_in": "own", "match": {"segments": ["vip"]}}]},
            "regions.residency[0].match[0].segments: got 'vip'; expected one of the gateway's segments: none",
        ),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], problem: str) -> None:
    assert problem in problems({**REGIONS, **change})


def test_two_rules_of_one_name() -> None:
    rule = {"name": "eu", "stay_in": "own"}
    assert problems({**REGIONS, "residency": [rule, rule]}) == [
        f"regions.residency[{index}].name: got 'eu' 2 times; expected a name of its own for each rule" for index in (0, 1)
    ]


def test_names_that_are_none() -> None:
    (problem,) = problems({"self": "west", "names": []}, pools={"w": {}}, routes=[{"models": ["m"], "pool": "w"}])
    assert problem.startswith("regions.names: list should have at least 1 item")
    assert any(problem.startswith("regions: input should be a valid dict") for problem in problems([1]))


def test_pools_and_routes_that_need_regions() -> None:
    assert problems(None) == [
        "pools[0].region: got 'west'; expected regions in the config too, which say where the gateway is",
        "pools[1].region: got 'north'; expected regions in the config too, which say where the gateway is",
        "routes[0].pools: got 2; expected regions in the config too, by which one of them is chosen",
    ]
    assert problems(pools={**POOLS, "n": {}}) == ["pools[1].region: expected one, as routes[0].pools has the pool 'n'"]
    assert problems(pools={**POOLS, "n": {"region": "mars"}}) == [f"pools[1].region: no region is called 'mars' {THERE}"]
    assert problems(pools={**POOLS, "plain": {"zone": "b"}}) == ["pools[2].region: expected one, as zone is 'b'"]


def test_a_route_has_one_pool_or_several() -> None:
    both = problems(routes=[{"models": ["m"], "pool": "w", "pools": ["w", "n"]}])
    assert any("routes[0]: expected one of pool and pools" in problem for problem in both)
    twice = problems(routes=[{"models": ["m"], "pools": ["w", "n", "w"]}])
    assert twice == ["routes[0].pools: expected each pool once (got ['w', 'n', 'w'])"]
    unknown = problems(routes=[{"models": ["m"], "pools": ["w", "gone"]}])
    assert unknown == ["routes[0].pools[1]: no pool is called 'gone' (there are: n, plain, w)"]
    assert any("routes[0].pools" in problem for problem in problems(routes=[{"models": ["m"], "pools": []}]))
    (alone,) = load(None, pools={"w": {}}, routes=[{"models": ["m"], "pools": ["w"]}]).routes
    assert (alone.pool, alone.beside) == ("w", ())


def test_the_gateways_own_region_is_told_by_the_flag_first() -> None:
    regions = RegionsSettings.model_validate(REGIONS)
    said: list[str] = []
    assert home_of(regions, RegionSettings(), said.append) == ("west", "")
    assert home_of(regions, RegionSettings(region="north", zone="b"), said.append) == ("north", "b")
    assert not said
    home_of(regions, RegionSettings(region="mars"), said.append)
    home_of(RegionsSettings.model_validate({"names": ["west"]}), RegionSettings(), said.append)
    assert said == [
        f"--region: no region is called 'mars' {THERE}",
        "regions.self: expected the region of this gateway, here or as --region",
    ]


ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-3, 3) | st.sampled_from(["west", "own", "mars", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["west", "name", "stay_in", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["self", "zone", "names", "order", "costs", "trustHeader", "spill", "residency", "other"]),
        ANY,
        max_size=5,
    )
)
def test_whatever_is_written_is_right_or_told(regions: dict[str, Any]) -> None:
    parts = gateway_parts(load_document(document({**REGIONS, **regions})))
    assert all(len(problem) < 600 for problem in parts.problems)
    if not parts.problems:
        load({**REGIONS, **regions})
