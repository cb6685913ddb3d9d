"""One choice as it was: who was considered, what was known of each, and how each scorer judged. For people who ask later.

What is kept is little, as it is kept for each request: references to what nobody changes any more, and copies of the two
columns that requests change. Points of one signal are made again from its values when somebody asks; only those that came
of the request itself (a prefix hit, a session) are kept as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.candidates import Candidates, Column, Pages
from extproc.domain import COLUMNS, NO_LOAD, Endpoint, Load, known_or_none, signals_of
from extproc.scheduling import columns
from extproc.scheduling.plugins.scorers import SignalScorer
from extproc.scheduling.profile import Profile

_UNKNOWN: Final = float("nan")
_NOBODY: Final = Candidates([], [], [], [], [], object())
_NO_PAGES: Final = Pages((), (), ())


class Considered:
    """The candidates of a choice. Columns are aligned with `endpoints`."""

    __slots__ = ("_candidates", "_pages", "at_s", "in_flight", "kept", "positions", "profile", "size", "waiting")

    def __init__(
        self,
        profile: Profile,
        candidates: Candidates,
        positions: Sequence[int],
        pages: Pages,
        at_s: float,
        kept: Sequence[Column],
    ) -> None:
        """`positions`: who was picked, and whom the proxy was named behind it. `pages`: those of the pool, and `at_s` the time,
        by their clock. `kept`: as `Run.points`."""
        self.profile = profile
        self._candidates = candidates
        self._pages = pages
        self.positions = positions
        self.at_s = at_s
        self.kept = kept
        waiting, in_flight = candidates.waiting, candidates.in_flight
        self.waiting: Column = waiting[:] if isinstance(waiting, list) else waiting.copy()
        self.in_flight: Column = in_flight[:] if isinstance(in_flight, list) else in_flight.copy()
        self.size = len(waiting) * (len(kept) + 2)
        """Numbers that it keeps."""

    def __repr__(self) -> str:
        return f"<Considered {len(self.endpoints)} by {len(self.profile.scored)} scorers>"

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """The candidates; nobody when they were let go of."""
        return self._candidates.endpoints

    @property
    def whole(self) -> Sequence[Endpoint]:
        """All of the pool, also whom filters left out."""
        candidates = self._candidates
        return candidates.endpoints if candidates.whole is None else candidates.whole.endpoints

    @property
    def trial(self) -> int:
        """The position of who was to be tried, -1 for none."""
        return self._candidates.trial

    @property
    def picked(self) -> int:
        """The position of who was picked."""
        return self.positions[0]

    def signals(self, position: int) -> dict[str, object]:
        """What was known of a candidate, as Candidates.signals."""
        return signals_of(self.load(position), float(self.waiting[position]), float(self.in_flight[position]))

    def load(self, position: int) -> Load:
        """What its page said, NO_LOAD when that was unknown."""
        candidates = self._candidates
        # Where endpoints came or went since, the pool has other lists, and the candidates' is as it was.
        loads = self._pages.loads if candidates.whole is None and self._are_of_now else candidates.loads
        return loads[position] if loads else NO_LOAD

    def age_s(self, position: int) -> float | None:
        """How old its page was, in seconds; None when there was none, or nobody knows."""
        read_at_s = self._pages.read_at_s
        if not read_at_s or not self._are_of_now:
            return None
        return known_or_none(self.at_s - read_at_s[self._candidates.place(position)])

    @property
    def _are_of_now(self) -> bool:
        return self.whole is self._pages.endpoints

    def column(self, signal: str) -> list[float]:
        """The values of one of the signals that are columns, NaN where unknown."""
        if signal == "waiting":
            return [float(value) for value in self.waiting]
        if signal == "in_flight":
            return [float(value) for value in self.in_flight]
        assert signal in COLUMNS, signal
        values = [getattr(self.load(position), signal) for position in range(len(self.endpoints))]
        return [_UNKNOWN if value is None else float(value) for value in values]

    def points(self) -> list[Column]:
        """Of each of `profile.scored`, for each candidate."""
        kept = iter(self.kept)
        made: list[Column] = []
        for _, scorer, _ in self.profile.scored:
            if isinstance(scorer, SignalScorer):
                made.append(scorer.points(columns.like(self.waiting, self.column(scorer.signal))))
            else:
                made.append(next(kept))
        return made

    def totals(self, points: Sequence[Column]) -> list[float]:
        """The sum of these, each times its weight, as the picker saw it."""
        total = columns.zeros_like(self.waiting)
        for (_, _, weight), column in zip(self.profile.scored, points, strict=True):
            total = columns.add_weighted(total, column, weight)
        if self.trial >= 0:
            total = columns.raised(total, self.trial)
        return [float(each) for each in total]

    def let_go(self) -> None:
        """Too much is kept: forget all columns, and leave that there were some."""
        self._candidates, self._pages = _NOBODY, _NO_PAGES
        self.waiting, self.in_flight, self.kept, self.positions = [], [], (), ()
        self.size = 0
