"""When endpoints are asked, for all pools of a process: `Rounds` on the event loop, with one timer.

A tick asks those that are due as far as scraping's share of the core goes, and ends those that have had their time. Two ticks
are `GRAIN_S` apart, so that others, picks above all, come between. Never are more than `MAX_CONNECTING` connections being
made, however many endpoints hang: the others wait for one of them (`connecting`). And of the files that the process may have
open connections that are kept take no more than `FILES`: beyond, a connection is closed behind its page, for a proxy that
can't connect to us would be worse than a page that costs more.
"""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from extproc.scraping.connecting import Connecting, Seat
from extproc.scraping.connection import open_sockets
from extproc.scraping.fetch import Line
from extproc.scraping.rounds import SHARE, Rounds, Turn

DEFAULT_TIMEOUT_S: Final = 1.0
"""For a page, from asking for it."""
GRAIN_S: Final = 0.002
MAX_CONNECTING: Final = 256
FILES: Final = 0.5
"""Share of the process's open files (`ulimit -n`)."""


class Timer(Protocol):
    """What the event loop gives for a call that is to come."""

    def cancel(self) -> None: ...


class Asked:
    """An endpoint in the rounds. `line` is its owner's; the rest is written by the driver."""

    __slots__ = ("asking", "attempt", "line", "seat", "turn")

    def __init__(self, line: Line, interval_s: float) -> None:
        self.line = line
        self.turn = Turn(self, interval_s)
        self.seat = Seat(self)
        self.asking = False
        self.attempt = 0

    def ask(self) -> None:
        """Ask for the page; `Driver.done` must follow."""
        raise NotImplementedError


class Driver:
    """Asks whoever joined, at its interval. Made anywhere; used within one event loop."""

    def __init__(
        self,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        share: float = SHARE,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], Timer] | None = None,
        draw: Callable[[], float] = random.random,
        most_open: int | None = None,
        opened: Callable[[], int] = open_sockets,
    ) -> None:
        """`most_open`: connections that are kept, a share of `ulimit -n` when None."""
        self.rounds = Rounds(share)
        self.clock = clock
        self._timeout_s = timeout_s
        self._later = later
        self._draw = draw
        self._timer: Timer | None = None
        self._timer_at_s = 0.0
        self._deadlines: deque[tuple[float, int, Asked]] = deque()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        unlimited = files == resource.RLIM_INFINITY
        self._most_open = most_open if most_open is not None else 2**30 if unlimited else int(files * FILES)
        self._connecting = Connecting(min(MAX_CONNECTING, self._most_open // 2))
        self._opened = opened

    def __repr__(self) -> str:
        return f"<Driver {self.rounds!r}, {self._connecting.now} connecting, {self._connecting.waiting} waiting>"

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call then."""
        if self._later is not None:
            return self._later(delay_s, call)
        return asyncio.get_running_loop().call_later(delay_s, call)

    def join(self, asked: Asked, delay_s: float) -> None:
        self.rounds.put(asked.turn, self.clock() + delay_s)
        self._plan()

    def leave(self, asked: Asked) -> None:
        """What is under way ends, and nothing is heard of it."""
        self._over(asked)
        self.rounds.drop(asked.turn)
        asked.line.close()
        self._prune()
        if self._timer is not None and not self._deadlines and self.rounds.wait_s(self.clock()) is None:
            self._timer.cancel()
            self._timer = None

    def restart(self, asked: Asked, line: Line) -> None:
        """The page is elsewhere from now on."""
        asked.line.close()
        asked.line = line
        if asked.asking:
            self._over(asked)
            self.rounds.put(asked.turn, self.clock())
            self._plan()

    def hint(self, asked: Asked) -> None:
        """Something says that it is back."""
        if self.rounds.hinted(asked.turn, self.clock()):
            self._plan()

    def reached(self, asked: Asked) -> None:
        """Its connection is made; its page is to come."""
        self._connecting.free(asked.seat)
        self._admit()
        self._plan()

    def answered(self, asked: Asked) -> None:
        """Its page was read."""
        if self._opened() > self._most_open:
            asked.line.close()
        self._over(asked)
        self.rounds.answered(asked.turn, self.clock())
        self._plan()

    def failed(self, asked: Asked, first_s: float) -> None:
        """There was none; `first_s` is the pause after a first failure."""
        self._over(asked)
        self.rounds.failed(asked.turn, self.clock(), first_s, self._draw())
        self._plan()

    def _over(self, asked: Asked) -> None:
        asked.asking = False
        self._connecting.free(asked.seat)
        self._admit()

    def _admit(self) -> None:
        """Who waits for a connection gets its turn again; the oldest of all, so it comes first."""
        if self._connecting.waiting and (seat := self._connecting.next(room=self._has_files())) is not None:
            assert isinstance(seat.owner, Asked)
            self.rounds.put(seat.owner.turn, seat.owner.turn.due_s)

    def _has_files(self) -> bool:
        return self._opened() < self._most_open + self._connecting.most

    def _tick(self) -> None:
        self._timer = None
        now_s = self.clock()
        self._expire(now_s)
        while (turn := self.rounds.take(now_s)) is not None:
            asked = turn.owner
            assert isinstance(asked, Asked)
            again = turn.failures > 0
            if asked.line.connected or self._connecting.take(asked.seat, now_s, again=again, room=self._has_files()):
                self._ask(asked, now_s)
        self._plan()

    def _ask(self, asked: Asked, now_s: float) -> None:
        asked.turn.asked_s = now_s
        asked.attempt += 1
        asked.asking = True
        asked.ask()
        if asked.asking:
            self._deadlines.append((now_s + self._timeout_s, asked.attempt, asked))

    def _expire(self, now_s: float) -> None:
        self._prune()
        while self._deadlines and self._deadlines[0][0] <= now_s:
            self._deadlines.popleft()[2].line.expire()
            self._prune()
        while (seat := self._connecting.overdue(now_s)) is not None:
            assert isinstance(seat.owner, Asked)
            seat.owner.line.expire()

    def _prune(self) -> None:
        """Forget the times of attempts that are over."""
        deadlines = self._deadlines
        while deadlines and not (deadlines[0][2].asking and deadlines[0][2].attempt == deadlines[0][1]):
            deadlines.popleft()

    def _plan(self) -> None:
        """The next tick is when a turn may be given, or a time is over; not at once."""
        if self._timer is not None and self._timer_at_s <= self.clock() + GRAIN_S:
            return
        now_s = self.clock()
        over_s = max(0.0, self._deadlines[0][0] - now_s) if self._deadlines else None
        waits = [each for each in (self.rounds.wait_s(now_s), over_s, self._connecting.overdue_s(now_s)) if each is not None]
        if not waits:
            return
        at_s = now_s + max(min(waits), GRAIN_S)
        if self._timer is not None:
            if self._timer_at_s <= at_s:
                return
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self.later(at_s - now_s, self._tick)
