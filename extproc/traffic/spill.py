"""How much of a pool's requests go to other regions: all of them when it is empty, when it is full as many as it can't serve.

    open ─ cannot serve ──────────────────────────────▶ left (empty)      ─ saturation ≤ `leave` for `leave_after_s` ─▶ open
    open ─ saturation ≥ `enter` for `enter_after_s` ─▶ left (saturated), by a share ─ the share has come down to 0 ─▶ open

How many requests a pool can serve nobody knows; what is known is whether too many wait. So the share is what a controller says
whose signal is the saturation: a PI controller in its velocity form (Åström and Hägglund, PID Controllers, 1995, chapter 3).
With `S`, the saturation, smoothed over a second:

    share's velocity = excess / (5 leave_after_s) + 0.4 dS/dt      excess: S - enter above it, S - leave below it, else 0

A queue that grows by what is too much is an integrator, which an integral alone would swing; the term of the velocity damps
that, whether a pool's queue fills in tens of milliseconds or in a minute. `tests/traffic/test_spill.py` simulates both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from extproc.traffic.hashing import Hashed
from extproc.traffic.layout import BUCKETS

OPEN: Final = ""
EMPTY: Final = "empty"
SATURATED: Final = "saturated"

_BY_LEVEL: Final = 0.2
"""Of the share, in `leave_after_s`, for each unit of excess."""
_BY_CHANGE: Final = 0.4
"""Of the share, for each unit that the saturation rises."""
_SMOOTH_S: Final = 1.0
_RISES: Final = 1.0
"""Of the share, in `leave_after_s`, at most; it falls half as fast, as who comes back fills a pool that had just room."""
_FALLS: Final = 0.5
_MOST: Final = 2.0
"""Times `enter`: what is more of saturation counts as that, as it says no more of how many are too many."""
_LEAST: Final = 0.25
"""Excess below `leave`, at least, so that the last share goes as well."""
_SHORTEST_S: Final = 0.1


class SpillBounds(NamedTuple):
    """When a pool is left for its saturation, and when it is taken again."""

    enter: float = 1.0
    leave: float = 0.7
    """Less than `enter`."""
    enter_after_s: float = 1.0
    """For so long the saturation has to be at least `enter`, each time that somebody looks."""
    leave_after_s: float = 10.0
    """For so long it has to be at most `leave` before that brings anybody back; and how slowly the share moves."""


class Spill:
    """Whether one pool is left for others, and by whom. Its one writer says what it saw, and when; requests read."""

    __slots__ = ("_bounds", "_hashed", "_low_since_s", "_seen_s", "_served", "_since_s", "_smooth", "left", "share")

    def __init__(self, bounds: SpillBounds, pool: str = "") -> None:
        """By the pool's name it is decided who goes: for each pool others."""
        self._bounds = bounds
        self._hashed = Hashed(f"spill/{pool}")
        self._since_s: float | None = None
        """When what has to last for a change began; None when it does not hold."""
        self._low_since_s: float | None = None
        """Since when the saturation is low, of one that is left by a share."""
        self._served = False
        self._seen_s: float | None = None
        """When the saturation was known last."""
        self._smooth = 0.0
        self.left = OPEN
        """Why it is: `EMPTY` or `SATURATED`; `OPEN` when it is not."""
        self.share = 0.0
        """Of its requests that go elsewhere if they can, 0 to 1."""

    def bound(self, bounds: SpillBounds) -> None:
        """From now on it goes by these."""
        self._bounds = bounds

    @property
    def is_partial(self) -> bool:
        """Some requests go elsewhere, and some do not."""
        return 0.0 < self.share < 1.0

    def left_by(self, key: bytes | None, draw: Callable[[], float]) -> str:
        """Why the request of that key is to go elsewhere, `OPEN` when it is not. The same keys go as long as the share is the
        same, and those that go by a smaller share go by a larger one. Who has no key is drawn, in [0, 1).
        """
        if not self.is_partial:
            return self.left
        at = draw() * BUCKETS if key is None else float(self._hashed.bucket_of(key))
        return self.left if at < self.share * BUCKETS else OPEN

    def saw(self, can_serve: bool, saturation: float | None, now_s: float) -> bool:
        """What the pool is like now; whether that changed `left`. `saturation` is None when nothing is known of it: then only
        whether it can serve counts. A pool that never could is no news: it has not been there yet.
        """
        before = self.left
        if not can_serve:
            self._since_s = None
            if self._served:
                self.left, self.share = EMPTY, 1.0
        else:
            self._served = True
            level = None if saturation is None else min(saturation, _MOST * self._bounds.enter)
            change = self._follow(level, now_s)
            if self.left == SATURATED:
                self._control(level, change, now_s)
            else:
                self._judge(level, now_s)
        self._seen_s = now_s
        return self.left != before

    def _follow(self, level: float | None, now_s: float) -> float:
        """The smoothed saturation; by how much it has changed."""
        if level is None:
            return 0.0
        if self._seen_s is None:
            self._smooth = level
        change = (level - self._smooth) * min(1.0, self._elapsed_s(now_s) / _SMOOTH_S)
        self._smooth += change
        return change

    def _elapsed_s(self, now_s: float) -> float:
        return 0.0 if self._seen_s is None else now_s - self._seen_s

    def _judge(self, level: float | None, now_s: float) -> None:
        """Of one that is open, or was empty."""
        bounds = self._bounds
        if self.left == OPEN:
            wanted, after_s = level is not None and level >= bounds.enter, bounds.enter_after_s
        else:
            # an empty pool that came back, and of whose load nothing is known, is as good as any
            wanted = level is None or level <= bounds.leave
            after_s = bounds.leave_after_s
        if not wanted:
            self._since_s = None
            return
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < after_s:
            return
        self._since_s = None
        if self.left != OPEN or level is None:
            self.left, self.share = OPEN, 0.0
            return
        self.left, self._smooth, self._low_since_s = SATURATED, level, None
        self.share = min(1.0, _BY_CHANGE * (level - bounds.leave))

    def _control(self, level: float | None, change: float, now_s: float) -> None:
        """Of one that is left by a share."""
        if level is None:
            self._low_since_s = None
            return
        bounds, smooth, elapsed_s = self._bounds, self._smooth, self._elapsed_s(now_s)
        excess = max(0.0, smooth - bounds.enter)
        if smooth > bounds.leave:
            self._low_since_s = None
        else:
            if self._low_since_s is None:
                self._low_since_s = now_s
            if now_s - self._low_since_s >= bounds.leave_after_s:
                excess = min(smooth - bounds.leave, -_LEAST)
        part = elapsed_s / max(bounds.leave_after_s, _SHORTEST_S)
        moves = _BY_LEVEL * excess * part + _BY_CHANGE * change
        self.share = min(1.0, self.share + max(-_FALLS * part, min(_RISES * part, moves)))
        if self.share <= 0.0:
            self.left, self.share = OPEN, 0.0

    def __repr__(self) -> str:
        return f"<Spill {self.left or 'open'} {self.share:.0%}>"
