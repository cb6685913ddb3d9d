"""Who of several replicas drives: a row of the store they share, which its holder writes anew all the time.

Nobody compares another's clock with his own: a lease counts from when its row was last seen to change. Whoever thinks that it
is over writes the row, and the version of the row decides between two who think so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from extproc.control.store import KeepingStore, Superseded

_KEY: Final = "driver"
LEASE_S: Final = 5.0


class Lead:
    """Asked before each round. `me` is a name that no other process has."""

    def __init__(self, store: KeepingStore, me: str, clock: Callable[[], float], lease_s: float = LEASE_S) -> None:
        """`clock` gives seconds and never goes back."""
        self._store = store
        self._me = me.encode()
        self._clock = clock
        self._lease_s = lease_s
        self._seen: tuple[int, bytes] | None = None
        self._since_s = 0.0
        self._mine = 0
        """Version of the row that we wrote last; 0: we do not lead."""
        self._written_s = 0.0

    def __repr__(self) -> str:
        return f"<Lead {'ours' if self._mine else 'not ours'}>"

    @property
    def ours(self) -> bool:
        """Whether this process drives, as far as it knows."""
        return self._mine != 0 and self._clock() - self._written_s < self._lease_s

    async def held(self) -> bool:
        """Whether this process drives now. Raises StoreUnavailable: then it does not."""
        now_s = self._clock()
        if self._mine and now_s - self._written_s < self._lease_s / 3:
            return True
        row = (await self._store.kept()).get(_KEY)
        seen = None if row is None else (row.version, row.document)
        if seen != self._seen:
            self._seen, self._since_s = seen, now_s
        ours = seen is not None and seen == (self._mine, self._me)
        if not ours:
            self._mine = 0
        if not (seen is None or ours or now_s - self._since_s >= self._lease_s):
            return False
        try:
            self._mine = await self._store.keep(_KEY, 0 if seen is None else seen[0], self._me)
        except Superseded:
            self._mine = 0
            return False
        self._seen, self._written_s = (self._mine, self._me), now_s
        return True

    async def leave(self) -> None:
        """Another may drive at once. Raises StoreUnavailable."""
        if self._mine:
            mine, self._mine = self._mine, 0
            try:
                await self._store.keep(_KEY, mine, None)
            except Superseded:
                return
