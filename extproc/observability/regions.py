"""Regions: what is served in another one, and which pools are left for others now."""

from __future__ import annotations

from extproc.observability.instruments import UNBOUNDED, Instruments


class RegionMetrics:
    """By region and pool. Their names are configured, so a client can't invent any."""

    def __init__(self, instruments: Instruments) -> None:
        self._spills = instruments.counter(
            "extproc_region_spills_total",
            "Requests that were served in another region than their own, by both, and why: spill_empty (no pool of its own can "
            "serve), spill_saturated (those are full), spill_failed (an attempt before failed at one), absent (its own has "
            "none), residency (a rule keeps it out), stored (what it is about is there).",
            ["from", "to", "reason"],
            most=UNBOUNDED,
        )
        self._spilling = instruments.gauge(
            "extproc_region_spilling",
            "1 while a pool is left for others, by why: empty or saturated.",
            ["region", "name", "reason"],
            most=UNBOUNDED,
        )
        self._share = instruments.gauge(
            "extproc_region_spill_share",
            "The share of a pool's requests that goes to other regions if it can, 0 to 1: as many as a full pool can't serve, "
            "all of an empty one.",
            ["region", "name"],
            most=UNBOUNDED,
        )
        self.unknown = instruments.counter(
            "extproc_region_unknown_total",
            "Requests whose x-gateway-region is no region of the gateway's config; they count as from the gateway's own.",
        ).child()

    def spilled(self, origin: str, region: str, reason: str) -> None:
        """A request goes there."""
        self._spills.child(origin, region, reason).value += 1

    def spilling(self, region: str, pool: str, why: str, share: float) -> None:
        """Why the pool is left now, '' when it is not; and by which share of its requests."""
        self._share.child(region, pool).value = share
        for reason in ("empty", "saturated"):
            self._spilling.child(region, pool, reason).value = float(reason == why)
