"""The last pairs of a shadow; and their bodies, where somebody asked for these, for no longer and no more than he said."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from extproc.shadow.compare import Comparison
from extproc.shadow.sums import verdict_of

MOST_PAIRS: Final = 200
MOST_KEPT_BYTES: Final = 16 * 2**20
"""Of all bodies of one shadow together; the oldest go first."""


@dataclass(frozen=True, slots=True, repr=False)
class Bodies:
    """What was asked and what was answered. Shown to nobody by chance: its repr says how much it is."""

    request: bytes
    live: str
    shadow: str

    @property
    def size_bytes(self) -> int:
        """About what it takes."""
        return len(self.request) + 4 * (len(self.live) + len(self.shadow))

    def __repr__(self) -> str:
        return f"<Bodies {self.size_bytes} bytes>"

    def shape(self) -> dict[str, Any]:
        """For people who may see them."""
        return {"request": self.request.decode("utf-8", "replace"), "live": self.live, "shadow": self.shadow}


@dataclass(slots=True)
class Pair:
    """A request's two answers. Its bodies go before it does."""

    at_s: float
    """When they were compared, since 1970."""
    request_id: str
    live: Mapping[str, Any]
    """As `Side.shape` says: what was read is not kept with it."""
    shadow: Mapping[str, Any]
    found: Comparison
    bodies: Bodies | None = None

    def shape(self, *, bodies: bool = False) -> dict[str, Any]:
        """For people. Texts only with `bodies`."""
        found, gap = self.found, self.found.gap
        told: dict[str, Any] = {
            "at_s": self.at_s,
            "request_id": self.request_id,
            "verdict": verdict_of(found),
            "differs_in": list(found.differs),
            "similarity": found.similarity,
            "numeric_difference": None if gap is None else gap._asdict(),
            "live": dict(self.live),
            "shadow": dict(self.shadow),
        }
        if bodies:
            told["bodies"] = None if self.bodies is None else self.bodies.shape()
        return told


class Pairs:
    """A ring. One writer: who compares."""

    def __init__(self, most: int = MOST_PAIRS, most_kept_bytes: int = MOST_KEPT_BYTES) -> None:
        self._pairs: deque[Pair] = deque(maxlen=most)
        self._with_bodies: deque[Pair] = deque()
        self._most_kept_bytes = most_kept_bytes
        self.kept_bytes = 0

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, pair: Pair) -> None:
        """The newest one. All bodies together stay within the bound."""
        if self._pairs.maxlen == len(self._pairs) and self._with_bodies and self._with_bodies[0] is self._pairs[0]:
            self._drop_oldest()
        self._pairs.append(pair)
        if pair.bodies is not None:
            self._with_bodies.append(pair)
            self.kept_bytes += pair.bodies.size_bytes
            while self.kept_bytes > self._most_kept_bytes:
                self._drop_oldest()

    def forget(self, before_s: float) -> None:
        """Let go of the bodies of pairs from before then, since 1970."""
        while self._with_bodies and self._with_bodies[0].at_s < before_s:
            self._drop_oldest()

    def latest(self, limit: int) -> Iterator[Pair]:
        """Newest first."""
        return (pair for pair, _ in zip(reversed(self._pairs), range(limit), strict=False))

    def _drop_oldest(self) -> None:
        oldest = self._with_bodies.popleft()
        if oldest.bodies is not None:
            self.kept_bytes -= oldest.bodies.size_bytes
            oldest.bodies = None
