"""Which of several pools serves a request: the nearest that has room, and when one is left for another.

The same model may be served by pools of several regions. A request has a region; pools are ranked from there by what the way
costs. A pool that is empty is left for the next one, one that is full by a share of its requests (`spill`). Who serves it
*as what* (the served entity, an arm) was decided before: regions say only where.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from extproc.traffic.spill import EMPTY, SATURATED

LOCAL: Final = "local"
"""In the request's own region."""
SPILL_EMPTY: Final = "spill_empty"
"""No pool of its own region can serve, or none did a moment ago."""
SPILL_FAILED: Final = "spill_failed"
"""An attempt before this one failed at a pool of its own region."""
SPILL_SATURATED: Final = "spill_saturated"
"""Those of its own region that can serve are full."""
ABSENT: Final = "absent"
"""Its own region has no pool for it."""
RESIDENCY: Final = "residency"
"""A rule keeps it out of its own region."""
STORED: Final = "stored"
"""What it is about is kept there."""
FORBIDDEN: Final = "forbidden"
"""Nobody who may serve it can; somebody who may not has a pool."""
UNREACHED: Final = "unreached"
"""None of the pools is in a region that its own spills to."""


class Place(NamedTuple):
    """Where a pool is."""

    region: str
    zone: str = ""
    """'' when nobody said so."""


class Ranked(NamedTuple):
    """A pool as one region sees it."""

    pool: str
    region: str
    cost: float
    """0 in the region itself."""


class Placed(NamedTuple):
    """Where a request goes, and why."""

    pool: str
    """'' when it goes nowhere (`FORBIDDEN`, `UNREACHED`), or to a provider."""
    origin: str
    """The region that it comes from."""
    region: str
    reason: str
    cost: float = 0.0

    @property
    def spilled(self) -> str:
        """Why it is served in another region than its own, '' when it is not."""
        return "" if self.reason == LOCAL else self.reason


class Regions:
    """The regions of a gateway, its pools in them, and what the ways between them cost. Immutable by convention."""

    __slots__ = ("_costs", "_names", "_places", "_ranked", "home", "zone")

    def __init__(
        self,
        names: Sequence[str],
        home: str,
        places: Mapping[str, Place],
        costs: Mapping[str, Mapping[str, float]],
        zone: str = "",
    ) -> None:
        """`home` and `zone` are the gateway's own; `places` of the pools that say where they are. `costs[a][b]` is the way
        from a to b; where there is none, a never spills to b. Of the same cost, the first of `names` is nearer.

        Raise ValueError when something is not one of `names`, or a cost is below 0 or no number.
        """
        self._names = {name: position for position, name in enumerate(names)}
        for name in (home, *(place.region for place in places.values()), *costs, *(to for row in costs.values() for to in row)):
            if name not in self._names:
                raise ValueError(f"no region is called {name!r}")
        for origin, row in costs.items():
            for to, cost in row.items():
                if not 0.0 <= cost < float("inf"):
                    raise ValueError(f"from {origin} to {to} costs {cost}; expected a number of at least 0")
        self.home = home
        self.zone = zone
        self._places = dict(places)
        self._costs = {origin: dict(row) for origin, row in costs.items()}
        self._ranked: dict[tuple[str, tuple[str, ...]], tuple[Ranked, ...]] = {}

    def with_costs(self, costs: Mapping[str, Mapping[str, float]]) -> Regions:
        """The same regions and pools, and what ways cost now. Raises ValueError as they do."""
        return Regions(tuple(self._names), self.home, self._places, costs, self.zone)

    def has(self, region: str) -> bool:
        return region in self._names

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def region_of(self, pool: str) -> str:
        """Where the pool is, '' when nobody said so."""
        place = self._places.get(pool)
        return "" if place is None else place.region

    def cost(self, origin: str, region: str) -> float | None:
        """Of the way; None when there is none."""
        if origin == region:
            return 0.0
        return self._costs.get(origin, {}).get(region)

    def ranked(self, origin: str, pools: tuple[str, ...]) -> tuple[Ranked, ...]:
        """The pools that requests from `origin` may reach, nearest first: by the cost; then, at home, those of the gateway's
        own zone; then as they are listed. What is asked for is configured, so it is kept.
        """
        key = (origin, pools)
        found = self._ranked.get(key)
        if found is None:
            found = self._ranked[key] = self._rank(origin, pools)
        return found

    def _rank(self, origin: str, pools: tuple[str, ...]) -> tuple[Ranked, ...]:
        rows: list[tuple[float, int, bool, int, Ranked]] = []
        for position, pool in enumerate(pools):
            place = self._places.get(pool)
            if place is None:
                continue
            cost = self.cost(origin, place.region)
            if cost is not None:
                other_zone = not (self.zone and place.region == self.home and place.zone == self.zone)
                # A way may cost nothing, and is one all the same.
                nearness = -1 if place.region == origin else self._names[place.region]
                rows.append((cost, nearness, other_zone, position, Ranked(pool, place.region, cost)))
        rows.sort(key=_nearness)
        return tuple([row[4] for row in rows])

    def choose(
        self,
        origin: str,
        pools: tuple[str, ...],
        allowed: Collection[str] | None,
        able: Callable[[str], bool],
        left: Callable[[str], str],
    ) -> Placed:
        """Where a request from `origin` goes that these pools serve.

        The nearest that is able and not left; when each is left, the nearest that is able; when none is able, the nearest that
        is allowed, which will say so. `allowed` regions only, None for all.
        """
        barred = False
        any_local = local_able = local_barred = False
        chosen: Ranked | None = None
        second: Ranked | None = None
        first: Ranked | None = None
        local_why = EMPTY
        for each in self.ranked(origin, pools):
            local = each.region == origin
            if allowed is not None and each.region not in allowed:
                barred = True
                local_barred = local_barred or local
                continue
            any_local = any_local or local
            first = first or each
            can = able(each.pool)
            why = left(each.pool) if can else EMPTY
            if can and not why:
                chosen = each
                break
            if can:
                second = second or each
                local_able = local_able or local
                if local and why == SATURATED:
                    local_why = SATURATED
        placed = chosen or second
        if placed is None and not barred:
            placed = first
        if placed is None:
            return Placed("", origin, "", FORBIDDEN if barred else UNREACHED)
        if placed.region == origin:
            return Placed(placed.pool, origin, origin, LOCAL)
        if any_local:
            reason = SPILL_SATURATED if local_able and local_why == SATURATED else SPILL_EMPTY
        else:
            reason = RESIDENCY if local_barred else ABSENT
        return Placed(placed.pool, origin, placed.region, reason, placed.cost)

    def __repr__(self) -> str:
        return f"<Regions {self.home} of {', '.join(self._names)}>"


def _nearness(row: tuple[float, int, bool, int, Ranked]) -> tuple[float, int, bool, int]:
    return row[:4]


def costs_of_order(names: Sequence[str], order: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """What an order stands for: 1 for the first, 2 for the next. A region without one goes by the order of `names`."""
    rows = {name: order.get(name, [other for other in names if other != name]) for name in names}
    return {name: {other: float(place) for place, other in enumerate(row, 1)} for name, row in rows.items()}


def symmetric(costs: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The costs, and for a way of which only one direction is given, the same for the other."""
    out = {origin: dict(row) for origin, row in costs.items()}
    for origin, row in costs.items():
        for to, cost in row.items():
            out.setdefault(to, {}).setdefault(origin, cost)
    return out
