"""Where a copy goes: an endpoint of the shadow's pool, chosen and counted as for any request, while the pool has room."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from extproc.domain import Endpoint, InferenceRequest
from extproc.errors import NoEndpoints, Saturated
from extproc.flow import Gate
from extproc.scheduling import Cycle, Scheduled
from extproc.scheduling.cycle import Measured
from extproc.stages import PoolOfEndpoints
from extproc.stages.pick import booked_beside

NO_ROOM: Final = "no room"
NO_ENDPOINT: Final = "no endpoint"
_KEPT_S: Final = 0.01
"""How long a pool's saturation is believed, as for requests that may be shed."""
_PRIORITY: Final = -1
"""Whoever sheds by priority sheds a copy before what a client waits for."""


class NotSent(Exception):
    """The copy goes nowhere; `reason` says why in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Place:
    """A copy at an endpoint, counted there until `leave`."""

    def __init__(self, pool: PoolOfEndpoints, cycle: Cycle, scheduled: Scheduled, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        run = scheduled.run
        self.endpoint: Endpoint = run.candidates.endpoints[run.pick.positions[0]]
        self.scheduled = scheduled
        self._ticket = pool.store.picked(self.endpoint)
        self._also = booked_beside(scheduled, pool.store) if len(scheduled.runs) > 1 else ()
        self._cycle = cycle
        self._prefilled = False
        self.began_s = cycle.decided_s = clock()
        if pool.scheduler.listens:
            pool.scheduler.picked(cycle, scheduled)
        else:
            cycle.let_go()

    def answered(self, status: int) -> None:
        """The answer's headers are here."""
        self._let_go()
        if self._pool.scheduler.listens:
            self._cycle.answer_is_seen = True
            self._pool.scheduler.answered(self._cycle, status)

    def begun(self) -> None:
        """The first piece of the answer's body is here, or its end."""
        if self._pool.scheduler.listens and not self._prefilled:
            self._prefilled = True
            self._pool.scheduler.prefilled(self._cycle)

    def leave(self, status: int, ttft_s: float | None, tokens: int | None) -> None:
        """It is over; status 0: without an answer."""
        self._let_go()
        self._pool.store.release(self._ticket, answered=0 < status < 500)
        if self._pool.scheduler.listens:
            if ttft_s is not None:
                left_s = self._clock() - self.began_s - ttft_s
                self._cycle.measured = Measured(ttft_s, left_s / (tokens - 1) if tokens is not None and tokens > 1 else None)
            self._pool.scheduler.ended(self._cycle, status, "")

    def _let_go(self) -> None:
        for ticket in self._also:
            self._pool.store.release(ticket)
        self._also = ()


class Places:
    """Finds places in pools. `pools` and `gates` are asked each time, as they are made after this."""

    def __init__(
        self,
        pools: Callable[[], Mapping[str, PoolOfEndpoints]],
        gates: Callable[[], Mapping[str, Gate]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pools = pools
        self._gates = gates
        self._clock = clock
        self._known: dict[str, tuple[float, float]] = {}

    def pool(self, name: str) -> PoolOfEndpoints | None:
        """The pool of that name."""
        return self._pools().get(name)

    def find(self, name: str, request: InferenceRequest, max_saturation: float) -> Place:
        """A place for the request, whose model is the one that will serve. Raises NotSent."""
        pool = self.pool(name)
        if pool is None:
            raise NotSent(NO_ENDPOINT)
        gate = self._gates().get(name)
        if (gate is not None and len(gate.queues)) or self._saturation(name, pool) >= max_saturation:
            raise NotSent(NO_ROOM)
        cycle = Cycle(request, _PRIORITY)
        try:
            scheduled = pool.scheduler.schedule(cycle, pool.store.candidates())
        except Saturated:
            raise NotSent(NO_ROOM) from None
        except NoEndpoints:
            raise NotSent(NO_ENDPOINT) from None
        return Place(pool, cycle, scheduled, self._clock)

    def _saturation(self, name: str, pool: PoolOfEndpoints) -> float:
        now_s = self._clock()
        value, until_s = self._known.get(name, (0.0, 0.0))
        if now_s >= until_s:
            value = pool.detector.saturation(pool.store.projected())
            self._known[name] = (value, now_s + _KEPT_S)
        return value
