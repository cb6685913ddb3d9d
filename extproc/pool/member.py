"""One endpoint as the store keeps it."""

from __future__ import annotations

from typing import NamedTuple

from extproc.domain import NO_LOAD, Endpoint, Load, Reading
from extproc.pool.columns import UNKNOWN


class Member:
    """An endpoint, its last page, and the requests we sent there. Written by its store only.

    Picks are stamped with `generation`, which grows whenever a page is asked for. When that page has been read, every pick
    of an earlier generation was sent before the page was made.
    """

    __slots__ = (
        "alive",
        "down",
        "endpoint",
        "failure",
        "failures",
        "fresh",
        "generation",
        "in_flight",
        "load",
        "picked_at",
        "picks",
        "proved",
        "read_at_s",
        "seen_generation",
        "slot",
        "tried",
        "unseen_new",
        "unseen_old",
        "unsure",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.load = NO_LOAD
        self.read_at_s: float | None = None
        self.fresh = False
        """A page was read, and it is not stale."""
        self.alive = False
        """At the last attempt somebody answered, with a page or without."""
        self.down = False
        """The last attempt could not even connect."""
        self.failure: str | None = None
        """Why the last attempt failed; None when it did not."""
        self.failures = 0
        self.tried = False
        """An attempt at a page has ended."""
        self.in_flight = 0
        self.picks = 0
        self.picked_at = 0
        """The number of the store's last pick that came here."""
        self.proved = 0
        """Requests that were answered here since nothing is known of its load."""
        self.generation = 0
        self.seen_generation = 0
        self.unseen_new = 0
        """In-flight picks since a page was last asked for."""
        self.unseen_old = 0
        """In-flight picks before that, which no page that was read can have seen."""
        self.unsure = 0
        """In-flight picks that only the last page can have seen: they may have been on their way when it was made."""
        self.slot = -1
        """Position in the store's columns, -1 when it is in none."""

    def page_started(self) -> None:
        self.generation += 1
        self.unseen_old += self.unseen_new
        self.unseen_new = 0

    def page_read(self, load: Load, now_s: float) -> None:
        self.load = load
        self.read_at_s = now_s
        self.fresh = True
        self.alive = True
        self.down = False
        self.failure = None
        self.failures = 0
        self.tried = True
        self.seen_generation = self.generation
        self.unsure = self.unseen_old
        self.unseen_old = 0

    def restarted(self, load: Load) -> bool:
        """Whether this page is of another process than the last one: it says so, or it says nothing and nobody was there
        between the two."""
        before, now = self.load.started_s, load.started_s
        if before is not None and now is not None:
            return now != before
        return self.down and self.read_at_s is not None

    def page_failed(self, reason: str, *, down: bool, alive: bool) -> None:
        self.failure = reason
        self.failures += 1
        self.tried = True
        self.alive = alive
        self.down = down

    def picked(self) -> int:
        self.picks += 1
        return self.arrived()

    def arrived(self) -> int:
        """A request is there, picked or not."""
        self.in_flight += 1
        self.unseen_new += 1
        return self.generation

    def released(self, generation: int) -> None:
        self.in_flight -= 1
        if generation == self.generation:
            self.unseen_new -= 1
        elif generation >= self.seen_generation:
            self.unseen_old -= 1

    def view(self, now_s: float) -> MemberView:
        """For people."""
        waiting = self.waiting()
        return MemberView(
            endpoint=self.endpoint,
            load=self.load,
            age_s=None if self.read_at_s is None else now_s - self.read_at_s,
            fresh=self.fresh,
            down=self.down,
            failure=self.failure,
            in_flight=self.in_flight,
            unseen=self.unseen_new + self.unseen_old,
            waiting_projected=None if waiting != waiting else waiting,
            picks=self.picks,
            failures=self.failures,
            tried=self.tried,
        )

    def reading(self, load: Load, now_s: float) -> Reading:
        """For who judges by all of them. `load`: what is known of it."""
        age_s = None if self.read_at_s is None else now_s - self.read_at_s
        return Reading(load, age_s, self.in_flight, self.endpoint.key)

    def waiting(self) -> float:
        """The projected queue, NaN when unknown.

        The page's queue and what it can't have seen; at least what we have in flight there beyond the running batch, because
        an engine's gauges lag a step behind what it was sent.
        """
        load = self.load
        if not self.fresh or self.down or load.waiting is None:
            return UNKNOWN
        projected = load.waiting + self.unseen_new + self.unseen_old
        if load.running is not None:
            return max(projected, self.in_flight - load.running)
        return projected

    def expected(self) -> float | None:
        """The queue as it is when what was sent there has arrived, None when unknown: the page's, what it can't have seen, and
        what it may not have seen, as far as we have more in flight than it tells of. Unlike `waiting` it is no more than the
        page's while nothing is sent: an answer that its client reads slowly is in flight, and runs nowhere.
        """
        load = self.load
        if load.waiting is None:
            return None
        expected = load.waiting + self.unseen_new + self.unseen_old
        if self.unsure and load.running is not None:
            expected += max(0.0, min(float(self.unsure), self.in_flight - load.running - expected))
        return expected

    @property
    def blank(self) -> bool:
        """Nothing is known of its load, and it answers."""
        load = self.load
        if self.down or not self.alive:
            return False
        return not self.fresh or (load.waiting is None and load.running is None and load.kv_usage is None)

    def known(self) -> Load:
        """What the page says as far as it can be believed."""
        return self.load if self.fresh and not self.down else NO_LOAD

    def running(self) -> float:
        return self._signal(self.load.running)

    def kv_usage(self) -> float:
        return self._signal(self.load.kv_usage)

    def _signal(self, value: float | None) -> float:
        return UNKNOWN if value is None or not self.fresh or self.down else value


class MemberView(NamedTuple):
    """A member for people to read; None is unknown."""

    endpoint: Endpoint
    load: Load
    age_s: float | None
    """Seconds since the page was read; every signal of one page has the same age."""
    fresh: bool
    down: bool
    failure: str | None
    in_flight: int
    unseen: int
    """In-flight picks that the last page can't have seen."""
    waiting_projected: float | None
    picks: int
    failures: int = 0
    """Attempts at a page that failed, in a row."""
    tried: bool = True
    """An attempt at a page has ended."""
