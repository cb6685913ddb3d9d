"""Regions: the nearest that can serve."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.traffic.regions import (
    ABSENT,
    FORBIDDEN,
    LOCAL,
    RESIDENCY,
    SPILL_EMPTY,
    SPILL_SATURATED,
    UNREACHED,
    Place,
    Placed,
    Regions,
    costs_of_order,
    symmetric,
)
from extproc.traffic.spill import EMPTY, OPEN, SATURATED

NAMES = ("west", "north", "east")
PLACES = {"w": Place("west"), "n": Place("north"), "e": Place("east")}
POOLS = ("w", "n", "e")
COSTS = symmetric({"west": {"north": 1, "east": 8}, "north": {"east": 9}})


def regions(costs: Mapping[str, Mapping[str, float]] = COSTS, **places: Place) -> Regions:
    return Regions(NAMES, "west", places or PLACES, costs)


def choose(
    made: Regions,
    origin: str = "west",
    pools: tuple[str, ...] = POOLS,
    *,
    allowed: set[str] | None = None,
    dead: str = "",
    left: Mapping[str, str] = {},
) -> Placed:
    return made.choose(origin, pools, allowed, lambda pool: pool not in dead, lambda pool: left.get(pool, OPEN))


def test_its_own_region_comes_first_wherever_it_stands_in_the_list() -> None:
    for origin, pool in (("west", "w"), ("north", "n"), ("east", "e")):
        assert choose(regions(), origin) == Placed(pool, origin, origin, LOCAL)
        assert choose(regions(), origin).spilled == ""


def test_the_nearest_takes_over() -> None:
    assert choose(regions(), dead="w") == Placed("n", "west", "north", SPILL_EMPTY, 1)
    assert choose(regions(), left={"w": SATURATED}) == Placed("n", "west", "north", SPILL_SATURATED, 1)
    assert choose(regions(), dead="n", left={"w": SATURATED}) == Placed("e", "west", "east", SPILL_SATURATED, 8)
    assert choose(regions(), "east", dead="e") == Placed("w", "east", "west", SPILL_EMPTY, 8)
    assert choose(regions(), left={"w": EMPTY}).reason == SPILL_EMPTY  # it is back, and not yet for long


def test_when_all_are_full_it_stays() -> None:
    assert choose(regions(), left=dict.fromkeys(POOLS, SATURATED)) == Placed("w", "west", "west", LOCAL)
    assert choose(regions(), dead="w", left=dict.fromkeys(POOLS, SATURATED)) == Placed("n", "west", "north", SPILL_EMPTY, 1)


def test_when_nobody_can_the_nearest_says_so() -> None:
    assert choose(regions(), dead="wne") == Placed("w", "west", "west", LOCAL)


def test_a_region_without_a_pool() -> None:
    assert choose(regions(), pools=("n", "e")) == Placed("n", "west", "north", ABSENT, 1)
    assert choose(regions(), pools=("n", "e"), dead="n") == Placed("e", "west", "east", ABSENT, 8)


def test_where_there_is_no_way_nothing_goes() -> None:
    one_way = regions({"west": {"north": 1}})
    assert choose(one_way, dead="w") == Placed("n", "west", "north", SPILL_EMPTY, 1)
    assert choose(one_way, dead="wn") == Placed("w", "west", "west", LOCAL)
    assert choose(one_way, pools=("e",)) == Placed("", "west", "", UNREACHED)
    assert choose(one_way, pools=("e",), allowed={"west"}).reason == UNREACHED


def test_residency() -> None:
    assert choose(regions(), allowed={"west"}, left={"w": SATURATED}) == Placed("w", "west", "west", LOCAL)
    assert choose(regions(), allowed={"west"}, dead="w") == Placed("", "west", "", FORBIDDEN)
    assert choose(regions(), allowed={"west", "east"}, dead="w") == Placed("e", "west", "east", SPILL_EMPTY, 8)
    assert choose(regions(), allowed={"east"}) == Placed("e", "west", "east", RESIDENCY, 8)
    assert choose(regions(), allowed=set()) == Placed("", "west", "", FORBIDDEN)
    assert choose(regions(), allowed={"west"}, dead="w").spilled == FORBIDDEN


def test_zones_and_the_list_decide_inside_a_region() -> None:
    places = {"a": Place("west", "1"), "b": Place("west", "2"), "c": Place("west", "2"), "d": Place("north", "2")}
    made = Regions(NAMES, "west", places, COSTS, zone="2")
    assert [each.pool for each in made.ranked("west", ("a", "b", "c", "d"))] == ["b", "c", "a", "d"]
    assert choose(made, pools=("a", "b", "c", "d"), dead="bc") == Placed("a", "west", "west", LOCAL)
    assert [each.pool for each in Regions(NAMES, "west", places, COSTS).ranked("west", ("c", "a", "b"))] == ["c", "a", "b"]
    other = Regions(NAMES, "north", places, COSTS, zone="2")
    assert [each.pool for each in other.ranked("west", ("a", "b"))] == ["a", "b"], "the zone is one of the gateway's region"


def test_a_way_that_costs_nothing_is_one() -> None:
    free = regions({"west": {"north": 0, "east": 0}})
    assert [each.pool for each in free.ranked("west", ("e", "n", "w"))] == ["w", "n", "e"]


@pytest.mark.parametrize("cost", [-1.0, math.nan, math.inf])
def test_a_cost_that_is_none(cost: float) -> None:
    with pytest.raises(ValueError, match=r"from west to north costs .*; expected a number of at least 0"):
        regions({"west": {"north": cost}})


@pytest.mark.parametrize(
    "make",
    [
        lambda: Regions(NAMES, "mars", PLACES, COSTS),
        lambda: regions(COSTS, m=Place("mars")),
        lambda: regions({"mars": {"west": 1}}),
        lambda: regions({"west": {"mars": 1}}),
    ],
)
def test_a_region_that_there_is_not(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="no region is called 'mars'"):
        make()


def test_an_order_is_costs_by_place() -> None:
    assert costs_of_order(NAMES, {"west": ["east"]}) == {
        "west": {"east": 1},
        "north": {"west": 1, "east": 2},
        "east": {"west": 1, "north": 2},
    }


def test_a_cost_is_of_both_directions_unless_the_other_has_its_own() -> None:
    assert symmetric({"a": {"b": 1}, "b": {"c": 2}, "c": {"b": 5}}) == {"a": {"b": 1}, "b": {"a": 1, "c": 2}, "c": {"b": 5}}


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Regions, str, tuple[str, ...], dict[str, str], set[str] | None, dict[str, Place]]:
    """Regions, an origin, pools, what is wrong with which, what is allowed."""
    names = [f"r{number}" for number in range(draw(st.integers(1, 4)))]
    pools = [f"p{number}" for number in range(draw(st.integers(1, 6)))]
    places = {pool: Place(draw(st.sampled_from(names)), draw(st.sampled_from(["", "1", "2"]))) for pool in pools}
    cost = st.none() | st.floats(0, 3)
    costs = {one: {to: way for to in names if to != one and (way := draw(cost)) is not None} for one in names}
    origin = draw(st.sampled_from(names))
    made = Regions(names, draw(st.sampled_from(names)), places, costs, draw(st.sampled_from(["", "1"])))
    state = {pool: draw(st.sampled_from([OPEN, OPEN, EMPTY, SATURATED, "dead"])) for pool in pools}
    allowed = draw(st.none() | st.sets(st.sampled_from(names)))
    return made, origin, tuple(draw(st.permutations(pools))), state, allowed, places


@given(worlds())
def test_always_the_nearest_that_can_and_never_where_it_may_not(
    world: tuple[Regions, str, tuple[str, ...], dict[str, str], set[str] | None, dict[str, Place]],
) -> None:
    made, origin, pools, state, allowed, places = world
    got = made.choose(
        origin, pools, allowed, lambda pool: state[pool] != "dead", lambda pool: state[pool] if state[pool] != "dead" else OPEN
    )
    reached = {pool: cost for pool in pools if (cost := made.cost(origin, places[pool].region)) is not None}
    may = {pool: cost for pool, cost in reached.items() if allowed is None or places[pool].region in allowed}
    able = {pool: cost for pool, cost in may.items() if state[pool] != "dead"}
    unleft = {pool: cost for pool, cost in able.items() if state[pool] == OPEN}
    if not got.pool:
        assert not able
        assert got.reason == (FORBIDDEN if len(may) < len(reached) else UNREACHED)
        assert got.reason == FORBIDDEN or not reached
        return
    assert got.pool in may
    assert got.region == places[got.pool].region
    assert got.cost == may[got.pool]
    of_state = unleft or able or may
    assert got.pool in of_state
    assert got.cost == min(of_state.values())
    if any(places[pool].region == origin for pool in of_state):
        assert (got.region, got.reason) == (origin, LOCAL)
    else:
        assert got.reason in (SPILL_EMPTY, SPILL_SATURATED, ABSENT, RESIDENCY)
        local = [pool for pool in pools if places[pool].region == origin]
        assert (got.reason == ABSENT) == (not local)
        assert (got.reason == RESIDENCY) == (bool(local) and allowed is not None and origin not in allowed)
