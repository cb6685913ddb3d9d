"""One entity's, or one arm's, totals by slots of time: the last ones one by one, everything before in one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from extproc.measures.sample import Sample
from extproc.measures.totals import NO_TOTALS, Tally, Totals


class Cell:
    """Samples come in, totals go out. Whoever has it may go on adding when nobody reads it any more."""

    __slots__ = ("_before", "_clock", "_current", "_slot", "_slot_s", "_slots", "endpoint")

    def __init__(self, endpoint: str, clock: Callable[[], float], slot_s: float, slots: int) -> None:
        """`clock` gives seconds and never goes back. A slot is `slot_s` long, and `slots` of them are kept one by one."""
        self.endpoint = endpoint
        """Whose it is."""
        self._clock = clock
        self._slot_s = slot_s
        self._slots: deque[tuple[int, Totals]] = deque(maxlen=slots)
        """Their numbers, and what came in them; slots in which nothing did are left out."""
        self._before = Tally()
        """All sealed slots, also those that are kept."""
        self._current = Tally()
        self._slot = self._now()

    def _now(self) -> int:
        return int(self._clock() / self._slot_s)

    def _open(self) -> Tally:
        """The tally of this moment."""
        slot = self._now()
        if slot != self._slot:
            self._seal(slot)
        return self._current

    def _seal(self, slot: int) -> None:
        current = self._current
        if not current.is_empty:
            sealed = current.totals()
            self._slots.append((self._slot, sealed))
            self._before.absorb(sealed)
            self._current = Tally()
        self._slot = slot

    def add(self, sample: Sample) -> None:
        """A request is over."""
        self._open().add(sample)

    def rate(self, score: float) -> None:
        """As `Tally.rate`; it counts when it is said."""
        self._open().rate(score)

    def compare(self, same: bool) -> None:
        """As `Tally.compare`."""
        self._open().compare(same)

    def counts(self) -> tuple[int, int]:
        """Of everything, requests and errors: without the work of `total`, for who asks often."""
        requests, errors = self._before.counts()
        more, wrong = self._current.counts()
        return requests + more, errors + wrong

    def total(self) -> Totals:
        """Everything."""
        current = self._open()
        before = self._before.totals()
        return before if current.is_empty else before.plus(current.totals())

    def slots(self, first: int) -> dict[int, Totals]:
        """By the number of their slot (`Measures.moment`), from that one on; slots in which nothing came are left out."""
        current = self._open()
        found = {slot: totals for slot, totals in self._slots if slot >= first}
        if not current.is_empty:
            found[self._slot] = current.totals()
        return found

    def last(self, window_s: float) -> Totals:
        """Of the last so many seconds, and what is older and in the same slot as their beginning."""
        current = self._open()
        first = int((self._clock() - window_s) / self._slot_s)
        found = [totals for slot, totals in self._slots if slot >= first]
        if not found:
            return NO_TOTALS if current.is_empty else current.totals()
        sums = Tally()
        for totals in found:
            sums.absorb(totals)
        if not current.is_empty:
            sums.absorb(current.totals())
        return sums.totals()
