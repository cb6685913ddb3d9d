"""How full a pool is for who wants to go on: what the detector says, of what is known *and* of what was let on since.

Pages lag. A detector that reads them alone would let a whole queue go in the time between two pages. So each request that
was sent to an endpoint since its page counts as waiting there (`PoolStore.projected`), until a page shows what became of it.
Those that were let on and have no endpoint yet count at one of them, as a mean does not care at which.
"""

from __future__ import annotations

from typing import Final

from extproc.domain import Load, Reading
from extproc.pool import PoolStore
from extproc.scheduling.saturation import SaturationDetector

KEPT_S: Final = 0.01
"""How long a reading is believed when nothing was heard."""
FEW: Final = 64
"""Endpoints that are asked again for each request: asking a thousand takes 0.4 ms. More are asked for each `PART` of them, and
in between a request counts for what it would be at an endpoint that has nothing else to do, which is the most it can be."""
PART: Final = 16
PAUSE_S: Final = 50e-6
"""From one asking of very many endpoints to the next, for each of them, unless so many were let on."""


class Gauge:
    """Reads one pool. `news` says that something changed; `let_on` that a request goes on now."""

    __slots__ = ("_asked_s", "_detector", "_each", "_let_on", "_news", "_store", "_value", "on_the_way")

    def __init__(self, store: PoolStore, detector: SaturationDetector) -> None:
        self._store = store
        self._detector = detector
        self._value = 1.0
        self._asked_s = float("-inf")
        self._let_on = 0
        self._news = True
        busy, idle = Reading(Load(1.0, 1.0, 0.0), 0.0, 1), Reading(Load(0.0, 0.0, 0.0), 0.0, 0)
        self._each = max(0.0, detector.saturation([busy]) - detector.saturation([idle]))
        """What one request is of an endpoint."""
        self.on_the_way = 0
        """Requests that were let on and have no endpoint yet."""

    def news(self) -> None:
        """A page was read, a request ended, the endpoints changed."""
        self._news = True

    def let_on(self) -> None:
        """A request goes on: the next one is judged with it."""
        self._let_on += 1

    @property
    def pause_s(self) -> float:
        """After how long `read` asks again although few were let on; infinite where news are enough."""
        number = len(self._store)
        return max(KEPT_S, number * PAUSE_S) if number >= FEW else float("inf")

    def is_due(self, now_s: float) -> bool:
        """Whether `read` would ask anew."""
        number = len(self._store)
        age_s = now_s - self._asked_s
        if number < FEW:
            return self._news or self._let_on > 0 or age_s >= KEPT_S
        return self._let_on >= number // PART or age_s >= self.pause_s

    def read(self, now_s: float) -> float:
        """The saturation: 0 is idle, from 1 on there is no room."""
        if self.is_due(now_s):
            self._value = self.ask()
            self._asked_s = now_s
            self._news = False
            self._let_on = 0
        if self._let_on:
            return self._value + self._let_on * self._each / len(self._store)
        return self._value

    def ask(self) -> float:
        """As `read`, of now whatever was asked before."""
        store = self._store
        readings = store.projected()
        if self._detector.reads_pages and readings and not store.fresh:
            return 0.0  # nothing is known of anybody: a picker that lost its pages must not stop the traffic
        if self.on_the_way and readings:
            readings[0] = _with(readings[0], self.on_the_way)
        return self._detector.saturation(readings)


def _with(reading: Reading, more: int) -> Reading:
    load = reading.load
    waiting = float(more) if load.waiting is None else load.waiting + more
    return Reading(Load(waiting, *load[1:]), reading.age_s, reading.in_flight + more, reading.endpoint)
