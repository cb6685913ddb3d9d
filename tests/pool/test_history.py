"""What endpoints were like: sampled a little at a time, bounded, and gone with them."""

from __future__ import annotations

import pytest

from extproc.pool.history import AT_ONCE, MEASURES, SAMPLES, packed, unpacked
from tests.api.standing import Standing, endpoint

KEY = endpoint(0).key


@pytest.mark.parametrize("value", [*range(20), 0.4, 25.0, 333.0, 50_000.0])
def test_a_number_is_kept_in_a_byte_and_nearly_what_it_was(value: float) -> None:
    byte = packed(value, share=False)
    assert 1 <= byte <= 255
    found = unpacked(byte, share=False)
    assert found == pytest.approx(value, rel=0.025, abs=0.05)
    if value == int(value) and value < 20:
        assert found is not None
        assert round(found) == value


@pytest.mark.parametrize("value", [0.0, 0.001, 0.5, 0.97, 1.0])
def test_a_share_is_kept_in_a_byte(value: float) -> None:
    assert unpacked(packed(value, share=True), share=True) == pytest.approx(value, abs=0.002)


@pytest.mark.parametrize(("value", "share"), [(None, True), (None, False), (float("nan"), False)])
def test_what_is_unknown_is_not_zero(value: float | None, share: bool) -> None:
    assert packed(value, share) == 0
    assert unpacked(0, share) is None
    assert packed(0.0, share) != 0


@pytest.mark.parametrize(("value", "share"), [(1e30, False), (-3.0, False), (7.0, True), (-1.0, True)])
def test_what_is_out_of_range_is_the_nearest(value: float, share: bool) -> None:
    assert 1 <= packed(value, share) <= 255


def test_measures_of_each_moment() -> None:
    standing = Standing()
    standing.pool("own", 2)
    standing.page("own", 0, waiting=3, running=8, kv_usage=0.5)
    standing.sample(1)
    standing.pick("own", 0, 20)
    standing.reuse["own"] = {KEY: [1000, 250]}
    standing.page("own", 0, waiting=5, running=8, kv_usage=0.75)
    standing.sample(1)
    history = standing.history
    assert len(history.at()) == 2
    assert history.at()[1] - history.at()[0] == 1
    assert [round(value or 0) for value in history.values("own", KEY, "waiting")] == [3, 5]
    assert history.values("own", KEY, "kv_usage") == pytest.approx([0.5, 0.75], abs=0.01)
    assert history.values("own", KEY, "picks") == [None, pytest.approx(20, rel=0.03)]
    assert history.values("own", KEY, "hits") == [None, pytest.approx(0.25, abs=0.01)]
    assert history.values("own", endpoint(1).key, "waiting") == [None, None], "nothing is known of it"
    assert history.picks_per_s("own") == 20
    standing.sample(10)
    assert history.values("own", KEY, "waiting")[-1] is None, "its page is stale"
    assert history.values("own", KEY, "in_flight")[-1] == pytest.approx(20, rel=0.03), "what is counted here is not"
    assert history.values("own", KEY, "picks")[-1] == 0


def test_hits_are_of_the_last_minute_and_unknown_without_prompts() -> None:
    standing = Standing()
    standing.pool("own", 1)
    standing.reuse["own"] = {KEY: [1000, 1000]}
    standing.sample()
    standing.reuse["own"] = {KEY: [2000, 2000]}
    standing.sample()
    standing.reuse["own"] = {KEY: [4000, 2000]}
    standing.sample()
    track = standing.history.track("own", KEY)
    assert track is not None
    assert track.hits is not None
    assert 0.25 < track.hits < 0.35, "what is new counts more"
    standing.reuse["own"] = {}
    standing.sample(600)
    assert track.hits is None


def test_spreads_are_over_who_is_known() -> None:
    standing = Standing()
    standing.pool("own", 101)
    for at in range(100):
        standing.page("own", at, kv_usage=at / 100)
    standing.sample(1)
    (spread,) = standing.history.spreads("own", "kv_usage")
    assert (spread.middle, spread.p95, spread.most) == pytest.approx((0.49, 0.94, 0.99), abs=0.01)
    assert standing.history.spreads("own", "hits") == [(None, None, None)]


def test_a_ring_of_fifteen_minutes() -> None:
    standing = Standing()
    standing.pool("own", 1)
    for _ in range(SAMPLES + 5):
        standing.page("own", 0, waiting=1)
        standing.sample()
    at = standing.history.at()
    assert len(at) == SAMPLES
    assert at == sorted(at)
    assert at[-1] - at[0] == (SAMPLES - 1) * 10
    assert len(standing.history.values("own", KEY, "waiting")) == SAMPLES


def test_what_leaves_is_forgotten_and_there_is_a_bound() -> None:
    standing = Standing(most=3)
    standing.pool("own", 2)
    standing.pool("other", 3)
    standing.sample()
    history = standing.history
    assert (len(history), history.untracked("own"), history.untracked("other")) == (3, 0, 2)
    standing.stores["own"].replace_endpoints([endpoint(1)])
    standing.sample()
    assert history.track("own", KEY) is None
    standing.sample()
    assert (len(history), history.untracked("other")) == (3, 1), "there is room again"
    del standing.stores["other"]
    standing.sample()
    assert len(history) == 1


def test_a_large_pool_is_sampled_a_little_at_a_time() -> None:
    standing = Standing(most=10_000)
    store = standing.pool("own", 1000)
    steps = list(standing.history.sample({"own": store.views}, lambda pool: {}, 1.0, 1.0))
    assert len(steps) >= 1000 / AT_ONCE
    track = standing.history.track("own", KEY)
    assert track is not None
    assert len(track.kept) == SAMPLES * len(MEASURES), "a byte for each moment and measure"


def test_readers_do_not_see_a_moment_that_is_under_way() -> None:
    standing = Standing()
    store = standing.pool("own", 1000)
    standing.sample()
    sampling = standing.history.sample({"own": store.views}, lambda pool: {}, 2.0, 20.0)
    next(sampling)
    assert len(standing.history.at()) == 1
    assert len(standing.history.values("own", KEY, "in_flight")) == 1
