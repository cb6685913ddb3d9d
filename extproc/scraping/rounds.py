"""Whose page is asked for next, and whether now: a heap of turns, a share of the core, waiting times after failures.

Pure, compiled: time and chance come in. One `Rounds` serves all pools of a process, so that what scraping takes is bounded
whatever their number.

**The share.** Work on pages is paid for in seconds of CPU. `SHARE` of each second may be spent, at most `BURST_S` of it at
once. While nothing is left no turn is given; the oldest comes first, so every endpoint is late by as much. `stretch` says
how late.

**After failures.** The pause doubles from the first one up to `RETRY_S`, and is never so short that all who fail make more than
`RETRIES_PER_S` attempts a second; with jitter, so that those who failed together don't come back together.
"""

from __future__ import annotations

import heapq
from typing import Final

SHARE: Final = 0.3
"""Of one core, for all scraping of the process."""
BURST_S: Final = 0.002
"""CPU that may be spent at once: what a pick may have to wait for."""
RETRY_S: Final = 1.0
"""An endpoint that keeps failing is asked this often, by jitter a quarter more or less."""
RETRIES_PER_S: Final = 1000.0
EARLY_S: Final = 0.001
"""Timers of event loops have milliseconds, so a turn may be given this much before it is due."""
_SMOOTH: Final = 1 / 32


class Turn:
    """A place in the rounds. One writer: `Rounds`."""

    __slots__ = ("asked_s", "due_s", "failures", "interval_s", "number", "owner")

    def __init__(self, owner: object, interval_s: float) -> None:
        self.owner = owner
        self.interval_s = interval_s
        self.due_s = 0.0
        self.asked_s = -1.0
        """When its page was last asked for; -1 before."""
        self.failures = 0
        """In a row."""
        self.number = -1
        """Of its entry in the heap; negative while it has none."""


class Rounds:
    """`put` turns, `take` those that are due, say what it cost (`spent`), and how it ended (`answered`, `failed`)."""

    def __init__(self, share: float = SHARE) -> None:
        self._share = share
        self._heap: list[tuple[float, int, Turn]] = []
        self._count = 0
        self._left_s = BURST_S
        self._paid_until_s = -1.0
        self.failing = 0
        """Turns whose last attempt failed."""
        self.stretch = 1.0
        """How many times longer than it should be the time between two pages is, of late; 1 is on time."""

    def __repr__(self) -> str:
        return f"<Rounds {len(self._heap)} queued, {self.failing} failing, stretch {self.stretch:.2f}>"

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, turn: Turn, due_s: float) -> None:
        """Its next time is then, and no other."""
        self._count += 1
        turn.number = self._count
        turn.due_s = due_s
        heapq.heappush(self._heap, (due_s, self._count, turn))

    def drop(self, turn: Turn) -> None:
        """It has left."""
        turn.number = -1
        if turn.failures:
            turn.failures = 0
            self.failing -= 1

    def take(self, now_s: float) -> Turn | None:
        """The turn that is due the longest, and not in the heap from now on; None while none is, or none may be."""
        self._earn(now_s)
        if self._left_s <= 0.0:
            return None
        heap = self._heap
        while heap and heap[0][0] <= now_s + EARLY_S:
            due_s, number, turn = heapq.heappop(heap)
            if turn.number != number:
                continue  # left, or has another time
            turn.number = -1
            if not turn.failures and turn.asked_s >= 0.0:
                late = max(0.0, now_s - due_s) / turn.interval_s
                self.stretch += (1.0 + late - self.stretch) * _SMOOTH
            return turn
        return None

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until `take` may give a turn; None when there is none."""
        heap = self._heap
        while heap and heap[0][2].number != heap[0][1]:
            heapq.heappop(heap)
        if not heap:
            return None
        self._earn(now_s)
        earned_s = -self._left_s / self._share
        return max(heap[0][0] - now_s, earned_s, 0.0)

    def spent(self, cpu_s: float) -> None:
        """Pay for work on a page."""
        self._left_s -= cpu_s

    def _earn(self, now_s: float) -> None:
        if self._paid_until_s < 0.0:
            self._paid_until_s = now_s
        elif now_s > self._paid_until_s:
            self._left_s = min(BURST_S, self._left_s + (now_s - self._paid_until_s) * self._share)
            self._paid_until_s = now_s

    # -- how an attempt ended ------------------------------------------------------------------------------------

    def answered(self, turn: Turn, now_s: float) -> None:
        """Its page was read. It keeps its place in the interval; a slow page costs the rounds that it missed."""
        if turn.failures:
            turn.failures = 0
            self.failing -= 1
        interval_s = turn.interval_s
        due_s = turn.due_s + interval_s
        if due_s < now_s:
            missed = (now_s - due_s) / interval_s
            due_s += interval_s * (int(missed) + (1 if missed > int(missed) else 0))
        self.put(turn, due_s)

    def failed(self, turn: Turn, now_s: float, first_s: float, draw: float) -> None:
        """There was no page: again after a pause that begins at `first_s`. `draw` is uniform in [0, 1)."""
        turn.failures += 1
        if turn.failures == 1:
            self.failing += 1
        self.put(turn, now_s + self.pause_s(turn.failures, first_s) * (0.75 + draw / 2))

    def pause_s(self, failures: int, first_s: float) -> float:
        """The pause after so many failures in a row, without jitter."""
        grown_s = min(max(RETRY_S, first_s), first_s * 2.0 ** min(failures - 1, 20))
        return float(max(grown_s, self.failing / RETRIES_PER_S))

    def hinted(self, turn: Turn, now_s: float) -> bool:
        """Something says that it is back: at once, unless it was asked within its interval or is being asked now."""
        if not turn.failures or turn.number < 0 or now_s - turn.asked_s < turn.interval_s:
            return False
        turn.failures = 1
        self.put(turn, now_s)
        return True
