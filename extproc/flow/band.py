"""A band: the flows of one priority, and what they hold."""

from __future__ import annotations

from collections import deque
from typing import Final

from extproc.flow.lane import Lane
from extproc.flow.plan import BandPlan
from extproc.flow.ticket import Ticket

_SLACK: Final = 32


class Band:
    """Who waits with one priority."""

    __slots__ = ("_arrivals", "_lanes", "fairness", "held", "lasts", "plan", "priority", "requests", "size_bytes", "used_s")

    def __init__(self, priority: int, plan: BandPlan, now_s: float, *, lasts: bool) -> None:
        """`lasts`: it stays when nobody uses it."""
        self.priority = priority
        self.plan = plan
        self.lasts = lasts
        self.fairness = plan.make_fairness()
        self.requests = 0
        self.size_bytes = 0
        self.held = False
        """The saturation was at its ceiling when somebody wanted to go on last."""
        self.used_s = now_s
        self._lanes: dict[str, Lane] = {}
        self._arrivals: deque[Ticket] = deque()
        """In the order of their coming, with those who left in between."""

    def __repr__(self) -> str:
        return f"<Band {self.priority} requests={self.requests} flows={len(self._lanes)}{' held' if self.held else ''}>"

    def has_room(self, size_bytes: int) -> bool:
        """Whether one more may wait."""
        plan = self.plan
        return self.requests < plan.max_requests and self.size_bytes + size_bytes <= plan.max_bytes

    def add(self, ticket: Ticket, now_s: float) -> None:
        """O(log n)."""
        ticket.key = self.plan.ordering.key(ticket)
        ticket.waits = True
        name = self.fairness.lane_of(ticket.flow)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name)
        lane.add(ticket)
        if lane.live == 1:
            self.fairness.filled(lane, now_s)
        self._arrivals.append(ticket)
        self.requests += 1
        self.size_bytes += ticket.size_bytes
        self.used_s = now_s

    def take(self, now_s: float) -> Ticket:
        """Whoever is next, taken out. Somebody must be waiting."""
        lane = self.fairness.turn(now_s)
        ticket = lane.pop()
        self._gone(ticket, lane, now_s)
        if lane.live:
            self.fairness.taken(lane)
        return ticket

    def remove(self, ticket: Ticket, now_s: float) -> None:
        """It does not wait any more, wherever it stood."""
        lane = self._lanes[self.fairness.lane_of(ticket.flow)]
        ticket.waits = False
        lane.left()
        self._gone(ticket, lane, now_s)

    def oldest(self) -> Ticket | None:
        """Who has waited longest, whatever the order."""
        arrivals = self._arrivals
        while arrivals:
            if arrivals[0].waits:
                return arrivals[0]
            arrivals.popleft()
        return None

    def newest(self) -> Ticket | None:
        """Who came last."""
        arrivals = self._arrivals
        while arrivals:
            if arrivals[-1].waits:
                return arrivals[-1]
            arrivals.pop()
        return None

    def waiting(self) -> list[Ticket]:
        """Everybody, in the order of their coming."""
        return [ticket for ticket in self._arrivals if ticket.waits]

    def _gone(self, ticket: Ticket, lane: Lane, now_s: float) -> None:
        ticket.waits = False
        self.requests -= 1
        self.size_bytes -= ticket.size_bytes
        self.used_s = now_s
        if not lane.live:
            del self._lanes[lane.name]
            self.fairness.emptied(lane, now_s)
        if len(self._arrivals) > 2 * self.requests + _SLACK:
            self._arrivals = deque(self.waiting())
