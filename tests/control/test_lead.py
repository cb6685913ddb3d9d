from __future__ import annotations

from extproc.control.lead import Lead
from extproc.storage.memory import MemoryStore


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_one_of_two_leads_as_long_as_it_writes() -> None:
    store, clock = MemoryStore(), Clock()
    one, other = Lead(store, "one", clock), Lead(store, "other", clock)
    for _ in range(20):
        assert await one.held()
        assert not await other.held()
        clock.now_s += 1.0


async def test_who_is_killed_is_followed_after_the_lease_and_does_not_come_back() -> None:
    store, clock = MemoryStore(), Clock()
    one, other = Lead(store, "one", clock, 5.0), Lead(store, "other", clock, 5.0)
    assert await one.held()
    assert not await other.held()
    clock.now_s += 4.9
    assert not await other.held()
    clock.now_s += 0.2
    assert await other.held()
    assert not await one.held(), "it wakes up, and another leads"
    clock.now_s += 1.0
    assert await other.held()


async def test_who_leaves_is_followed_at_once() -> None:
    store, clock = MemoryStore(), Clock()
    one, other = Lead(store, "one", clock), Lead(store, "other", clock)
    assert await one.held()
    await one.leave()
    assert await other.held()
    await one.leave()
    assert await other.held()


async def test_of_two_who_take_it_at_once_one_gets_it() -> None:
    store, clock = MemoryStore(), Clock()
    first = Lead(store, "first", clock)
    assert await first.held()
    one, other = Lead(store, "one", clock), Lead(store, "other", clock)
    assert [await one.held(), await other.held()] == [False, False]
    clock.now_s += 6.0
    assert [await one.held(), await other.held()] == [True, False]
