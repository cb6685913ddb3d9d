"""All bands of a pool: who may go on at once, who waits, who goes next, who has to leave.

    offer ─▶ band ▸ flow ▸ queue ─▶ take    the highest band first, as long as the saturation is below its ceiling
                 ╰─▶ remove (the client left) · expired (its time is over) · offer's `evicted` (somebody more important came)

The walk over the bands ends at the first in which somebody waits and is held: a lower band does not go past a higher one.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import Final, NamedTuple

from extproc.flow.band import Band
from extproc.flow.plan import FlowPlan
from extproc.flow.ticket import Ticket

BAND_IDLE_S: Final = 600.0
"""After so long without a request a band that came with an objective is let go of (upstream's 10 minutes)."""
SWEEP_S: Final = 60.0
"""How often such bands are looked for."""


class Offer(NamedTuple):
    """What became of a request that wants to wait."""

    taken: bool
    """It has a place. False: its band is full, or all together and nobody less important waits."""
    evicted: Sequence[Ticket] = ()
    """Who lost a place to it."""


_REFUSED: Final = Offer(False)
_TAKEN: Final = Offer(True)


class FlowQueues:
    """The one writer of its tickets. `now_s` are seconds of one clock that never goes back."""

    def __init__(self, plan: FlowPlan, now_s: float = 0.0) -> None:
        self.plan = plan
        self.requests = 0
        self.size_bytes = 0
        self.tick = 0
        self._limit = plan.limit()
        self._numbers = 0
        self._bands: dict[int, Band] = {}
        self._priorities: list[int] = []
        """Highest first."""
        self._swept_s = now_s
        for priority in {0, *plan.bands}:
            self._add_band(priority, now_s, lasts=True)

    def __repr__(self) -> str:
        return f"<FlowQueues requests={self.requests} bytes={self.size_bytes} bands={len(self._bands)}>"

    def __len__(self) -> int:
        return self.requests

    @property
    def alternates(self) -> bool:
        """Who is held now may go at the next look, although the saturation is the same."""
        return self._limit.alternates

    @property
    def bands(self) -> Sequence[Band]:
        """Highest first, to read."""
        return [self._bands[priority] for priority in self._priorities]

    # -- going on ----------------------------------------------------------------------------------------------------

    def may_pass(self, priority: int, saturation: float) -> bool:
        """Whether a request that comes now need not wait: nobody of its band or above does, and there is room. Changes nothing,
        so it may be asked without a request; who then goes on says `passed`."""
        if self.requests and self._waits_from(priority):
            return False
        priorities = self._priorities
        if priority not in self._bands:
            priorities = sorted([*priorities, priority], reverse=True)
        ceilings = self._limit.ceilings(saturation, priorities, self.tick)
        return saturation < self._ceiling(priority, ceilings[priorities.index(priority)])

    def passed(self, priority: int, now_s: float) -> None:
        """A request went on without waiting."""
        self.tick += 1
        band = self.band(priority, now_s)
        band.used_s = now_s
        band.held = False

    def take(self, now_s: float, saturation: float) -> Ticket | None:
        """Who goes next, taken out; None when nobody may. For each that goes the saturation is asked anew."""
        self.tick += 1
        ceilings = self._limit.ceilings(saturation, self._priorities, self.tick)
        for rank, priority in enumerate(self._priorities):
            band = self._bands[priority]
            if not band.requests:
                continue
            band.held = ceilings[rank] > 0 and saturation >= self._ceiling(priority, ceilings[rank])
            if band.held or ceilings[rank] <= 0:
                return None
            return self._counted_out(band.take(now_s))
        return None

    def demand(self, saturation: float) -> tuple[int, float] | None:
        """The priority and the ceiling of the first band in which somebody waits, if less saturation would let it go on. Only
        that one: a lower one does not go past it, whatever is taken back."""
        ceilings = self._limit.ceilings(saturation, self._priorities, self.tick)
        for rank, priority in enumerate(self._priorities):
            if not self._bands[priority].requests:
                continue
            ceiling = self._ceiling(priority, ceilings[rank])
            return (priority, ceiling) if 0 < ceiling <= saturation else None
        return None

    # -- waiting -----------------------------------------------------------------------------------------------------

    def offer(self, ticket: Ticket, now_s: float) -> Offer:
        """Let it wait. When all bands together are full, others leave for it: of the lowest band first, the newest first, and
        never of its own priority or above."""
        plan = self.plan
        band = self.band(ticket.priority, now_s)
        if not band.has_room(ticket.size_bytes):
            return _REFUSED
        evicted: list[Ticket] | None = []
        if self.requests >= plan.max_requests or self.size_bytes + ticket.size_bytes > plan.max_bytes:
            evicted = self._make_room(ticket, now_s)
            if evicted is None:
                return _REFUSED
        self._numbers += 1
        ticket.number = self._numbers
        ticket.expires_s = ticket.came_s + plan.ttl_s
        band.add(ticket, now_s)
        self.requests += 1
        self.size_bytes += ticket.size_bytes
        return Offer(True, evicted) if evicted else _TAKEN

    def remove(self, ticket: Ticket, now_s: float) -> bool:
        """It does not want to wait any more; False when it did not."""
        if not ticket.waits:
            return False
        self._bands[ticket.priority].remove(ticket, now_s)
        self._counted_out(ticket)
        return True

    def expired(self, now_s: float, *, no_endpoints: bool, since_s: float = float("-inf"), most: int = 2**62) -> list[Ticket]:
        """Whose time is over, taken out, but not more than `most`. `no_endpoints`: the pool has none now, and then theirs may
        be longer; else it has had some since `since_s`, and the time before does not count."""
        over: list[Ticket] = []
        before_s = now_s - self._ttl_s(no_endpoints)
        if not self.requests or (not no_endpoints and since_s > before_s):
            return over
        for band in self._bands.values():
            while len(over) < most and (oldest := band.oldest()) is not None and oldest.came_s <= before_s:
                band.remove(oldest, now_s)
                over.append(self._counted_out(oldest))
        return over

    def next_expiry_s(self, *, no_endpoints: bool, since_s: float = float("-inf")) -> float:
        """When the time of the next one is over, as `expired`; infinite when nobody waits, or there is no end."""
        came = [oldest.came_s for band in self._bands.values() if (oldest := band.oldest()) is not None]
        if not came:
            return float("inf")
        return (min(came) if no_endpoints else max(min(came), since_s)) + self._ttl_s(no_endpoints)

    def clear(self, now_s: float) -> list[Ticket]:
        """Everybody leaves."""
        everybody = [ticket for band in self._bands.values() for ticket in band.waiting()]
        for ticket in everybody:
            self.remove(ticket, now_s)
        return everybody

    # -- accounting --------------------------------------------------------------------------------------------------

    def counts_cost(self, priority: int) -> bool:
        """Somebody wants to know what this band's requests cost."""
        band = self._bands.get(priority)
        return band is not None and band.fairness.counts_cost

    def cost(self, priority: int, flow: str, tokens: float, now_s: float) -> None:
        """A request has ended, and cost so much."""
        band = self._bands.get(priority)
        if band is not None:
            band.fairness.cost(flow, tokens, now_s)

    def band(self, priority: int, now_s: float) -> Band:
        """The band of this priority, made when there is none."""
        band = self._bands.get(priority)
        if now_s - self._swept_s >= SWEEP_S:
            self._sweep(now_s)
        return self._add_band(priority, now_s, lasts=False) if band is None else band

    # -- inside ------------------------------------------------------------------------------------------------------

    def _ceiling(self, priority: int, ceiling: float) -> float:
        band = self._bands.get(priority)
        return ceiling * (1.0 - self.plan.hysteresis) if band is not None and band.held else ceiling

    def _waits_from(self, priority: int) -> bool:
        for each in self._priorities:
            if each < priority:
                return False
            if self._bands[each].requests:
                return True
        return False

    def _ttl_s(self, no_endpoints: bool) -> float:
        return self.plan.no_endpoint_ttl_s if no_endpoints else self.plan.ttl_s

    def _make_room(self, ticket: Ticket, now_s: float) -> list[Ticket] | None:
        plan = self.plan
        lower = [self._bands[priority] for priority in reversed(self._priorities) if priority < ticket.priority]
        size = ticket.size_bytes
        if (
            self.requests - sum([band.requests for band in lower]) >= plan.max_requests
            or self.size_bytes - sum([band.size_bytes for band in lower]) + size > plan.max_bytes
        ):
            return None  # not even if all of them left
        evicted: list[Ticket] = []
        for band in lower:
            while self.requests >= plan.max_requests or self.size_bytes + size > plan.max_bytes:
                newest = band.newest()
                if newest is None:
                    break
                band.remove(newest, now_s)
                evicted.append(self._counted_out(newest))
        return evicted

    def _counted_out(self, ticket: Ticket) -> Ticket:
        self.requests -= 1
        self.size_bytes -= ticket.size_bytes
        return ticket

    def _add_band(self, priority: int, now_s: float, *, lasts: bool) -> Band:
        band = Band(priority, self.plan.band(priority), now_s, lasts=lasts)
        self._bands[priority] = band
        insort(self._priorities, priority, key=lambda each: -each)
        return band

    def _sweep(self, now_s: float) -> None:
        self._swept_s = now_s
        for band in self.bands:
            forgotten = band.fairness.sweep(now_s)
            if forgotten and not band.lasts and not band.requests and now_s - band.used_s >= BAND_IDLE_S:
                del self._bands[band.priority]
                self._priorities.remove(band.priority)
