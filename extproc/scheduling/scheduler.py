"""A profile gives points and picks; a scheduler runs its profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from extproc.candidates import Candidates, Column, Pick
from extproc.domain import Endpoint, InferenceRequest
from extproc.errors import NoEndpoints
from extproc.scheduling import columns
from extproc.scheduling.plugins.base import Picker, Random, Scorer

MOST_EXPLAINED: Final = 100
"""Candidates that an explanation tells of one by one: more are no help to people, and telling would hold up picks."""


class WeightedScorer(NamedTuple):
    """A scorer as a profile lists it."""

    name: str
    scorer: Scorer
    weight: float = 1.0


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
    """How a choice comes about."""

    profile: str
    weights: dict[str, float]
    candidates: list[CandidateExplanation]
    """Most points first; of a large pool only those with most."""


class Profile:
    """Scorers with weights, and a picker. The total of a candidate is the sum of points times weight.

    Points that depend only on the pages are summed once for each stamp of the candidates.
    """

    def __init__(self, name: str, scorers: Sequence[WeightedScorer], picker: Picker) -> None:
        self.name = name
        self.scorers = tuple(scorers)
        self.picker = picker
        self._kept = tuple(s for s in scorers if s.scorer.per_snapshot)
        self._live = tuple(s for s in scorers if not s.scorer.per_snapshot)
        self._stamp: object = None
        self._sum: Column = []

    def run(self, request: InferenceRequest, candidates: Candidates, random: Random) -> Pick:
        """Pick among the candidates, of which there is at least one."""
        totals = self._totals(request, candidates)
        positions = self.picker.pick(totals, candidates, random)
        return Pick(positions, float(totals[positions[0]]), totals)

    def _totals(self, request: InferenceRequest, candidates: Candidates) -> Column:
        if candidates.stamp is not self._stamp:
            total = columns.zeros_like(candidates.in_flight)
            for _, scorer, weight in self._kept:
                total = columns.add_weighted(total, scorer.score(request, candidates), weight)
            self._sum = total
            self._stamp = candidates.stamp
        total = self._sum
        for _, scorer, weight in self._live:
            total = columns.add_weighted(total, scorer.score(request, candidates), weight)
        if candidates.trial >= 0:
            return columns.raised(total, candidates.trial)
        return total

    def explain(
        self, request: InferenceRequest, candidates: Candidates, *, most: int = MOST_EXPLAINED, also: Sequence[int] = ()
    ) -> Explanation:
        """The candidates' signals and points, as `run` would see them now: of the `most` with most points, and of those at the
        positions `also`."""
        points = {name: scorer.score(request, candidates) for name, scorer, _ in self.scorers}
        totals = self._totals(request, candidates)
        shown = columns.largest(totals, most)
        shown += set(also).difference(shown)
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
        return Explanation(self.name, {name: weight for name, _, weight in self.scorers}, rows)


class Scheduler:
    """`single-profile-handler`: one profile decides."""

    def __init__(self, profile: Profile, random: Random) -> None:
        self.profile = profile
        self._random = random

    def schedule(self, request: InferenceRequest, candidates: Candidates) -> Pick:
        """The endpoints to use, best first. Raises NoEndpoints when there is no candidate."""
        if not candidates.endpoints:
            raise NoEndpoints("no endpoint is available for this request")
        return self.profile.run(request, candidates, self._random)

    def explain(self, request: InferenceRequest, candidates: Candidates, *, also: Sequence[int] = ()) -> Explanation:
        """As Profile.explain."""
        return self.profile.explain(request, candidates, also=also)
