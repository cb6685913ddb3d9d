"""Guards of a change of an endpoint's split, at the desk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from extproc.control.changes import Create, Declare, Delete, Revert, UpdateConfig
from extproc.control.effects import PoolEffect
from extproc.control.errors import Conflict
from extproc.control.guarding import BAKE_S, LARGE, Guard, Policy, Wish, guard_of
from extproc.traffic import Catalog, Route, RouteTable
from tests.control.desks import Bench, document, split

PLAN = {"baseline": "a", "canary": "b", "steps": [{"setWeight": 10}], "largeChange": 40, "bakeTime": "1m"}
_NOTHING = Wish()


class Timed:
    """A bench whose clock stands until it is told."""

    def __init__(self, policy: Policy = "plans", load: Mapping[str, dict[str, float]] = {}) -> None:
        self.now_s = 1_700_000_000.0
        words: dict[str, Any] = {"load_of": lambda pool: load.get(pool, {})} if load else {}
        self.bench = Bench(guarded=policy, **words)
        self.bench.desk._clock = lambda: int(self.now_s * 1000)

    async def made(self, plan: Any = None, **shares: int) -> None:
        await self.bench.desk.open()
        await self.bench.desk.apply(Create(document("chat", **shares) | ({"rollout": plan} if plan else {})), "ann")

    async def change(self, wish: Wish | None, *, dry_run: bool = False, **shares: int) -> tuple[str, ...]:
        done = await self.bench.desk.apply(UpdateConfig("chat", split(**shares), wish), "ann", dry_run=dry_run)
        return done.against

    async def refused(self, wish: Wish, **shares: int) -> str:
        before = self.bench.shares("chat")
        with pytest.raises(Conflict) as caught:
            await self.change(wish, dry_run=False, **shares)
        assert self.bench.shares("chat") == before
        return caught.value.message


@pytest.mark.parametrize(
    ("policy", "plan", "wish", "guard"),
    [
        ("plans", None, _NOTHING, None),
        ("plans", None, Wish(asked=True), Guard(LARGE, BAKE_S)),
        ("plans", PLAN, _NOTHING, Guard(40, 60.0)),
        ("plans", PLAN, Wish(bake_s=5.0), Guard(40, 5.0)),
        ("all", None, _NOTHING, Guard(LARGE, BAKE_S)),
        ("off", PLAN, _NOTHING, None),
        ("off", PLAN, Wish(asked=True), Guard(40, 60.0)),
    ],
)
async def test_which_changes_are_guarded(policy: Policy, plan: Any, wish: Wish, guard: Guard | None) -> None:
    at = Timed()
    await at.made(plan, a=100, b=0)
    assert guard_of(at.bench.desk.get("chat"), wish, policy) == guard


async def test_a_client_that_knows_nothing_of_guards_moves_as_it_likes() -> None:
    at = Timed(load={"a": {"endpoints": 4.0, "running": 80.0}, "b": {"endpoints": 1.0}})
    await at.made(a=90, b=10)
    for share in (50, 0, 100):
        assert await at.change(_NOTHING, a=share, b=100 - share) == ()
        assert at.bench.shares("chat") == {"a": share, "b": 100 - share}


async def test_two_large_changes_are_a_bake_time_apart() -> None:
    at = Timed()
    await at.made(PLAN, a=100, b=0)
    assert await at.change(_NOTHING, a=50, b=50) == ()
    at.now_s += 59.0
    said = await at.refused(_NOTHING, a=0, b=100)
    assert said == (
        "50 % of the traffic were moved 59 s ago, and 50 % more are a large change too: expected 60 s between two of them; "
        "or say force"
    )
    assert await at.change(_NOTHING, a=45, b=55) == (), "a small one"
    at.now_s += 1.0
    assert await at.change(_NOTHING, a=0, b=100) == ()


async def test_more_than_a_pool_seems_to_take() -> None:
    at = Timed("all", load={"a": {"endpoints": 4.0, "running": 80.0}, "b": {"endpoints": 1.0}})
    await at.made(a=100, b=0)
    said = await at.refused(_NOTHING, a=50, b=50)
    assert said.startswith("pool b would have about 40 requests at once on 1 endpoints, 40 on each; the busiest pool has 20")
    assert await at.change(_NOTHING, a=80, b=20) == ()
    assert await at.change(Wish(forced=True), a=20, b=80) != (), "done, and said"
    assert at.bench.shares("chat") == {"a": 20, "b": 80}


async def test_a_dry_run_says_it_and_changes_nothing() -> None:
    at = Timed("all")
    await at.made(a=100, b=0)
    await at.change(_NOTHING, a=50, b=50)
    (why,) = await at.change(_NOTHING, dry_run=True, a=0, b=100)
    assert why.startswith("50 % of the traffic were moved 0 s ago")
    assert at.bench.shares("chat") == {"a": 50, "b": 50}


async def test_ways_out_and_who_has_guards_of_their_own_are_not_held_up() -> None:
    at = Timed("all")
    await at.made(a=100, b=0)
    await at.change(_NOTHING, a=50, b=50)
    assert await at.change(None, a=0, b=100) == (), "a rollout"
    await at.bench.desk.apply(Revert("chat", 1), "ann")
    assert at.bench.shares("chat") == {"a": 100, "b": 0}
    declared = document("told", a=100, b=0), document("told", a=0, b=100)
    for each in declared:
        await at.bench.desk.apply(Declare("file", [each]), "file")
    assert at.bench.shares("told") == {"a": 0, "b": 100}


async def test_an_endpoint_that_was_made_anew_has_moved_nothing() -> None:
    at = Timed("all")
    await at.made(a=100, b=0)
    await at.change(_NOTHING, a=50, b=50)
    await at.bench.desk.apply(Delete("chat"), "ann")
    await at.bench.desk.apply(Create(document("chat", a=100, b=0)), "ann")
    assert await at.change(_NOTHING, a=50, b=50) == ()


async def test_pools_of_all_regions_that_serve_an_entity_count_together() -> None:
    """The nearest alone could not take it, the other one beside it can."""
    load = {
        "a": {"endpoints": 4.0, "running": 80.0},
        "b": {"endpoints": 1.0, "running": 0.0},
        "b-north": {"endpoints": 3.0, "running": 8.0},
    }
    wish = Wish(asked=True)
    at = Timed(load=load)
    at.bench.catalog = Catalog([], RouteTable([Route(("model-A",), "a"), Route(("model-B",), "b", ("b-north",))]))
    await at.made(a=100, b=0)
    done = await at.bench.desk.apply(UpdateConfig("chat", split(a=50, b=50), wish), "ann", dry_run=True)
    assert done.against == ()
    assert done.effect is not None
    assert list(done.effect.pools) == ["a", "b"]
    assert done.effect.pools["b"] == PoolEffect(0, 50, {"endpoints": 4.0, "running": 8.0}, ("b-north",))

    full = Timed(load={**load, "b-north": {"endpoints": 3.0, "running": 80.0}})
    full.bench.catalog = at.bench.catalog
    await full.made(a=100, b=0)
    assert "pools b, b-north would have about" in await full.refused(wish, a=50, b=50)

    alone = Timed(load=load)
    await alone.made(a=100, b=0)
    assert "pool b would have about" in await alone.refused(wish, a=50, b=50)
