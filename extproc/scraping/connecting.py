"""Who may be connected to now, and who waits for that: pure, time comes in.

A connection that is being made costs a file, and one that hangs costs it for as long as it is waited for. So never are more
than `most` being made, and those whose last attempt failed have half of that: a page that can be had waits for no queue of
those that can't. While somebody waits, an attempt has `CROWDED_S`: within a network a connection is made in milliseconds or,
its first packet lost, after a second. So 10,000 endpoints that hang are gone round in ten seconds, and not in forty.
"""

from __future__ import annotations

from collections import deque
from typing import Final

CROWDED_S: Final = 0.25


class Seat:
    """Somebody who connects now and then. One writer: `Connecting`."""

    __slots__ = ("owner", "since_s", "taken", "waits")

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.taken = False
        self.waits = False
        self.since_s = 0.0


class Connecting:
    """`take` a seat or wait for one, `free` it, `next` is who waits the longest and may have one; `overdue` has had its time.

    `room` says whether the process may open another file for it.
    """

    def __init__(self, most: int) -> None:
        self.most = max(2, most)
        self.now = 0
        """Connections that are being made."""
        self._waiting: tuple[deque[Seat], deque[Seat]] = (deque(), deque())
        """At the first attempt, or after a success; and after a failure."""
        self._since: deque[tuple[float, Seat]] = deque()
        self.waiting = 0

    def take(self, seat: Seat, now_s: float, *, again: bool, room: bool = True) -> bool:
        """False: it waits. `again`: its last attempt failed."""
        if not room or not self._room(again):
            seat.waits = True
            self.waiting += 1
            self._waiting[again].append(seat)
            return False
        seat.taken = True
        seat.since_s = now_s
        self.now += 1
        self._since.append((now_s, seat))
        return True

    def free(self, seat: Seat) -> None:
        """The connection is made, or the attempt is over; or it wants none any more."""
        if seat.taken:
            seat.taken = False
            self.now -= 1
        if seat.waits:
            seat.waits = False
            self.waiting -= 1

    def next(self, *, room: bool = True) -> Seat | None:
        """Who may ask now; it waits no longer."""
        if not room:
            return None
        for again in (False, True):
            queue = self._waiting[again]
            while queue and not queue[0].waits:
                queue.popleft()
            if queue and self._room(bool(again)):
                seat = queue.popleft()
                self.free(seat)
                return seat
        return None

    def overdue_s(self, now_s: float) -> float | None:
        """Seconds until a seat is overdue; None when none will be."""
        self._prune()
        if not self.waiting or not self._since:
            return None
        return max(0.0, self._since[0][0] + CROWDED_S - now_s)

    def overdue(self, now_s: float) -> Seat | None:
        """A seat that others wait for, and that has been had for long enough."""
        left_s = self.overdue_s(now_s)
        return self._since[0][1] if left_s is not None and left_s <= 0.0 else None

    def _room(self, again: bool) -> bool:
        return self.now < (self.most // 2 if again else self.most)

    def _prune(self) -> None:
        since = self._since
        while since and not (since[0][1].taken and since[0][1].since_s == since[0][0]):
            since.popleft()
