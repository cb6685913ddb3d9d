"""How many lines of one kind a log gets, where strangers decide how often the event happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

BURST: Final = 5
"""Lines of a kind in a row."""
PERIOD_S: Final = 10.0
"""After them, one line in that time."""
_MAX_KINDS: Final = 256


class _Bucket:
    __slots__ = ("suppressed", "tokens", "updated_s")

    def __init__(self, now_s: float) -> None:
        self.tokens = float(BURST)
        self.updated_s = now_s
        self.suppressed = 0


class LogLimit:
    """A token bucket for each kind of event. Kinds beyond the first 256 share one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self.suppressed = 0
        """Lines that were not written, of all kinds."""

    def passes(self, kind: str) -> int | None:
        """None when this line is not to be written. Else how many of its kind were not since the last one that was."""
        now_s = self._clock()
        bucket = self._buckets.get(kind)
        if bucket is None:
            kind = kind if len(self._buckets) < _MAX_KINDS else ""
            bucket = self._buckets.setdefault(kind, _Bucket(now_s))
        bucket.tokens = min(float(BURST), bucket.tokens + (now_s - bucket.updated_s) / PERIOD_S)
        bucket.updated_s = now_s
        if bucket.tokens < 1:
            bucket.suppressed += 1
            self.suppressed += 1
            return None
        bucket.tokens -= 1
        suppressed, bucket.suppressed = bucket.suppressed, 0
        return suppressed
