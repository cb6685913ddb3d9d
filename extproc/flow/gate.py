"""Lets requests of one pool go on as there is room, and tells those who can't wait any longer.

When somebody looks: a request came, one ended, a page was read, the endpoints changed; and a timer, while anybody waits, for
those whose time is over. While nobody waits there is none. Those who are told hear it from the event loop and not out of the
call that made room, so that one request's end is not in the middle of another's decision; not more than `AT_ONCE` in one turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol, TypeAlias, cast

from extproc.flow.eviction import Evictor, Sent
from extproc.flow.gauge import Gauge
from extproc.flow.queues import FlowQueues
from extproc.flow.ticket import Ticket

AT_ONCE: Final = 32
LOOK_S: Final = 0.25
"""How often it is looked while somebody waits and nothing is heard: pages may have become stale."""
ALTERNATE_S: Final = 0.005
"""The same where a policy holds a band at one look and not at the next."""
PACE_S: Final = 10.0
"""Over how long it is averaged how many go on."""
MOST_RETRY_S: Final = 30
NO_ENDPOINTS_RETRY_S: Final = 5


class Outcome(Enum):
    """What becomes of a request that waits, by upstream's words for it."""

    DISPATCHED = "Dispatched"
    REJECTED_CAPACITY = "RejectedCapacity"
    """Its band is full, or all are and nobody less important waits; or somebody more important has its place."""
    REJECTED_NO_ENDPOINTS = "RejectedNoEndpoints"
    """The same while the pool has no endpoints."""
    EVICTED_TTL = "EvictedTTL"
    """Its time is over."""
    EVICTED_NO_ENDPOINTS = "EvictedNoEndpoints"
    """The same while the pool has no endpoints."""
    EVICTED_CANCELLED = "EvictedContextCancelled"
    """Nobody wants it any more: the client left, or the time of the whole request is over."""
    REJECTED_STOPPING = "RejectedOther"
    """The process stops."""


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Let it not come."""
        ...


Later: TypeAlias = Callable[[float, Callable[[], None]], Timer]
"""Calls in so many seconds, from the event loop."""


class Holder(Protocol):
    """Whose a ticket is."""

    def told(self, outcome: Outcome) -> None:
        """What became of it; once. For DISPATCHED the request is decided before this returns, or waits for something else."""
        ...


class Gate:
    """One for each pool with flow control."""

    def __init__(
        self, queues: FlowQueues, gauge: Gauge, endpoints: Callable[[], int], clock: Callable[[], float], later: Later
    ) -> None:
        """`endpoints`: how many the pool has."""
        self.queues = queues
        self.gauge = gauge
        self.cycle: Callable[[float], None] | None = None
        """Told how long a look at who may go took, in seconds of `clock`."""
        self.stops = False
        """Nobody may begin to wait any more."""
        plan = queues.plan
        self.evictor = None if plan.eviction is None else Evictor(plan.eviction)
        """Takes back what was let on; None where that is off."""
        self._endpoints = endpoints
        self._clock = clock
        self._later = later
        self._timer: Timer | None = None
        self._soon = False
        self._up_s = float("-inf") if endpoints() else float("inf")
        """Since when the pool has endpoints; infinite while it has none."""
        self._pace = 0.0
        """Requests a second that went on, lately."""
        self._paced_s = clock()

    def __repr__(self) -> str:
        return f"<Gate {self.queues!r}{' stops' if self.stops else ''}>"

    # -- asked by requests -------------------------------------------------------------------------------------------

    def is_open(self, priority: int) -> bool:
        """Whether a request that comes now need not wait. Books nothing."""
        return self.queues.may_pass(priority, self.gauge.read(self._clock()))

    def passed(self, priority: int) -> None:
        """A request went on without waiting."""
        now_s = self._clock()
        self.gauge.let_on()
        self.queues.passed(priority, now_s)
        self._went_on(now_s)

    def join(self, ticket: Ticket) -> Outcome | None:
        """Let it wait; whose places it takes are told. Returns why it may not."""
        if self.stops:
            return Outcome.REJECTED_STOPPING
        now_s = self._clock()
        offer = self.queues.offer(ticket, now_s)
        if not offer.taken:
            return Outcome.REJECTED_CAPACITY if self._endpoints() else Outcome.REJECTED_NO_ENDPOINTS
        for evicted in offer.evicted:
            self._tell_soon(evicted, Outcome.REJECTED_CAPACITY)
        self.news()
        return None

    def leave(self, ticket: Ticket) -> bool:
        """Nobody wants it any more; False when it did not wait."""
        left = self.queues.remove(ticket, self._clock())
        if left:
            ticket.holder = None  # its place may be seen for a while, and what it holds not
        if left and not self.queues.requests:
            self._rest()
        return left

    def arrived(self) -> None:
        """A request that was let on has its endpoint, or needs none any more."""
        self.gauge.on_the_way -= 1

    def sent(self, priority: int) -> Sent | None:
        """A request is with an endpoint. What it returns is to be given back at its end, to `over`."""
        return None if self.evictor is None else self.evictor.sent(priority, self._clock())

    def over(self, sent: Sent) -> None:
        """It has ended."""
        if self.evictor is not None:
            self.evictor.over(sent, self._clock())

    def would_evict(self, priority: int) -> bool:
        """Whether a request of this priority that has to wait has somebody in flight below it, who may be taken back."""
        lowest = None if self.evictor is None else self.evictor.lowest()
        return lowest is not None and lowest < priority

    def retry_s(self, outcome: Outcome, priority: int) -> int:
        """After how many seconds it is worth coming again: when those who wait before it are gone, at the pace of the last
        seconds."""
        if outcome in (Outcome.REJECTED_NO_ENDPOINTS, Outcome.EVICTED_NO_ENDPOINTS):
            return NO_ENDPOINTS_RETRY_S
        if outcome is Outcome.REJECTED_STOPPING:
            return 1
        before = sum([band.requests for band in self.queues.bands if band.priority >= priority])
        pace = self._pace_at(self._clock())
        return max(1, min(MOST_RETRY_S, math.ceil(before / pace))) if pace > 0 else MOST_RETRY_S if before else 1

    # -- told by the pool --------------------------------------------------------------------------------------------

    def news(self) -> None:
        """Something changed: look at once, if anybody waits."""
        self.gauge.news()
        if not self._endpoints():
            self._up_s = float("inf")
        elif self._up_s == float("inf"):
            self._up_s = self._clock()
        if self.queues.requests and not self._soon:
            self._soon = True
            self._later(0, self._look)

    # -- stopping ----------------------------------------------------------------------------------------------------

    def shut(self) -> None:
        """Everybody who waits is told that the process stops, and nobody comes in."""
        self.stops = True
        self._rest()
        for ticket in self.queues.clear(self._clock()):
            _tell(ticket, Outcome.REJECTED_STOPPING)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._soon = False
        self._rest()
        began_s = self._clock()
        more = self._let_on(began_s)
        if not more:
            more = self._expire(began_s)
            if self.evictor is not None:
                self._evict(self.evictor, began_s)
        if self.cycle is not None:
            self.cycle(self._clock() - began_s)
        if not self.queues.requests:
            return
        if more:
            self.news()
        if not self._soon:
            self._plan()

    def _expire(self, now_s: float) -> bool:
        """True when there may be more."""
        nobody = not self._endpoints()
        outcome = Outcome.EVICTED_NO_ENDPOINTS if nobody else Outcome.EVICTED_TTL
        over = self.queues.expired(now_s, no_endpoints=nobody, since_s=self._up_s, most=AT_ONCE)
        for ticket in over:
            _tell(ticket, outcome)
        return len(over) == AT_ONCE

    def _let_on(self, now_s: float) -> bool:
        """True when there may be more."""
        queues, gauge = self.queues, self.gauge
        for _ in range(AT_ONCE):
            ticket = queues.take(now_s, gauge.read(now_s)) if queues.requests else None
            if ticket is None:
                return False
            gauge.let_on()
            gauge.on_the_way += 1
            self._went_on(now_s)
            _tell(ticket, Outcome.DISPATCHED)
        return True

    def _evict(self, evictor: Evictor, now_s: float) -> None:
        if not self.queues.requests or not self._endpoints() or not evictor.is_due(now_s):
            return
        lowest = evictor.lowest()
        saturation = self.gauge.read(now_s)
        demand = None if lowest is None else self.queues.demand(saturation)
        if demand is not None and lowest is not None and lowest < demand[0]:
            priority, ceiling = demand
            retry_s = self.retry_s(Outcome.REJECTED_CAPACITY, lowest)
            evictor.reclaim(saturation, priority, ceiling, retry_s, now_s)

    def _plan(self) -> None:
        now_s = self._clock()
        pause_s = ALTERNATE_S if self.queues.alternates else min(LOOK_S, self.gauge.pause_s)
        if self.evictor is not None:
            pause_s = min(pause_s, self.evictor.pause_s(now_s))
        expiry_s = self.queues.next_expiry_s(no_endpoints=not self._endpoints(), since_s=self._up_s) - now_s
        self._timer = self._later(max(0.001, min(pause_s, expiry_s)), self._look)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell_soon(self, ticket: Ticket, outcome: Outcome) -> None:
        self._later(0, lambda: _tell(ticket, outcome))

    def _pace_at(self, now_s: float) -> float:
        return self._pace * math.exp((self._paced_s - now_s) / PACE_S)

    def _went_on(self, now_s: float) -> None:
        self._pace = self._pace_at(now_s) + 1.0 / PACE_S
        self._paced_s = now_s


def _tell(ticket: Ticket, outcome: Outcome) -> None:
    holder, ticket.holder = ticket.holder, None
    if holder is not None:
        cast(Holder, holder).told(outcome)
