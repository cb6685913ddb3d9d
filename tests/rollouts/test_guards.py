from __future__ import annotations

import pytest

from extproc.rollouts.guards import Moved, PoolLoad, moved, too_much, too_soon

BUSY = {"endpoints": 4.0, "running": 60.0, "waiting": 20.0}


@pytest.mark.parametrize(
    ("after", "load", "refused"),
    [
        (10, {"endpoints": 1.0, "running": 0.0}, False),
        (25, {"endpoints": 1.0, "running": 0.0}, False),
        (50, {"endpoints": 1.0, "running": 0.0}, True),
        (50, {"endpoints": 2.0, "running": 0.0}, False),
        (50, {"endpoints": 2.0, "running": 20.0}, True),
        (10, {"endpoints": 0.0}, True),
        (90, {}, False),
    ],
)
def test_a_pool_gets_no_more_than_its_neighbours_carry(after: int, load: dict[str, float], refused: bool) -> None:
    pools = {"big": PoolLoad(100, 100 - after, BUSY), "small": PoolLoad(0, after, load)}
    assert bool(too_much(pools)) is refused


def test_pools_that_do_next_to_nothing_are_not_compared() -> None:
    idle = {"endpoints": 4.0, "in_flight": 3.0}
    assert too_much({"a": PoolLoad(100, 0, idle), "b": PoolLoad(0, 100, {"endpoints": 1.0, "in_flight": 0.0})}) == []


def test_who_gets_less_is_asked_nothing() -> None:
    assert too_much({"a": PoolLoad(50, 40, {"endpoints": 0.0}), "b": PoolLoad(50, 60, BUSY)}) == []


def test_pools_of_several_regions_are_named_together() -> None:
    small = {"endpoints": 2.0, "running": 20.0}
    (why,) = too_much({"big": PoolLoad(100, 50, BUSY), "west": PoolLoad(0, 50, small, ("north",))})
    assert why.startswith("pools west, north would have about 60 requests at once on 2 endpoints, 30 on each")
    (why,) = too_much({"big": PoolLoad(100, 50, BUSY), "west": PoolLoad(0, 50, {"endpoints": 0.0}, ("north",))})
    assert why == "pools west, north have no endpoint, and would get 50 % of the requests"


def test_two_large_changes() -> None:
    history = [Moved(100.0, 5), Moved(50.0, 30)]
    assert too_soon(history, 24, 25, 600, 200.0) == ""
    assert too_soon(history, 25, 25, 600, 700.0) == ""
    assert too_soon(history, 25, 25, 600, 200.0).startswith("30 % of the traffic were moved 150 s ago, and 25 % more")


def test_how_much_a_change_moves() -> None:
    assert moved({"a": 90, "b": 10}, {"a": 50, "b": 30, "c": 20}) == 40
    assert moved({}, {"a": 100}) == 100
