"""A profile leaves out, gives points and picks; and tells how its choice comes about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from extproc.candidates import Candidates, Column, Pick
from extproc.domain import Endpoint
from extproc.errors import NoEndpoints, Saturated
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import Filter, Picker, Random, Run, Scorer
from extproc.scheduling.plugins.scorers import SignalScorer

MOST_EXPLAINED: Final = 100
"""Candidates that an explanation tells of one by one: more are no help to people, and telling would hold up picks."""


class WeightedScorer(NamedTuple):
    """A scorer as a profile lists it."""

    name: str
    scorer: Scorer
    weight: float = 1.0


class NamedFilter(NamedTuple):
    """A filter as a profile lists it."""

    name: str
    filter: Filter


class CandidateExplanation(NamedTuple):
    """One candidate: what was known of it, and the points it got. None is unknown."""

    endpoint: Endpoint
    signals: dict[str, object]
    points: dict[str, float]
    """By scorer, in 0..1, before the weight."""
    total: float
    trial: bool = False
    """Nothing is known of it, and it is its turn to be tried: its total is the best one's."""


class Explanation(NamedTuple):
    """How a profile's choice comes about."""

    profile: str
    weights: dict[str, float]
    candidates: list[CandidateExplanation]
    """Most points first; of a large pool only those with most."""
    filters: dict[str, int] = {}
    """How many candidates each filter left, in order."""
    candidates_in_all: int = 0
    """After the filters."""


class Profile:
    """Filters in order, scorers with weights, and a picker. The total of a candidate is the sum of points times weight.

    Points that depend only on the pages are summed once for each stamp of the candidates, and whom the first filters leave that
    depend only on labels is kept for as long.
    """

    def __init__(
        self, name: str, scorers: Sequence[WeightedScorer], picker: Picker, filters: Sequence[NamedFilter] = ()
    ) -> None:
        self.name = name
        self.filters = tuple(filters)
        self.scorers = tuple(scorers)
        self.picker = picker
        fixed = 0
        while fixed < len(filters) and filters[fixed].filter.fixed:
            fixed += 1
        self._fixed = tuple(filters[:fixed])
        self._filters = tuple(filters[fixed:])
        self._kept = tuple(s for s in scorers if s.scorer.per_snapshot)
        self._live = tuple(s for s in scorers if not s.scorer.per_snapshot)
        self.scored = self._kept + self._live
        """The scorers, in the order in which points are summed."""
        self.keeps_points = False
        """Somebody wants to know later how each scorer judged that does not go by one signal, as `Run.points`."""
        self._stamp: object = None
        self._sum: Column = []
        self._kept_points: list[Column] = []
        self._endpoints: Sequence[Endpoint] = ()
        self._positions: list[int] | None = None
        """Whom of these the fixed filters leave; None for all."""
        self._all_stamp: object = None
        self._left_stamp: object = None
        """Of whom they leave of candidates with that stamp."""

    def run(self, cycle: Cycle, candidates: Candidates, random: Random) -> Run:
        """Pick among the candidates, of which there is at least one. Raises Saturated or NoEndpoints when the filters leave
        none."""
        if self.filters:
            candidates = self.left(cycle, candidates)
        points: list[Column] | None = [] if self.keeps_points else None
        totals = self._totals(cycle, candidates, points)
        positions = self.picker.pick(totals, candidates, random)
        pick = Pick(positions, float(totals[positions[0]]), totals)
        return Run(candidates, pick) if points is None else Run(candidates, pick, points)

    def left(self, cycle: Cycle, candidates: Candidates, told: dict[str, int] | None = None) -> Candidates:
        """Whom the filters leave; `told` hears how many each does. Raises Saturated or NoEndpoints for nobody."""
        if self._fixed and told is None:
            candidates = self._after_fixed(cycle, candidates)
            filters = self._filters
        else:
            filters = self.filters
        for name, each in filters:
            positions = each.keep(cycle, candidates)
            if positions is not None and len(positions) < len(candidates):
                if not positions:
                    self._nobody(name, each, told)
                candidates = candidates.only(positions)
            if told is not None:
                told[name] = len(candidates)
        return candidates

    def _nobody(self, name: str, by: Filter, told: dict[str, int] | None) -> None:
        if told is not None:
            told[name] = 0
        if by.by_load:
            raise Saturated(f"profile {self.name!r}: {name} leaves no endpoint, all have too much to do")
        raise NoEndpoints(f"profile {self.name!r}: {name} leaves no endpoint")

    def _after_fixed(self, cycle: Cycle, candidates: Candidates) -> Candidates:
        if candidates.endpoints is not self._endpoints:
            left, kept = candidates, None
            for name, each in self._fixed:
                positions = each.keep(cycle, left)
                if positions is not None and len(positions) < len(left):
                    if not positions:
                        self._nobody(name, each, None)
                    left = left.only(positions)
                    kept = list(positions) if kept is None else [kept[i] for i in positions]
            self._endpoints, self._positions = candidates.endpoints, kept
        if self._positions is None:
            return candidates
        if candidates.stamp is not self._all_stamp:
            self._all_stamp, self._left_stamp = candidates.stamp, object()
        return candidates.only(self._positions, self._left_stamp)

    def points(self, cycle: Cycle, candidates: Candidates) -> list[Column]:
        """What `Run.points` of these has, kept or not."""
        points: list[Column] = []
        self._totals(cycle, candidates, points)
        return points

    def _totals(self, cycle: Cycle, candidates: Candidates, points: list[Column] | None = None) -> Column:
        if candidates.stamp is not self._stamp:
            total = columns.zeros_like(candidates.in_flight)
            kept: list[Column] = []
            for _, scorer, weight in self._kept:
                column = scorer.score(cycle, candidates)
                if not isinstance(scorer, SignalScorer):
                    kept.append(column)
                total = columns.add_weighted(total, column, weight)
            self._sum = total
            self._kept_points = kept
            self._stamp = candidates.stamp
        total = self._sum
        if points is not None:
            points += self._kept_points
        for _, scorer, weight in self._live:
            column = scorer.score(cycle, candidates)
            if points is not None and not isinstance(scorer, SignalScorer):
                points.append(column)
            total = columns.add_weighted(total, column, weight)
        if candidates.trial >= 0:
            return columns.raised(total, candidates.trial)
        return total

    def explain(
        self, cycle: Cycle, candidates: Candidates, *, most: int = MOST_EXPLAINED, also: Sequence[str] = ()
    ) -> Explanation:
        """The candidates' signals and points, as `run` would see them now: of the `most` with most points, and of the endpoints
        `also`. Nobody at all where the filters leave nobody."""
        left: dict[str, int] = {}
        weights = {name: weight for name, _, weight in self.scorers}
        try:
            candidates = self.left(cycle, candidates, left)
        except (NoEndpoints, Saturated):
            return Explanation(self.name, weights, [], left)
        points = {name: scorer.score(cycle, candidates) for name, scorer, _ in self.scorers}
        totals = self._totals(cycle, candidates)
        shown = columns.largest(totals, most)
        if also:
            shown += {i for i, endpoint in enumerate(candidates.endpoints) if endpoint.key in also}.difference(shown)
        rows = [
            CandidateExplanation(
                endpoint=candidates.endpoints[i],
                signals=candidates.signals(i),
                points={name: float(column[i]) for name, column in points.items()},
                total=float(totals[i]),
                trial=i == candidates.trial,
            )
            for i in shown
        ]
        rows.sort(key=lambda row: -row.total)
        return Explanation(self.name, weights, rows, left, len(candidates))
