"""Requests in flight are taken back while more important ones wait: when, and how many.

    sent ─▶ in flight ─ revoked ─▶ outstanding ─ its stream ended, or 10 s ─▶ cooling ─ grace ─▶ forgotten

The saturation lags behind what was done about it, so nothing is done twice on the same reading: as long as one that was taken
back is outstanding or cooling, nobody else is. What is taken back at once is no more than the saturation is above the ceiling
of the band that waits, each request counted as the mean of all in flight (llm-d's proposal of in-flight eviction).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from extproc.domain import Lease
from extproc.flow.plan import EvictionPlan

MOST_AT_ONCE: Final = 2
TIMEOUT_S: Final = 10.0
"""After so long a request that was taken back and whose stream did not end is not waited for any more."""
_SLACK: Final = 32
_NEVER: Final = float("inf")


class Sent:
    """A request in flight."""

    __slots__ = ("credit", "in_flight", "lease", "priority", "retired_s", "revoked_s", "sent_s")

    def __init__(self, priority: int, sent_s: float, lease: Lease | None) -> None:
        self.priority = priority
        self.sent_s = sent_s
        self.lease = lease
        """None for one that is never taken back."""
        self.in_flight = True
        self.credit = 0.0
        """What it was of the saturation when it was taken back."""
        self.revoked_s = _NEVER
        """When it was taken back."""
        self.retired_s = _NEVER
        """Since when it is not waited for any more."""

    def __repr__(self) -> str:
        return f"<Sent priority={self.priority}{' in flight' if self.in_flight else ''}>"


class Evictor:
    """The requests in flight at one pool. Told the time; `revoke` of a lease is the only thing that it calls."""

    def __init__(self, plan: EvictionPlan) -> None:
        self.in_flight = 0
        self.evictable = 0
        """Of those, who may be taken back; some of them may turn out to have begun to be answered."""
        self.target = 0.0
        """By how much the saturation was above a ceiling when that was looked at last."""
        self.revoked: Callable[[int, int], None] | None = None
        """Told the priority that waits, and that of the request which was taken back for it."""
        self.retired: Callable[[float, bool], None] | None = None
        """Told after how many seconds one that was taken back had ended, or False: that it was not waited for any more."""
        self._plan = plan
        self._numbers = 0
        self._heap: list[tuple[float, float, int, Sent]] = []
        """Who is next is first, with those who ended in between."""
        self._debits: list[Sent] = []
        """Who is outstanding or cooling."""

    def __repr__(self) -> str:
        return f"<Evictor in_flight={self.in_flight} evictable={self.evictable} pending={len(self._debits)}>"

    # -- told of requests --------------------------------------------------------------------------------------------

    def sent(self, priority: int, now_s: float) -> Sent:
        """A request is in flight now."""
        self.in_flight += 1
        if not self._plan.filter.accepts(priority):
            return Sent(priority, now_s, None)
        each = Sent(priority, now_s, Lease())
        first, second = self._plan.order.key(priority, now_s)
        self._numbers += 1
        heappush(self._heap, (first, second, -self._numbers, each))
        self.evictable += 1
        return each

    def over(self, each: Sent, now_s: float) -> None:
        """It is not any more."""
        if not each.in_flight:
            return
        each.in_flight = False
        self.in_flight -= 1
        lease = each.lease
        if lease is None:
            return
        lease.revoke = None
        if each.revoked_s < _NEVER:
            if each.retired_s == _NEVER:
                each.retired_s = now_s
                self._retire(now_s - each.revoked_s, True)
            return
        self._left()

    # -- taking back -------------------------------------------------------------------------------------------------

    def is_due(self, now_s: float) -> bool:
        """Whether anybody may be taken back now: whoever was is gone, and the saturation has had the time to show it."""
        if not self._debits:
            return True
        kept = []
        for each in self._debits:
            if each.retired_s == _NEVER and now_s - each.revoked_s >= TIMEOUT_S:
                each.retired_s = now_s
                self._retire(now_s - each.revoked_s, False)
            if now_s - each.retired_s < self._plan.grace_s:
                kept.append(each)
        self._debits = kept
        return not kept

    def pause_s(self, now_s: float) -> float:
        """In how many seconds it may be due, as far as that needs nobody's end; infinite when that is not known."""
        ends = [each.retired_s + self._plan.grace_s for each in self._debits if each.retired_s < _NEVER]
        return max(0.0, max(ends) - now_s) if ends and len(ends) == len(self._debits) else _NEVER

    def lowest(self) -> int | None:
        """The priority of who would be taken back next; None when there is nobody."""
        heap = self._heap
        while heap and not _may_go(heap[0][3]):
            heappop(heap)
        return heap[0][3].priority if heap else None

    def reclaim(self, saturation: float, priority: int, ceiling: float, retry_s: int, now_s: float) -> int:
        """Take back for a band of this priority that is held by this ceiling; `is_due`, and somebody in flight is below it.
        Returns how many were: none when all answers have begun. Their clients are told to come again in `retry_s`."""
        self.target = deficit = saturation - ceiling
        credit = saturation / self.in_flight if self.in_flight else 0.0
        wanted = max(1, min(MOST_AT_ONCE, math.ceil(deficit / credit - _TINY))) if credit > 0 else 1
        done = 0
        while done < wanted:
            lowest = self.lowest()
            if lowest is None or lowest >= priority:
                break
            each = heappop(self._heap)[3]
            self.evictable -= 1
            each.revoked_s = now_s
            each.credit = credit
            lease = each.lease
            revoke = None if lease is None else lease.revoke
            if lease is None or revoke is None or not revoke(retry_s):
                each.retired_s = now_s  # it is served to its end
                continue
            lease.revoked = True
            done += 1
            self._debits.append(each)
            if self.revoked is not None:
                self.revoked(priority, each.priority)
        return done

    def pending(self, now_s: float) -> float:
        """What is outstanding or cooling, of the saturation."""
        return sum([each.credit for each in self._debits if now_s - each.retired_s < self._plan.grace_s], 0.0)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _retire(self, took_s: float, confirmed: bool) -> None:
        if self.retired is not None:
            self.retired(took_s, confirmed)

    def _left(self) -> None:
        self.evictable -= 1
        if len(self._heap) > 2 * self.evictable + _SLACK:
            self._heap = [entry for entry in self._heap if _may_go(entry[3])]
            heapify(self._heap)


_TINY: Final = 1e-9
"""Three hundredths of a pool are three requests, and not four by the last bit of a float."""


def _may_go(each: Sent) -> bool:
    return each.in_flight and each.revoked_s == _NEVER
