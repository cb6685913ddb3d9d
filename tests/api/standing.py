"""Pools for tests of what is shown of them: a clock, stores, and a history that is sampled when a test says so."""

from __future__ import annotations

from extproc.api.standing import Pools
from extproc.domain import Endpoint, Load
from extproc.pool import PoolStore
from extproc.pool.history import EVERY_S, History
from tests.fakes.clock import FakeClock


class Standing:
    """Pools by name."""

    def __init__(self, most: int = 1000) -> None:
        self.clock = FakeClock()
        self.stores: dict[str, PoolStore] = {}
        self.reuse: dict[str, dict[str, list[int]]] = {}
        self.history = History(most=most)
        self.pools = Pools(lambda: self.stores, self.history)

    def pool(self, name: str, number: int, prefix: str = "pod") -> PoolStore:
        """A pool of so many endpoints, of which nothing is known."""
        store = self.stores[name] = PoolStore(name, self.clock)
        store.replace_endpoints([endpoint(at, f"{prefix}-{at:04}") for at in range(number)])
        return store

    def page(self, pool: str, at: int, **load: float | int) -> None:
        """An endpoint's page says this."""
        store, key = self.stores[pool], endpoint(at).key
        store.page_started(key)
        store.page_read(key, Load(**load))  # type: ignore[arg-type]

    def pick(self, pool: str, at: int, times: int = 1) -> None:
        """Requests go there."""
        for _ in range(times):
            self.stores[pool].picked(endpoint(at))

    def sample(self, after_s: float = EVERY_S) -> None:
        """A moment later."""
        self.clock.advance(after_s)
        views = {name: store.views for name, store in self.stores.items()}
        now_s = 1_700_000_000.0 + self.clock()
        for _ in self.history.sample(views, lambda pool: self.reuse.get(pool, {}), now_s, self.clock()):
            pass


def endpoint(at: int, name: str = "") -> Endpoint:
    """The one of this number, on a port of its own."""
    return Endpoint(f"10.0.{at // 250}.{at % 250 + 1}", 8000, name=name)
