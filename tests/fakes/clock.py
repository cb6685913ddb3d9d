"""Time that passes when a test says so."""

from __future__ import annotations

from collections.abc import Callable

from extproc.testing import FakeClock

__all__ = ["FakeClock", "FakeLater", "Planned"]


class Planned:
    """A call that is to come."""

    def __init__(self, at_s: float, call: Callable[[], None]) -> None:
        self.at_s = at_s
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLater:
    """Calls that come when a test lets time pass."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._planned: list[Planned] = []

    def __call__(self, delay_s: float, call: Callable[[], None]) -> Planned:
        planned = Planned(self._clock() + delay_s, call)
        self._planned.append(planned)
        return planned

    @property
    def planned(self) -> list[Planned]:
        """Those that are still to come."""
        return [each for each in self._planned if not each.cancelled]

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass, and make each call when its time has come."""
        until_s = self._clock() + seconds
        while True:
            due = [each for each in self.planned if each.at_s <= until_s]
            if not due:
                break
            first = min(due, key=lambda each: each.at_s)
            self._planned.remove(first)
            self._clock.now_s = max(self._clock.now_s, first.at_s)
            first.call()
        self._clock.now_s = until_s
