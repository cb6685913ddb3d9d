"""Guards of a change of traffic: whether a pool can take it, and whether the last large change has shown what it does.

Nobody knows a pool's capacity; what is known is how many requests its neighbours carry now. So a change is too much when it
would put clearly more on each endpoint of a pool than the busiest pool of the same serving endpoint has on each of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

_IDLE: Final = 4.0
"""Requests at once on an endpoint that any model server takes."""
_MORE: Final = 1.25
"""Times what the busiest pool has on each endpoint: that much more is still believed to be fine."""


class PoolLoad(NamedTuple):
    """A pool before and after a change: its share of the endpoint's requests in percent, and how busy it is now.

    Pools of several regions that serve the same are one, as what is too much for the nearest goes to the others.
    """

    before: int
    after: int
    load: Mapping[str, float]
    """`endpoints`, and `running` and `waiting` or else `in_flight`, of all of them; empty when nobody measures it."""
    beside: tuple[str, ...] = ()
    """Those of other regions, by name."""

    @property
    def endpoints(self) -> float:
        return self.load.get("endpoints", 0.0)

    @property
    def busy(self) -> float:
        """Requests that it has now."""
        if "running" in self.load:
            return self.load["running"] + self.load.get("waiting", 0.0)
        return self.load.get("in_flight", 0.0)


def too_much(pools: Mapping[str, PoolLoad]) -> list[str]:
    """Why a change exceeds what a pool can take, in words; nothing when it does not."""
    total = sum(pool.busy for pool in pools.values() if pool.before)
    known = [pool.busy / pool.endpoints for pool in pools.values() if pool.endpoints and pool.before]
    bound = max(_IDLE, _MORE * max(known, default=0.0))
    found = []
    for name, pool in pools.items():
        if pool.after <= pool.before or not pool.load:
            continue
        who = f"pools {', '.join((name, *pool.beside))}" if pool.beside else f"pool {name}"
        if not pool.endpoints:
            found.append(f"{who} {'have' if pool.beside else 'has'} no endpoint, and would get {pool.after} % of the requests")
            continue
        then = max(pool.busy, 0.0) + total * (pool.after - pool.before) / 100
        if then / pool.endpoints > bound:
            found.append(
                f"{who} would have about {then:.0f} requests at once on {pool.endpoints:.0f} endpoints, "
                f"{then / pool.endpoints:.0f} on each; the busiest pool has {max(known, default=0.0):.0f} on each now"
            )
    return found


class Moved(NamedTuple):
    """A change of shares, once."""

    at_s: float
    percent: int
    """How much of the traffic went elsewhere."""


def moved(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """Percent of the traffic that another entity has after a change."""
    return sum(max(0, share - before.get(name, 0)) for name, share in after.items())


def too_soon(history: Sequence[Moved], percent: int, large: int, bake_s: float, now_s: float) -> str:
    """Why a change by so much has to wait, in words; '' when it has not."""
    if percent < large:
        return ""
    for each in history:
        age_s = now_s - each.at_s
        if each.percent >= large and age_s < bake_s:
            return (
                f"{each.percent} % of the traffic were moved {age_s:.0f} s ago, and {percent} % more are a large change too: "
                f"expected {bake_s:g} s between two of them"
            )
    return ""
