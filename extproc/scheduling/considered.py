"""One choice as it was: who was considered, what was known of each, and how each scorer judged. For people who ask later.

What a decision keeps is references to columns that nobody changes any more, and copies of the two that each request changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.candidates import Candidates, Column, Pages
from extproc.domain import COLUMNS, NO_LOAD, Endpoint, Load, known_or_none, signals_of
from extproc.scheduling.plugins.base import Run
from extproc.scheduling.profile import Profile

_UNKNOWN: Final = float("nan")


class Considered:
    """The candidates of a choice. Columns are aligned with `endpoints`."""

    __slots__ = (
        "at_s",
        "endpoints",
        "in_flight",
        "loads",
        "places",
        "points",
        "positions",
        "profile",
        "read_at_s",
        "size",
        "totals",
        "trial",
        "waiting",
        "whole",
    )

    def __init__(
        self,
        profile: Profile,
        run: Run,
        loads: Sequence[Load],
        read_at_s: Sequence[float],
        at_s: float,
        points: Sequence[Column],
    ) -> None:
        """`loads`: of the candidates, not changed any more. `read_at_s`: of the whole pool, when each page was read, by the
        clock of `at_s`; empty where nobody knows. `points`: of each of `profile.scored`."""
        candidates = run.candidates
        self.profile = profile
        self.endpoints: Sequence[Endpoint] = candidates.endpoints
        self.loads = loads
        self.read_at_s = read_at_s
        self.places: Sequence[int] = candidates.places
        """Where each stands in the whole pool, and so in `read_at_s`; empty: where it stands here."""
        self.whole: Sequence[Endpoint] = candidates.endpoints if candidates.whole is None else candidates.whole.endpoints
        """All of the pool, also whom filters left out."""
        self.at_s = at_s
        self.waiting: Column = _copied(candidates.waiting)
        self.in_flight: Column = _copied(candidates.in_flight)
        self.points = points
        self.totals: Column = run.pick.totals
        self.positions: Sequence[int] = run.pick.positions
        """Who was picked, and whom the proxy was named behind it."""
        self.trial = candidates.trial
        self.size = len(candidates.endpoints) * (len(points) + 3)
        """Numbers that it keeps."""

    def __repr__(self) -> str:
        return f"<Considered {len(self.endpoints)} by {len(self.points)} scorers>"

    @property
    def picked(self) -> int:
        """The position of who was picked."""
        return self.positions[0]

    def signals(self, position: int) -> dict[str, object]:
        """What was known of a candidate, as Candidates.signals."""
        return signals_of(self.load(position), float(self.waiting[position]), float(self.in_flight[position]))

    def load(self, position: int) -> Load:
        """What its page said, NO_LOAD when that was unknown."""
        return self.loads[position] if self.loads else NO_LOAD

    def age_s(self, position: int) -> float | None:
        """How old its page was, in seconds; None when there was none."""
        if not self.read_at_s:
            return None
        at = self.read_at_s[self.places[position] if self.places else position]
        return known_or_none(self.at_s - at)

    def column(self, signal: str) -> list[float]:
        """The values of one of the signals that are columns, NaN where unknown."""
        if signal == "waiting":
            return [float(value) for value in self.waiting]
        if signal == "in_flight":
            return [float(value) for value in self.in_flight]
        assert signal in COLUMNS, signal
        values = [getattr(self.load(position), signal) for position in range(len(self.endpoints))]
        return [_UNKNOWN if value is None else float(value) for value in values]

    def let_go(self) -> None:
        """Too much is kept: forget all columns, and leave that there were some."""
        self.endpoints, self.loads, self.read_at_s, self.places, self.whole = (), (), (), (), ()
        self.waiting, self.in_flight, self.points, self.totals = [], [], (), []
        self.positions = ()
        self.size = 0


def considered(profile: Profile, run: Run, pages: Pages, at_s: float, points: Sequence[Column]) -> Considered:
    """Of a run of this profile, at this moment by the clock of `pages`, which are those of the pool now."""
    candidates = run.candidates
    whole: Candidates = candidates if candidates.whole is None else candidates.whole
    same = whole.endpoints is pages.endpoints  # else endpoints came or went while a stage behind the choice waited
    loads = candidates.loads if candidates.whole is not None else pages.loads if same else list(candidates.loads)
    return Considered(profile, run, loads, pages.read_at_s if same else (), at_s, points)


def _copied(column: Column) -> Column:
    return column[:] if isinstance(column, list) else column.copy()
