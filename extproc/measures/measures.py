"""All cells of a process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, TypeAlias

from extproc.measures.cell import Cell
from extproc.measures.feedback import Remembered
from extproc.measures.totals import Totals

Key: TypeAlias = tuple[str, str, str]
"""Endpoint, served entity, and arm as `experiment/arm`; '' for all of the entity's requests, whatever arm they were in."""

WINDOW_S: Final = 3600.0
SLOTS: Final = 120


class Mark:
    """A moment, for `Measures.since`. Its totals are this process's: after a restart there is another beginning."""

    __slots__ = ("totals",)

    def __init__(self, totals: Mapping[Key, tuple[Cell, Totals]]) -> None:
        self.totals = totals


class Measures:
    """Cells by endpoint, entity and arm. Their names are those of the configuration: who asks for a cell has looked there."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        window_s: float = WINDOW_S,
        slots: int = SLOTS,
        remembered: int = 0,
    ) -> None:
        """`clock` gives seconds and never goes back. The last `window_s` seconds are kept in so many slots; `remembered`
        requests may still be rated.
        """
        if not window_s > 0 or slots < 1:
            raise ValueError(f"window_s is {window_s:g} and slots {slots}; expected more than 0 of both")
        self._clock = clock
        self.window_s = window_s
        self.slot_s = window_s / slots
        """How exact the beginning of a window is."""
        self._slots = slots
        self.began = self.moment
        """When counting began, as `moment`."""
        self._cells: dict[Key, Cell] = {}
        self.remembered = Remembered(remembered)

    @property
    def moment(self) -> float:
        """Now, in slots: the whole part is the number of the slot that is open, the rest how much of it is over."""
        return self._clock() / self.slot_s

    def cell(self, endpoint: str, entity: str, arm: str = "") -> Cell:
        """The one of this entity, or of an arm of it; made when it is new."""
        key = (endpoint, entity, arm)
        cell = self._cells.get(key)
        if cell is None:
            # One slot more than the window has, as it begins somewhere in the first.
            cell = self._cells[key] = Cell(endpoint, self._clock, self.slot_s, self._slots + 1)
        return cell

    def find(self, endpoint: str, entity: str, arm: str = "") -> Cell | None:
        """As `cell`; None when nothing was counted there."""
        return self._cells.get((endpoint, entity, arm))

    def of(self, endpoint: str, entity: str, arm: str = "", *, window_s: float | None = None) -> Totals | None:
        """Of the last so many seconds, at most and by default the whole window; None when nothing was ever counted there."""
        cell = self._cells.get((endpoint, entity, arm))
        if cell is None:
            return None
        return cell.last(self.window_s if window_s is None else min(window_s, self.window_s))

    def total(self, endpoint: str, entity: str, arm: str = "") -> Totals | None:
        """Of everything since the process began, or since there is such an entity; None when nothing was counted."""
        cell = self._cells.get((endpoint, entity, arm))
        return None if cell is None else cell.total()

    def mark(self, endpoint: str) -> Mark:
        """This moment, for all entities and arms of an endpoint."""
        return Mark({key: (cell, cell.total()) for key, cell in self._cells.items() if key[0] == endpoint})

    def since(self, mark: Mark, endpoint: str, entity: str, arm: str = "") -> Totals | None:
        """Of what came since the mark; None when nothing was ever counted there. Of an entity that came, or went and came back,
        since then it is everything.
        """
        key = (endpoint, entity, arm)
        cell = self._cells.get(key)
        if cell is None:
            return None
        marked = mark.totals.get(key)
        total = cell.total()
        return total if marked is None or marked[0] is not cell else total.minus(marked[1])

    def known(self, endpoint: str | None = None) -> Iterator[Key]:
        """Of which something was counted, in their order."""
        return iter(sorted([key for key in self._cells if endpoint is None or key[0] == endpoint]))

    def keep(self, there: Collection[Key]) -> None:
        """Forget all cells but these."""
        for key in [key for key in self._cells if key not in there]:
            del self._cells[key]

    def __len__(self) -> int:
        return len(self._cells)

    def __repr__(self) -> str:
        return f"<Measures of {len(self._cells)}, {len(self.remembered)} requests remembered>"
