"""What copies may cost: so many under way, so many bytes held, so many a second. One writer: who sends them."""

from __future__ import annotations

from typing import Final

IN_FLIGHT: Final = "in flight"
BYTES: Final = "bytes"
RATE: Final = "rate"


class Budget:
    """Of one shadow. `take` when a copy begins, `answered` when its answer has ended, `give_back` when nothing of it is held.

    The rate is a token bucket (RFC 2697 calls its size the burst) that holds what a second gives, at least one copy.
    """

    __slots__ = ("_at_s", "_left", "bytes_held", "in_flight", "max_bytes", "max_in_flight", "max_per_second")

    def __init__(self, max_in_flight: int, max_bytes: int, max_per_second: float, now_s: float) -> None:
        self.max_in_flight = max_in_flight
        self.max_bytes = max_bytes
        self.max_per_second = max_per_second
        self.in_flight = 0
        self.bytes_held = 0
        self._left = self._burst
        self._at_s = now_s

    @property
    def _burst(self) -> float:
        return max(1.0, self.max_per_second)

    def resized(self, max_in_flight: int, max_bytes: int, max_per_second: float) -> None:
        """Other bounds from now on; what is under way stays counted."""
        self.max_in_flight = max_in_flight
        self.max_bytes = max_bytes
        self.max_per_second = max_per_second
        self._left = min(self._left, self._burst)

    def take(self, size_bytes: int, now_s: float) -> str:
        """'' when a copy that holds so many bytes may begin, which it has with that; else which bound it would break."""
        if self.in_flight >= self.max_in_flight:
            return IN_FLIGHT
        if self.bytes_held + size_bytes > self.max_bytes:
            return BYTES
        self._left = min(self._burst, self._left + max(0.0, now_s - self._at_s) * self.max_per_second)
        self._at_s = now_s
        if self._left < 1.0:
            return RATE
        self._left -= 1.0
        self.in_flight += 1
        self.bytes_held += size_bytes
        return ""

    def answered(self) -> None:
        """The copy's answer has ended, well or not."""
        self.in_flight -= 1

    def give_back(self, size_bytes: int) -> None:
        """What the copy held is let go of."""
        self.bytes_held -= size_bytes

    def __repr__(self) -> str:
        return f"<Budget {self.in_flight}/{self.max_in_flight} in flight, {self.bytes_held}/{self.max_bytes} bytes>"
