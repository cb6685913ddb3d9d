"""When a database that failed is asked again."""

from __future__ import annotations

from collections.abc import Callable

from extproc.backoff import Backoff
from extproc.control.store import StoreUnavailable

FIRST_S = 0.1
MOST_S = 2.0


class Gate:
    """Refuses at once for a while after a failure, so that callers don't wait in line for one attempt after the other.

    Used by the store's thread, and opened by its watcher's: the one that hears first that the database is back.
    """

    def __init__(self, clock: Callable[[], float], draw: Callable[[], float]) -> None:
        self._clock = clock
        self._backoff = Backoff(draw, first_s=FIRST_S, most_s=MOST_S)
        self._shut_until = 0.0
        self._why = ""

    def check(self) -> None:
        """Raises StoreUnavailable while it is shut."""
        wait_s = self._shut_until - self._clock()
        if wait_s > 0:
            raise StoreUnavailable(f"{self._why}; tried again in {wait_s:.1f} s")

    def failed(self, why: str) -> StoreUnavailable:
        """Shut it. The error to raise."""
        self._why = why
        self._shut_until = self._clock() + self._backoff.next()
        return StoreUnavailable(why)

    def worked(self) -> None:
        """Open it."""
        self._backoff.reset()
        self._shut_until = 0.0
