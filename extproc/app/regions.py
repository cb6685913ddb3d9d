"""Regions of a gateway: its config becomes rules for the stages, and somebody looks whether pools have room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from extproc.app.component import Component
from extproc.app.config_file import part_of
from extproc.app.plan import Plan
from extproc.control.deliveries import residency_of
from extproc.domain import Reading
from extproc.files.watch import FileWatcher
from extproc.live import Live, LiveWriter
from extproc.observability.logs import logger
from extproc.observability.regions import RegionMetrics
from extproc.pool.store import STALE_AFTER_S
from extproc.request import KeyFinder
from extproc.settings.document import load_document
from extproc.settings.gateway import GatewayParts, load_gateway_config
from extproc.settings.regions import RegionSettings, RegionsSettings, home_of
from extproc.stages import Again, PoolOfEndpoints, RegionRules
from extproc.traffic.regions import Place, Regions, costs_of_order, symmetric
from extproc.traffic.residency import Residency, ResidencySpec
from extproc.traffic.segments import Segments
from extproc.traffic.spill import EMPTY, Spill, SpillBounds

_log = logger(__name__)

LOOK_S: Final = 0.1
"""From one look at the pools to the next: two pages."""

AT_ONCE: Final = 512
"""So many endpoints of a pool are read in one look, which takes half a millisecond; a larger pool in parts, one a look."""


FOLLOWED: Final = ("costs", "order", "residency", "spill")
"""Of `regions` of the file what is followed while a gateway runs; what else changes takes a restart."""


def regions_of(config: GatewayParts, settings: RegionSettings, problems: list[str], prefix: str) -> Regions | None:
    """The regions of a config, None when it has none, or they are wrong. What is wrong goes to `problems`."""
    given = config.regions
    if given is None:
        flags = [f"--{name}" for name in ("region", "zone") if getattr(settings, name) is not None]
        if flags and not config.problems:
            problems += [f"{flag}: the config has no regions; expected them in {prefix.removesuffix(': ')}" for flag in flags]
        return None
    found: list[str] = []
    home, zone = home_of(given, settings, found.append)
    problems += [problem if problem.startswith("--") else prefix + problem for problem in found]
    if found or config.problems:
        return None
    places = {pool.name: Place(pool.region, pool.zone or "") for pool in config.pools.values() if pool.region is not None}
    return Regions(given.names, home, places, ways(given), zone)


def ways(given: RegionsSettings) -> dict[str, dict[str, float]]:
    """What they cost: as the config says, else by the order."""
    return costs_of_order(given.names, given.order or {}) if given.costs is None else symmetric(given.costs)


def plan_regions(plan: Plan, regions: Regions, settings: RegionsSettings, file: str, stale_after_s: float) -> None:
    """What stages go by, and who keeps it true. The pools are there already; `file` is the gateway's."""
    parts = plan.parts
    metrics = parts.region_metrics
    watch = RegionWatch(regions, settings, parts.pools, parts.segments, metrics, file=file, stale_after_s=stale_after_s)
    plan.components.append(watch)
    keys = KeyFinder(parts.key_headers)
    parts.regions = RegionRules(
        watch.regions, watch.residency, watch.spills, parts.pools, trusted=settings.trust_header, keys=keys
    )
    parts.again = Again(parts.regions)


class RegionWatch(Component):
    """The one writer of which pools are left for others, of what ways cost, and of the gateway's rules of residency."""

    def __init__(
        self,
        regions: Regions,
        settings: RegionsSettings,
        pools: Mapping[str, PoolOfEndpoints],
        segments: Live[Segments],
        metrics: RegionMetrics,
        clock: Callable[[], float] = time.monotonic,
        *,
        file: str | None = None,
        stale_after_s: float = STALE_AFTER_S,
    ) -> None:
        """`segments` are looked at when they change: rules go by them. So old a page may be to be believed. `file` is followed
        for the parts of `regions` that are `FOLLOWED`; None: none is.
        """
        super().__init__("regions")
        self._pools = {name: Watched(pool, stale_after_s) for name, pool in pools.items() if regions.region_of(name)}
        bounds = bounds_of(settings)
        self.spills: Mapping[str, Spill] = {name: Spill(bounds, name) for name in self._pools}
        self._regions = LiveWriter(regions, "regions")
        self._segments = segments
        self._metrics = metrics
        self._clock = clock
        self._settings = settings
        self._specs = specs_of(settings)
        self._seen = segments.revision
        self._residency = LiveWriter(self._compiled(), "residency")
        for name in self._pools:
            metrics.spilling(regions.region_of(name), name, "", 0.0)
        self._watcher: FileWatcher[RegionsSettings | None] | None = None
        if file is not None:
            self._watcher = part_of(file, regions_in, self._changed)

    @property
    def regions(self) -> Live[Regions]:
        """What ways cost now."""
        return self._regions.live

    @property
    def residency(self) -> Live[Residency]:
        """The gateway's rules."""
        return self._residency.live

    async def run(self, ready: asyncio.Event) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._watcher is not None:
                group.create_task(self._watcher.run(), name="watch regions of the config")
            while True:
                self.look()
                await asyncio.sleep(LOOK_S)

    def _changed(self, given: RegionsSettings | None) -> None:
        """The file has other content, which is good. What is not followed stays as it was; what does not fit that waits too."""
        if given is None or given.names != self._settings.names:
            return
        now = self._settings.model_copy(update={name: getattr(given, name) for name in FOLLOWED})
        if now == self._settings:
            return  # something else in the file has changed
        self._settings = now
        self._regions.replace(self._regions.live.value.with_costs(ways(now)))
        for spill in self.spills.values():
            spill.bound(bounds_of(now))
        self._specs = specs_of(now)
        self._residency.replace(self._compiled())
        _log.info("regions changed", residency=len(now.residency))

    def look(self) -> None:
        """What pools are like now."""
        if self._segments.revision != self._seen:
            self._seen = self._segments.revision
            self._residency.replace(self._compiled())
        now_s = self._clock()
        for name, pool in self._pools.items():
            spill = self.spills[name]
            share = spill.share
            changed = spill.saw(pool.able, pool.saturation(), now_s)
            if changed or spill.share != share:
                self._metrics.spilling(self._regions.live.value.region_of(name), name, spill.left, spill.share)
            if changed:
                self._tell(name, spill)

    def _tell(self, pool: str, spill: Spill) -> None:
        region = self._regions.live.value.region_of(pool)
        if not spill.left:
            _log.info("a pool is taken again", pool=pool, region=region)
        elif spill.left == EMPTY:
            _log.warning("a pool is left for other regions", pool=pool, region=region, reason=spill.left)
        else:
            _log.warning("a share of a pool's requests goes to other regions", pool=pool, region=region, reason=spill.left)

    def _compiled(self) -> Residency:
        return Residency(self._specs, "regions", self._segments.value)


def regions_in(data: bytes) -> RegionsSettings | None:
    """`regions` of a gateway's file, all of which must be good. Raises SettingsError."""
    return load_gateway_config(load_document(data)).regions


def bounds_of(settings: RegionsSettings) -> SpillBounds:
    """When a pool is left."""
    spill = settings.spill
    return SpillBounds(spill.enter, spill.leave, spill.enter_after, spill.leave_after)


def specs_of(settings: RegionsSettings) -> tuple[ResidencySpec, ...]:
    """The gateway's rules of residency."""
    return residency_of([rule.model_dump(mode="json", exclude_unset=True) for rule in settings.residency])


class Watched:
    """How full a pool is, by the endpoints of which something is known.

    A large pool is read in parts, one at each call, whose saturation is averaged by how many endpoints they have: at 5,000
    endpoints what a look says is a second old at most.
    """

    def __init__(self, pool: PoolOfEndpoints, stale_after_s: float) -> None:
        """So old a page may be to be believed."""
        self._pool = pool
        self._stale_after_s = stale_after_s
        self._next = 0
        self._seen: list[tuple[float, int]] = [(0.0, 0)]
        """Of each part: its saturation, and of how many endpoints that is."""

    @property
    def able(self) -> bool:
        """Whether the pool has an endpoint that can be connected to."""
        return self._pool.store.able

    def saturation(self) -> float | None:
        """None when nothing is known of any.

        For shedding a page that is late counts as a full endpoint. Here it would send requests far away while nobody has seen
        that it is full: it is believed as long as for choosing an endpoint.
        """
        parts = max(1, -(-len(self._pool.store) // AT_ONCE))
        if parts != len(self._seen):
            self._seen, self._next = [(0.0, 0)] * parts, 0
        self._seen[self._next] = self._part(self._next, parts)
        self._next = (self._next + 1) % parts
        number = sum(count for _, count in self._seen)
        return sum(value * count for value, count in self._seen) / number if number else None

    def _part(self, part: int, parts: int) -> tuple[float, int]:
        readings, detector = self._pool.store.readings_in(part, parts), self._pool.detector
        if detector.reads_pages:
            readings = [
                Reading(each.load, 0.0, each.in_flight, each.endpoint)
                for each in readings
                if each.age_s is not None and each.age_s < self._stale_after_s
            ]
        return (detector.saturation(readings), len(readings)) if readings else (0.0, 0)
