"""What changes by itself on the pages of pools: made once a tick for all pages that show the same endpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from extproc.api.page import words
from extproc.api.page.figures import TICK_S, Cells
from extproc.api.page.kept import BEAT_S
from extproc.api.standing import Pool, Pools, Standing

_MOST: Final = 256
"""Lists of endpoints that are kept: who asks says which, and may ask for any. What an open page shows comes in again."""
_FORGET_S: Final = 60.0
"""After nobody has asked."""
COLUMNS: Final = ("waiting", "running", "kv", "in_flight", "picks", "hits", "age")
ALL: Final = ""
"""Stands for the list of all pools."""

_Key = tuple[str, tuple[str, ...]]


class Shown:
    """Some endpoints of a pool, or all pools, as pages show them."""

    def __init__(self, figures: PoolFigures, pool: str, keys: tuple[str, ...]) -> None:
        self._figures = figures
        self.pool = pool
        self.keys = keys
        self.tick = -1
        self.asked_s = 0.0
        self.made: dict[str, str] = {}
        self.differs: dict[str, str] = {}
        """Since the tick before."""

    def cells(self) -> dict[str, str]:
        """All of theirs."""
        self._figures.refresh(self)
        return self.made

    def changed(self, since: int) -> Cells:
        """What is different from the tick `since`."""
        self._figures.refresh(self)
        if since >= self.tick:
            return {}
        return self.differs if since == self.tick - 1 else self.made


class PoolFigures:
    """One per server; one event loop."""

    def __init__(self, pools: Pools | None, clock: Callable[[], float]) -> None:
        """`clock` is monotonic, in seconds."""
        self._pools = pools
        self._clock = clock
        self._known: dict[_Key, Shown] = {}
        self._whole: dict[str, tuple[int, dict[str, str]]] = {}
        """By pool, its cells and of which tick they are."""

    def of(self, pool: str, keys: Sequence[str] = ()) -> Shown:
        """These endpoints of this pool; `ALL`: what the list of pools shows."""
        key = (pool, tuple(keys))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Shown(self, pool, key[1])
            while len(self._known) > _MOST:
                del self._known[next(iter(self._known))]
        found.asked_s = self._clock()
        return found

    def refresh(self, shown: Shown) -> None:
        """Make its cells, if they are not those of this tick."""
        now_s = self._clock()
        shown.asked_s = now_s
        self._known.setdefault((shown.pool, shown.keys), shown)
        tick = int(now_s / TICK_S)
        if shown.tick == tick:
            return
        cells: dict[str, str] = {}
        if self._pools is not None:
            for pool in self._pools.all() if shown.pool == ALL else [self._pools.get(shown.pool)]:
                if pool is not None:
                    cells |= self._of_pool(pool, tick, now_s)
                    for key in shown.keys:
                        cells |= endpoint_cells(key, pool.standing(key))
        shown.differs = {key: text for key, text in cells.items() if shown.made.get(key) != text}
        shown.made = cells
        # Of a tick that nobody asked for there are no differences: who was there before gets everything.
        if shown.tick != tick - 1:
            shown.differs = cells
        shown.tick = tick
        for old in [key for key, each in self._known.items() if now_s - each.asked_s > _FORGET_S]:
            del self._known[old]

    def _of_pool(self, pool: Pool, tick: int, now_s: float) -> dict[str, str]:
        """Of the whole pool: sums over all of it, so they are made once a tick, whoever shows which of its endpoints."""
        found = self._whole.get(pool.name)
        if found is None or found[0] != tick:
            found = self._whole[pool.name] = (tick, pool_cells(pool, now_s))
        return found[1]


def pool_cells(pool: Pool, now_s: float) -> dict[str, str]:
    """Of the pool as a whole."""
    told = pool.shape()
    name = pool.name
    stale = told["endpoints"] - told["fresh"] - told["down"]
    return {
        f"{name}//version": str(pool.store.revision),
        f"{name}//beat": str(int(now_s / BEAT_S)),
        f"{name}//endpoints": f"{told['endpoints']:,}",
        f"{name}//eligible": f"{told['eligible']:,}",
        f"{name}//stale": f"{max(0, stale):,}",
        f"{name}//down": f"{told['down']:,}",
        f"{name}//waiting": words.count(told["waiting_mean"]),
        f"{name}//kv": words.percent(told["kv_usage_mean"]),
        f"{name}//in_flight": f"{told['in_flight']:,}",
        f"{name}//picks": words.rate(told["picks_per_s"]),
    }


def endpoint_cells(key: str, standing: Standing | None) -> dict[str, str]:
    """Of one endpoint."""
    if standing is None:
        return {f"{key}/health": "gone", f"{key}/why": "it is not in the pool any more"}
    view, track = standing.view, standing.track
    load = view.load
    return {
        f"{key}/health": standing.health,
        f"{key}/why": standing.why,
        f"{key}/waiting": words.count(load.waiting),
        f"{key}/running": words.count(load.running),
        f"{key}/kv": words.percent(load.kv_usage),
        f"{key}/in_flight": f"{view.in_flight:,}",
        f"{key}/picks": words.rate(None if track is None else track.picks_per_s),
        f"{key}/hits": words.percent(None if track is None else track.hits),
        f"{key}/age": words.age(view.age_s),
    }
