"""Which request was whose, for as long as somebody may say how good its answer was."""

from __future__ import annotations

from typing import Final

from extproc.measures.cell import Cell

COUNTED: Final = "counted"
RATED: Final = "rated before"
UNKNOWN: Final = "unknown"


class Remembered:
    """The last requests by their ids: at most `most` of them, at least half as many, as the older half is forgotten at once.

    Of an id only its hash is kept, which differs from process to process.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, most: int) -> None:
        """0 remembers nothing."""
        self._half = most // 2
        self._young: dict[int, tuple[Cell, ...] | None] = {}
        self._old: dict[int, tuple[Cell, ...] | None] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def add(self, request_id: bytes, cells: tuple[Cell, ...]) -> None:
        """These cells (one at least, all of one endpoint) hear of feedback for the request, and not those of an older one with
        the same id."""
        if not self._half:
            return
        young = self._young
        if len(young) >= self._half:
            self._old = young
            young = self._young = {}
        young[hash(request_id)] = cells

    def rate(self, request_id: bytes, score: float, endpoint: str | None = None) -> str:
        """Somebody says how good the answer was, from 0 to 1: COUNTED, RATED when somebody has before, or UNKNOWN: it is too
        long ago, it was another process's, it was never here, or it is another endpoint's than the one that is named.
        """
        key = hash(request_id)
        of = self._young if key in self._young else self._old
        if key not in of:
            return UNKNOWN
        cells = of[key]
        if cells is None:
            return RATED
        if endpoint is not None and cells[0].endpoint != endpoint:
            return UNKNOWN
        of[key] = None
        for cell in cells:
            cell.rate(score)
        return COUNTED
