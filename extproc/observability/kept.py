"""Whose series stay: what is counted by served entity and by arm is forgotten some time after these have gone.

The time is for who reads the page now and then: the last requests of what has gone are on it once more, and a request that ends
late counts where it belongs. What comes back counts from 0.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

Key = tuple[str, str]


class Kept(NamedTuple):
    """Of which something may be known."""

    entities: Collection[Key]
    """Endpoint and served entity."""
    arms: Collection[Key] = ()
    """Endpoint and arm, as `experiment/arm`: of all experiments that there are, also of those that have ended."""
    shown: Collection[Key] = ()
    """Of these, the arms whose series are on Prometheus' page."""


class Grace:
    """Remembers what has gone a while ago."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._there: frozenset[Key] = frozenset()
        self._gone: dict[Key, float] = {}

    def __repr__(self) -> str:
        return f"<Grace for {len(self._gone)} beside {len(self._there)}>"

    def seen(self, there: frozenset[Key], now_s: float) -> tuple[frozenset[Key], frozenset[Key]]:
        """What is kept now, and of that what has come back, all of which is to be forgotten first."""
        back = frozenset([key for key in self._gone if key in there])
        self._gone = {key: at_s for key, at_s in self._gone.items() if key not in there and now_s - at_s < self._grace_s}
        if there is not self._there:
            self._gone.update(dict.fromkeys(self._there - there, now_s))
            self._there = there
        return there | self._gone.keys(), back
