"""Regions as a part of a gateway: what is looked at, and what a config makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from extproc.app import build
from extproc.app.config_file import ConfigFile
from extproc.app.pools import FIRST_ROUND_S, Pools
from extproc.app.regions import AT_ONCE, LOOK_S, RegionWatch, Watched, regions_in, regions_of
from extproc.domain import Endpoint, Load
from extproc.live import LiveWriter
from extproc.observability.regions import RegionMetrics
from extproc.settings.base import SettingsError
from extproc.settings.commands import GatewaySettings
from extproc.settings.document import load_document
from extproc.settings.gateway import gateway_parts
from extproc.settings.regions import RegionSettings, RegionsSettings
from extproc.traffic.regions import Place, Regions
from extproc.traffic.segments import Segments, SegmentSpec
from extproc.traffic.spill import EMPTY, OPEN, SATURATED
from tests.app.running import part
from tests.fakes.deployment import Deployment
from tests.fakes.page import counted

FULL = Load(waiting=50, running=8, kv_usage=0.9)
GIVEN: dict[str, Any] = {"self": "west", "names": ["west", "north"], "spill": {"enterAfter": "1s", "leaveAfter": "3s"}}
PLACES = {"w": Place("west"), "n": Place("north")}


class World:
    def __init__(self, **given: Any) -> None:
        self.deployment = Deployment()
        self.stores = {name: self.deployment.add_pool(name) for name in ("w", "n", "plain")}
        self.segments = LiveWriter(Segments(), "segments")
        regions = Regions(["west", "north"], "west", PLACES, {})
        self.watch = RegionWatch(
            regions,
            RegionsSettings.model_validate({**GIVEN, **given}),
            self.deployment.pools,
            self.segments.live,
            RegionMetrics(self.deployment.instruments),
            self.deployment.clock,
        )

    def pages(self, load: Load, *pools: str) -> None:
        for pool in pools or ("w", "n"):
            for key in self.stores[pool].members():
                self.stores[pool].page_started(key)
                self.stores[pool].page_read(key, load)

    def looks(self, load: Load, seconds: float) -> None:
        """Look for that long, while the pages of `w` say this."""
        for _ in range(round(seconds / LOOK_S)):
            self.deployment.clock.advance(LOOK_S)
            self.pages(load, "w")
            self.watch.look()

    def left(self) -> str:
        return self.watch.spills["w"].left

    def shares(self) -> dict[str, float]:
        return counted(self.deployment.instruments, "extproc_region_spill_share")

    def spilling(self) -> dict[str, float]:
        return counted(self.deployment.instruments, "extproc_region_spilling")


IDLE = Load(waiting=0, running=0, kv_usage=0.0)


def test_a_pool_is_left_for_its_saturation_and_taken_again() -> None:
    world = World()
    assert set(world.watch.spills) == {"w", "n"}, "a pool without a region is none of them"
    world.looks(IDLE, 1)
    assert (world.left(), world.spilling()) == (OPEN, {})
    world.looks(FULL, 0.9)
    assert world.left() == OPEN
    world.looks(FULL, 0.4)
    assert world.left() == SATURATED
    assert world.spilling() == {'extproc_region_spilling{name="w",reason="saturated",region="west"}': 1}
    share = world.watch.spills["w"].share
    assert 0.0 < share < 1.0
    assert world.shares() == {'extproc_region_spill_share{name="w",region="west"}': share}
    world.looks(FULL, 10)
    assert world.shares() == {'extproc_region_spill_share{name="w",region="west"}': 1.0}
    world.looks(IDLE, 1)
    assert world.left() == SATURATED
    world.looks(IDLE, 30)
    assert (world.left(), world.spilling(), world.shares()) == (OPEN, {}, {})


def test_a_pool_of_which_nothing_is_known_is_not_full() -> None:
    world = World()
    world.looks(IDLE, 1)
    pool = Watched(world.deployment.pools["w"], 2.0)
    assert pool.saturation() == 0.0
    for _ in range(100):
        world.deployment.clock.advance(LOOK_S)
        world.watch.look()
        assert world.left() == OPEN
    assert pool.saturation() is None


def test_the_mean_is_of_those_of_which_something_is_known() -> None:
    world = World()
    pool, (first, _) = world.deployment.pools["w"], world.stores["w"].members()
    world.deployment.clock.advance(3)
    world.stores["w"].page_started(first)
    world.stores["w"].page_read(first, FULL)
    assert Watched(pool, 2.0).saturation() == pytest.approx(10.0)


def test_a_large_pool_is_read_in_parts() -> None:
    """Each look costs the same; when all parts have been seen it is what the whole is."""
    deployment = Deployment()
    store = deployment.add_pool("large")
    number = 5 * AT_ONCE + 3
    store.replace_endpoints([Endpoint(f"10.0.{at // 250}.{at % 250 + 1}", 8000) for at in range(number)])
    for at, key in enumerate(store.members()):
        store.page_started(key)
        store.page_read(key, FULL if at % 2 else IDLE)
    pool, whole = Watched(deployment.pools["large"], 2.0), 10.0 * (number // 2) / number
    looks = [pool.saturation() for _ in range(6)]
    assert looks[-1] == pytest.approx(whole)
    assert pool.saturation() == pytest.approx(whole)
    for key in store.members():
        store.page_started(key)
        store.page_read(key, IDLE)
    falling = [pool.saturation() for _ in range(6)]
    assert falling[-1] == 0.0
    assert all(value is not None for value in falling)
    assert falling == sorted(falling, key=lambda value: -(value or 0.0))
    store.replace_endpoints([Endpoint("10.0.0.1", 8000)])
    assert pool.saturation() == 0.0


def test_an_empty_pool_is_left_at_once() -> None:
    world = World()
    world.looks(IDLE, 0.2)
    world.stores["w"].replace_endpoints([])
    world.watch.look()
    assert world.left() == EMPTY
    assert world.spilling() == {'extproc_region_spilling{name="w",reason="empty",region="west"}': 1}


def test_rules_follow_the_segments() -> None:
    world = World(residency=[{"name": "vip", "stay_in": "own", "match": {"segments": ["vip"]}}])
    assert not world.watch.residency.value.needs_key
    world.segments.replace(Segments([SegmentSpec("vip", keys=frozenset({b"ann"}))]))
    world.watch.look()
    assert world.watch.residency.value.needs_key


def config(**changes: Any) -> dict[str, Any]:
    pools = [
        {"name": name, "region": region, "endpoints": {"static": [f"127.0.0.1:{port}"]}}
        for name, region, port in (("w", "west", 8101), ("n", "north", 8102))
    ]
    return {
        "apiVersion": "extproc.dev/v1alpha1",
        "kind": "Gateway",
        "pools": pools,
        "routes": [{"models": ["m"], "pools": ["w", "n"]}],
        "regions": {"self": "west", "names": ["west", "north"]},
        **changes,
    }


def made(settings: RegionSettings, **changes: Any) -> tuple[Regions | None, list[str]]:
    problems: list[str] = []
    found = regions_of(gateway_parts(load_document(json.dumps(config(**changes)))), settings, problems, "g.yaml: ")
    return found, problems


def test_what_a_config_says() -> None:
    found, problems = made(RegionSettings())
    assert found is not None
    assert (found.home, found.cost("west", "north"), problems) == ("west", 1.0, [])
    costs = {"self": "west", "names": ["west", "north"], "zone": "a", "costs": {"north": {"west": 2.5}}}
    found, _ = made(RegionSettings(region="north"), regions=costs)
    assert found is not None
    assert (found.home, found.zone, found.cost("west", "north")) == ("north", "a", 2.5)


def test_flags_that_do_not_fit() -> None:
    assert made(RegionSettings(region="mars")) == (None, ["--region: no region is called 'mars' (there are: west, north)"])
    assert made(RegionSettings(), regions={"names": ["west", "north"]}) == (
        None,
        ["g.yaml: regions.self: expected the region of this gateway, here or as --region"],
    )
    plain = {"pools": [{"name": "w", "endpoints": {"static": ["127.0.0.1:1"]}}], "routes": [{"models": ["m"], "pool": "w"}]}
    assert made(RegionSettings(region="west"), **plain, regions=None) == (
        None,
        ["--region: the config has no regions; expected them in g.yaml"],
    )


def test_a_gateway_has_the_stage_only_with_regions(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(config()))
    service = build(GatewaySettings(config_file=str(file)))
    assert service.find(RegionWatch) is not None
    file.write_text(json.dumps(config(regions={"names": ["west", "north"]})))
    with pytest.raises(SettingsError, match=r"gateway.yaml: line \d+: regions.self: expected the region of this gateway"):
        build(GatewaySettings(config_file=str(file)))
    plain = config(regions=None, routes=[{"models": ["m"], "pool": "w"}])
    for pool in plain["pools"]:
        del pool["region"]
    file.write_text(json.dumps(plain))
    assert build(GatewaySettings(config_file=str(file))).find(RegionWatch) is None


async def test_costs_residency_and_bounds_are_followed_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    given = {"self": "west", "names": ["west", "north"], "order": {"north": ["west"]}}
    file.write_text(json.dumps(config(regions=given)))
    service = build(GatewaySettings(config_file=str(file)))
    watch, whole = part(service, RegionWatch), part(service, ConfigFile)
    assert watch.regions.value.cost("west", "north") == 1.0
    assert not watch.residency.value

    async def put(**changes: Any) -> None:
        file.write_text(json.dumps(config(regions={**given, **changes})))
        data = file.read_bytes()
        assert watch._watcher is not None
        watch._changed(regions_in(data))
        whole._changed(whole._read(data))

    rule = {"name": "gdpr", "stay_in": "own", "match": {"headers": {"x-tenant": {"exact": "clinic"}}}}
    with capture_logs() as told:
        await put(order={"west": [], "north": []}, residency=[rule], spill={"enter": 2.0, "leave": 1.0})
    assert watch.regions.value.cost("west", "north") is None
    assert watch.residency.value
    assert {spill._bounds.enter for spill in watch.spills.values()} == {2.0}
    assert [line["event"] for line in told] == ["regions changed"], "nothing of it takes a restart"

    with capture_logs() as told:
        await put(trustHeader=True, spill={"enter": 3.0})
    assert {spill._bounds.enter for spill in watch.spills.values()} == {3.0}
    assert [line["event"].partition(":")[0] for line in told] == ["regions changed", "config file has changed"]

    with capture_logs() as told:
        await put(names=["west", "north", "east"], spill={"enter": 4.0})
    assert {spill._bounds.enter for spill in watch.spills.values()} == {3.0}, "all of it waits for the restart"
    assert [line["event"].partition(":")[0] for line in told] == ["config file has changed"]


def test_an_outage_elsewhere_keeps_nobody_from_starting(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(config()))
    pools = build(GatewaySettings(config_file=str(file))).find(Pools)
    assert pools is not None
    now_s = 100.0
    pools._clock = lambda: now_s
    assert pools.missing() == "pool 'w' has no endpoints yet; pool 'n' has no endpoints yet"
    now_s += FIRST_ROUND_S
    assert pools.missing() == "pool 'w' has no endpoints yet"
