"""How long to wait before something that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Pauses that double, each shortened at random by up to a half so that replicas spread."""

    def __init__(self, draw: Callable[[], float], *, first_s: float = 0.2, most_s: float = 5.0) -> None:
        self._draw = draw
        self._first_s = first_s
        self._most_s = most_s
        self.failures = 0

    def next(self, most_s: float | None = None) -> float:
        """Seconds to wait now."""
        pause = min(self._first_s * 2.0 ** min(self.failures, 30), most_s or self._most_s)
        self.failures += 1
        return pause * (0.5 + self._draw() / 2)

    def reset(self) -> None:
        self.failures = 0
