"""How much of a pool's requests goes elsewhere: nothing without a reason, as many as are too many, and the same ones."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from statistics import fmean, pstdev
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.traffic.spill import EMPTY, OPEN, SATURATED, Spill, SpillBounds
from tests.fakes.chance import Draws
from tests.fakes.fuzz import examples

BOUNDS = SpillBounds(enter=1.0, leave=0.5, enter_after_s=1.0, leave_after_s=5.0)


def test_it_is_left_when_it_has_been_full_for_a_while() -> None:
    spill = Spill(BOUNDS)
    assert not spill.saw(True, 1.2, 0.0)
    assert not spill.saw(True, 0.9, 0.5)
    assert not spill.saw(True, 1.0, 1.0)
    assert not spill.saw(True, 1.0, 1.9)
    assert spill.share == 0.0
    assert spill.saw(True, 1.0, 2.0)
    assert spill.left == SATURATED
    assert 0.0 < spill.share < 0.5
    assert repr(spill) == f"<Spill saturated {spill.share:.0%}>"


def looks(spill: Spill, saturation: float | None, begin_s: float, seconds: float) -> list[float]:
    """The share after each look, ten times a second."""
    shares = []
    for look in range(round(seconds * 10)):
        spill.saw(True, saturation, begin_s + look / 10)
        shares.append(spill.share)
    return shares


def test_the_share_rises_while_it_is_full_and_falls_slower_when_it_has_had_room_for_a_while() -> None:
    spill = Spill(BOUNDS)
    rising = looks(spill, 2.0, 0.0, 30.0)
    assert rising == sorted(rising)
    assert rising[-1] == 1.0
    falling = looks(spill, 0.2, 30.0, 100.0)
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == 0.0
    assert spill.left == OPEN
    steps = [before - after for before, after in pairwise(falling)]
    assert max(steps) <= 0.5 / 5.0 / 10 + 1e-9


def test_between_the_bounds_it_stays() -> None:
    spill = Spill(BOUNDS)
    looks(spill, 1.5, 0.0, 5.0)
    looks(spill, 0.8, 5.0, 20.0)
    shares = looks(spill, 0.8, 25.0, 100.0)
    assert shares[-1] > 0.0
    assert max(shares) - min(shares) < 1e-6


def test_one_that_can_not_serve_is_left_at_once_and_wholly() -> None:
    spill = Spill(BOUNDS)
    assert not spill.saw(False, None, 0.0), "it was never there"
    assert not spill.saw(True, 0.0, 1.0)
    assert spill.saw(False, None, 1.1)
    assert (spill.left, spill.share) == (EMPTY, 1.0)
    assert not spill.saw(True, None, 2.0)
    assert not spill.saw(False, None, 6.0)
    assert not spill.saw(True, None, 7.0)
    assert spill.saw(True, None, 12.0), "nobody knows how full it is, and it can serve"
    assert (spill.left, spill.share) == (OPEN, 0.0)


def test_one_that_is_full_and_then_can_not_serve_is_left_wholly() -> None:
    spill = Spill(BOUNDS)
    looks(spill, 1.2, 0.0, 2.0)
    assert spill.saw(False, None, 3.0)
    assert (spill.left, spill.share) == (EMPTY, 1.0)


def test_what_is_not_known_changes_nothing() -> None:
    spill = Spill(BOUNDS._replace(enter_after_s=0.0))
    assert not spill.saw(True, None, 0.0)
    assert spill.saw(True, 3.0, 1.0)
    share = spill.share
    assert looks(spill, None, 1.1, 60.0)[-1] == share
    assert spill.left == SATURATED


def test_the_same_keys_go_and_of_a_smaller_share_none_but_those() -> None:
    spill, keys = Spill(BOUNDS, "llama"), [b"user-%d" % number for number in range(5000)]
    looks(spill, 1.4, 0.0, 4.0)
    gone = {key for key in keys if spill.left_by(key, Draws())}
    assert gone == {key for key in keys if spill.left_by(key, Draws())}
    assert len(gone) / len(keys) == pytest.approx(spill.share, abs=0.03)
    share = spill.share
    looks(spill, 1.4, 4.0, 2.0)
    assert spill.share > share
    more = {key for key in keys if spill.left_by(key, Draws())}
    assert gone < more
    assert {spill.left_by(key, Draws()) for key in more} == {SATURATED}
    other = Spill(BOUNDS, "phi")
    looks(other, 1.4, 0.0, 6.0)
    others = {key for key in keys if other.left_by(key, Draws())}
    assert len(others & more) / len(keys) == pytest.approx(spill.share * other.share, abs=0.03), "each pool has its own"


def test_who_has_no_key_is_drawn() -> None:
    spill = Spill(BOUNDS)
    looks(spill, 1.4, 0.0, 2.0)
    assert spill.is_partial
    assert spill.left_by(None, Draws(spill.share - 0.001)) == SATURATED
    assert spill.left_by(None, Draws(spill.share + 0.001)) == OPEN


@given(
    st.lists(st.tuples(st.booleans(), st.none() | st.floats(0, 3), st.floats(0.01, 2)), max_size=200),
    st.floats(0, 3),
    st.floats(0, 6),
)
def test_whatever_is_seen_it_is_left_no_sooner_and_moves_no_faster(
    seen: list[tuple[bool, float | None, float]], enter_after_s: float, leave_after_s: float
) -> None:
    bounds = SpillBounds(1.0, 0.5, enter_after_s, leave_after_s)
    spill, now_s, since_s = Spill(bounds), 0.0, 0.0
    for can_serve, saturation, later_s in seen:
        now_s += later_s
        before, share = spill.left, spill.share
        changed = spill.saw(can_serve, saturation, now_s)
        assert changed == (spill.left != before)
        assert 0.0 <= spill.share <= 1.0
        assert (spill.left == OPEN) == (spill.share == 0.0)
        if spill.left == EMPTY:
            assert spill.share == 1.0
        elif before == spill.left == SATURATED:
            most = later_s / max(leave_after_s, 0.1)
            assert -0.5 * most - 1e-9 <= spill.share - share <= most + 1e-9
        if not changed:
            continue
        if spill.left == SATURATED:
            assert before == OPEN
            assert now_s - since_s >= enter_after_s
            assert saturation is not None
            assert saturation >= bounds.enter
        elif spill.left == OPEN and before == EMPTY:
            assert can_serve
            assert now_s - since_s >= leave_after_s
            assert saturation is None or saturation <= bounds.leave
        since_s = now_s


@given(st.lists(st.floats(0.51, 0.99), min_size=1, max_size=100))
def test_noise_below_the_bound_moves_nothing(noise: list[float]) -> None:
    spill = Spill(BOUNDS._replace(enter_after_s=0.0, leave_after_s=0.0))
    assert not any(spill.saw(True, saturation, float(at)) for at, saturation in enumerate(noise, 1))
    assert spill.share == 0.0


# -- a pool under load, in virtual time ---------------------------------------------------------------------------------


class PoolOf(NamedTuple):
    """Ten endpoints; how many requests each runs at once, how long one takes (exponential), the KV cache when all run."""

    running: int
    takes_s: float
    kv_usage: float

    @property
    def rate(self) -> float:
        """What it can serve, requests a second."""
        return 10 * self.running / self.takes_s


class Second(NamedTuple):
    """What it was like, on average over a second."""

    share: float
    utilization: float
    """Of its places to run."""


def poisson(mean: float, chance: random.Random) -> int:
    if mean > 30:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    below, number, product = math.exp(-mean), 0, chance.random()
    while product > below:
        number += 1
        product *= chance.random()
    return number


def simulated(pool: PoolOf, loads: list[tuple[float, float]], seed: int) -> list[Second]:
    """A pool whose requests arrive by chance, so many times what it can serve for so many seconds; pages are 50 ms old."""
    chance, spill = random.Random(seed), Spill(SpillBounds(), "p")
    places, there, saturation, now_s = 10 * pool.running, 0, 0.0, 0.0
    seconds = []
    for load, length_s in loads:
        for _ in range(round(length_s)):
            shares, busy = [], []
            for step in range(20):
                arrived = poisson(pool.rate * load * (1 - spill.share) * 0.05, chance)
                there += arrived
                running = min(there, places)
                there -= min(running, poisson(running * (1 - math.exp(-0.05 / pool.takes_s)), chance))
                now_s += 0.05
                if step % 2:
                    spill.saw(True, saturation, now_s)
                waiting, used = max(0, there - places) / 10, min(there, places) / places
                saturation = max(waiting / 5, used * pool.kv_usage / 0.8)
                shares.append(spill.share)
                busy.append(used)
            seconds.append(Second(fmean(shares), fmean(busy)))
    return seconds


POOLS = {
    "embeddings": PoolOf(4, 0.2, 0.3),
    "short chats": PoolOf(8, 0.5, 0.5),
    "chats": PoolOf(8, 4.0, 0.75),
    "long chats": PoolOf(32, 30.0, 0.79),
    "long and a short batch": PoolOf(8, 30.0, 0.4),
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("load", [1.5, 3.0])
@examples(3)
@given(seed=st.integers(0, 2**32))
def test_lasting_overload_comes_to_a_steady_share_and_goes_with_the_load(name: str, load: float, seed: int) -> None:
    seconds = simulated(POOLS[name], [(load, 300.0), (0.3, 120.0)], seed)
    steady = seconds[150:300]
    too_many = 1 - 1 / load
    mean = fmean(second.share for second in steady)
    wide = 2 if POOLS[name].rate < 5 else 1  # of three requests a second chance alone makes more and fewer
    assert too_many - 0.15 * wide <= mean <= too_many + 0.25 * wide, "as many as it can't serve, and few more"
    assert pstdev(second.share for second in steady) < 0.15 * wide
    assert max(second.share for second in steady) - min(second.share for second in steady) < 0.5 * wide, "it does not swing"
    assert fmean(second.utilization for second in steady) > 0.75, "it is kept busy"
    assert seconds[-1].share == 0.0


@pytest.mark.parametrize("name", POOLS)
@examples(3)
@given(seed=st.integers(0, 2**32))
def test_a_pool_that_can_serve_it_all_spills_nothing(name: str, seed: int) -> None:
    assert max(second.share for second in simulated(POOLS[name], [(0.6, 120.0)], seed)) == 0.0
