"""The store against a naive model of it: any order of picks, ends, pages, failures, members and time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from extproc.candidates import ARRAY_SIZE
from extproc.domain import Endpoint, Load
from extproc.pool import PoolStore, Ticket
from tests.fakes.candidates import endpoints
from tests.fakes.clock import FakeClock
from tests.fakes.fuzz import examples

STALE_AFTER_S = 2.0
FOUR = endpoints(4)
OTHERS = endpoints(ARRAY_SIZE, port=9000)
"""Endpoints to which nothing happens: with them, columns are arrays."""


@dataclass
class Naive:
    """An endpoint as a list of what happened to it."""

    in_flight: list[int] = field(default_factory=list)
    """When each request that has not ended was picked, by the count of events."""
    asked_at: int = -1
    """When a page was last asked for."""
    seen_until: int = -1
    """When the page that was last read had been asked for."""
    load: Load = field(default_factory=Load)
    read_at_s: float | None = None
    down: bool = False

    def fresh(self, now_s: float) -> bool:
        return self.read_at_s is not None and now_s - self.read_at_s < STALE_AFTER_S

    def unseen(self) -> int:
        return sum(picked_at > self.seen_until for picked_at in self.in_flight)

    def known(self, value: float | None, now_s: float) -> float | None:
        return value if self.fresh(now_s) and not self.down else None

    def waiting(self, now_s: float) -> float | None:
        waiting = self.known(self.load.waiting, now_s)
        if waiting is None:
            return None
        projected = waiting + self.unseen()
        return projected if self.load.running is None else max(projected, len(self.in_flight) - self.load.running)


Operation: TypeAlias = tuple[Any, ...]
who = st.sampled_from((0, 0, 0, 0, 1, 2, 3))  # mostly the same, so that its events meet
operations = st.one_of(
    st.tuples(st.just("pick"), st.sampled_from((0, 0, 0, 0, 1, 2, 3, 99))),
    st.tuples(st.just("pick"), st.just(0)),
    st.tuples(st.just("release"), st.integers(0, 5)),
    st.tuples(st.just("release"), st.just(0)),
    st.tuples(st.just("move"), st.integers(0, 5), who),
    st.tuples(st.just("started"), who),
    st.tuples(st.just("read"), st.just(0), st.just(Load(waiting=1.0))),
    st.tuples(
        st.just("read"),
        who,
        st.builds(
            Load,
            st.none() | st.integers(0, 5).map(float),
            st.none() | st.integers(0, 5).map(float),
            st.none() | st.sampled_from([0.0, 0.25, 1.0]),
        ),
    ),
    st.tuples(st.just("failed"), who, st.booleans()),
    st.tuples(st.just("replace"), st.lists(who, unique=True)),
    st.tuples(st.just("advance"), st.sampled_from([0.25, 1.0, 1.75, 2.0])),
)


class Run:
    """The store and the model, side by side."""

    def __init__(self, others: list[Endpoint]) -> None:
        self.clock = FakeClock(0.0)
        self.store = PoolStore("p", self.clock, stale_after_s=STALE_AFTER_S)
        self.others = others
        self.naive: dict[str, Naive] = {}
        self.tickets: list[tuple[Ticket, Naive, int]] = []
        self.snapshots: list[tuple[object, tuple[Any, ...]]] = []
        self.count = 0
        self.replace([0, 1, 2, 3])

    def do(self, name: str, *arguments: Any) -> None:
        self.count += 1
        getattr(self, name)(*arguments)

    def pick(self, position: int) -> None:
        candidates = self.store.candidates()
        if len(candidates):
            endpoint = candidates.endpoints[position % len(candidates)]
            naive = self.naive[endpoint.key]
            naive.in_flight.append(self.count)
            self.tickets.append((self.store.picked(endpoint), naive, self.count))

    def release(self, index: int) -> None:
        if self.tickets:
            ticket, naive, picked_at = self.tickets.pop(index % len(self.tickets))
            naive.in_flight.remove(picked_at)
            self.store.release(ticket)

    def move(self, index: int, to: int) -> None:
        """Another endpoint serves the request; one that is not of the pool changes nothing."""
        if self.tickets:
            at = index % len(self.tickets)
            ticket, naive, picked_at = self.tickets[at]
            target = self.naive.get(FOUR[to].key)
            moved = self.store.move(ticket, FOUR[to].key)
            if target is not None and target is not naive:
                naive.in_flight.remove(picked_at)
                target.in_flight.append(self.count)
                self.tickets[at] = (moved, target, self.count)
            else:
                assert moved is ticket

    def started(self, index: int) -> None:
        self.store.page_started(FOUR[index].key)
        if naive := self.naive.get(FOUR[index].key):
            naive.asked_at = self.count

    def read(self, index: int, load: Load) -> None:
        self.store.page_read(FOUR[index].key, load)
        if naive := self.naive.get(FOUR[index].key):
            naive.load, naive.read_at_s, naive.down = load, self.clock(), False
            naive.seen_until = naive.asked_at

    def failed(self, index: int, down: bool) -> None:
        self.store.page_failed(FOUR[index].key, "failed", down=down)
        if naive := self.naive.get(FOUR[index].key):
            naive.down = down

    def replace(self, indices: list[int]) -> None:
        chosen = [FOUR[index] for index in indices] + self.others
        self.store.replace_endpoints(chosen)
        self.naive = {endpoint.key: self.naive.get(endpoint.key, Naive()) for endpoint in chosen}

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def check(self) -> None:
        now_s = self.clock()
        candidates = self.store.candidates()
        up = [key for key, naive in self.naive.items() if not naive.down]
        expected = up or list(self.naive)
        assert [endpoint.key for endpoint in candidates.endpoints] == expected
        members = [self.naive[key] for key in expected]
        signals = [(n.known(n.load.running, now_s), n.known(n.load.kv_usage, now_s)) for n in members]
        assert known(candidates.running) == [running for running, _ in signals]
        assert known(candidates.kv_usage) == [kv_usage for _, kv_usage in signals]
        assert known(candidates.waiting) == [naive.waiting(now_s) for naive in members]
        assert list(candidates.in_flight) == [len(naive.in_flight) for naive in members]
        self.check_views(now_s)
        self.check_stamps((expected, signals))

    def check_views(self, now_s: float) -> None:
        views = {view.endpoint.key: view for view in self.store.describe()}
        assert list(views) == list(self.naive)
        assert len(self.store) == len(self.naive)
        assert self.store.fresh == sum(naive.fresh(now_s) for naive in self.naive.values())
        for key, naive in self.naive.items():
            view = views[key]
            assert view.in_flight == len(naive.in_flight) >= 0
            assert view.unseen == naive.unseen()
            assert view.waiting_projected == naive.waiting(now_s)
            assert view.fresh == naive.fresh(now_s)
            assert view.down == naive.down

    def check_stamps(self, now: tuple[Any, ...]) -> None:
        """The same stamp means the same endpoints, batches and caches."""
        stamp = self.store.candidates().stamp
        for old, snapshot in self.snapshots:
            assert old is not stamp or snapshot == now
        self.snapshots = [*self.snapshots[-3:], (stamp, now)]


def known(column: Any) -> list[float | None]:
    return [None if value != value else float(value) for value in column]


@examples(60)
@given(st.lists(operations, max_size=40))
def test_a_small_pool(script: list[Operation]) -> None:
    run = Run([])
    for operation in script:
        run.do(*operation)
        run.check()


@examples(15)
@given(st.lists(operations, max_size=30))
def test_a_large_pool(script: list[Operation]) -> None:
    run = Run(OTHERS)
    for operation in script:
        run.do(*operation)
        run.check()
