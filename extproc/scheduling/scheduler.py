"""A profile leaves out, gives points and picks; a scheduler has producers find out what that needs, and a handler run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from extproc.candidates import Candidates, Column, Pick
from extproc.domain import Endpoint
from extproc.errors import NoEndpoints, Saturated
from extproc.scheduling import columns
from extproc.scheduling.cycle import Awaited, Cycle, Tokens, Waits
from extproc.scheduling.plugins.base import (
    Admitter,
    AnswerListener,
    Dresser,
    Dumper,
    EndListener,
    Figure,
    Filter,
    Keeper,
    Listener,
    Measured,
    Picker,
    PrefillListener,
    Producer,
    ProfileHandler,
    Random,
    Reported,
    Reporter,
    Run,
    Scheduled,
    Scorer,
    Teller,
    Watcher,
)

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
        self._stamp: object = None
        self._sum: Column = []
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
        totals = self._totals(cycle, candidates)
        positions = self.picker.pick(totals, candidates, random)
        return Run(candidates, Pick(positions, float(totals[positions[0]]), totals))

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

    def _totals(self, cycle: Cycle, candidates: Candidates) -> Column:
        if candidates.stamp is not self._stamp:
            total = columns.zeros_like(candidates.in_flight)
            for _, scorer, weight in self._kept:
                total = columns.add_weighted(total, scorer.score(cycle, candidates), weight)
            self._sum = total
            self._stamp = candidates.stamp
        total = self._sum
        for _, scorer, weight in self._live:
            total = columns.add_weighted(total, scorer.score(cycle, candidates), weight)
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


class Runner:
    """The profiles, for a handler to run."""

    def __init__(self, profiles: Sequence[Profile], random: Random) -> None:
        self.names = [profile.name for profile in profiles]
        self.by_name = {profile.name: profile for profile in profiles}
        self._random = random

    def run(self, name: str, cycle: Cycle, candidates: Candidates) -> Run:
        """As Profile.run."""
        return self.by_name[name].run(cycle, candidates, self._random)


class Hooks(NamedTuple):
    """Who of the plugins hears of requests and endpoints, or has something to add or to tell, each by its name."""

    picked: Mapping[str, Listener] = {}
    answered: Mapping[str, AnswerListener] = {}
    prefilled: Mapping[str, PrefillListener] = {}
    ended: Mapping[str, EndListener] = {}
    watchers: Mapping[str, Watcher] = {}
    dressers: Mapping[str, Dresser] = {}
    dumpers: Mapping[str, Dumper] = {}
    keepers: Mapping[str, Keeper] = {}
    measured: Mapping[str, Measured] = {}
    tellers: Mapping[str, Teller] = {}
    reporters: Mapping[str, Reporter] = {}


class Scheduler:
    """What a config says, with the state of one pool."""

    def __init__(
        self,
        profiles: Sequence[Profile],
        random: Random,
        *,
        handler: ProfileHandler | None = None,
        screeners: Sequence[NamedFilter] = (),
        producers: Sequence[tuple[str, Producer]] = (),
        admitters: Sequence[tuple[str, Admitter]] = (),
        hooks: Hooks = Hooks(),
    ) -> None:
        """`producers` in the order in which they need each other. Without a handler the first profile decides."""
        self._runner = Runner(profiles, random)
        self._profile = profiles[0]
        self._random = random
        self._handler = handler
        self._screeners = tuple(screeners)
        self._producers = tuple(producers)
        self._admitters = tuple(admitters)
        self._dressers = tuple(hooks.dressers.values())
        self._on_picked = tuple(hooks.picked.values())
        self._on_answered = tuple(hooks.answered.values())
        self._on_prefilled = tuple(hooks.prefilled.values())
        self._on_ended = tuple(hooks.ended.values())
        self._hooks = hooks
        self.listens = bool(hooks.picked or hooks.answered or hooks.prefilled or hooks.ended)
        """Somebody wants to hear what becomes of requests."""
        self.reports = bool(hooks.reporters)
        """Somebody has something to tell the proxy of what an answer cost."""
        self.awaits_first = bool(hooks.prefilled)
        """Somebody wants to hear when the answer's body begins."""

    def schedule(self, cycle: Cycle, candidates: Candidates, *, may_wait: bool = False) -> Scheduled:
        """The choice. Raises NoEndpoints when there is no candidate, or none left; Saturated when all have too much to do.

        `may_wait`: raises Waits where a producer has to be waited for whose answer the cycle does not have yet; else its
        fallback counts.
        """
        if not candidates.endpoints:
            raise NoEndpoints("no endpoint is available for this request")
        candidates = self._prepare(cycle, candidates, may_wait)
        handler = self._handler
        if handler is None:
            name = self._profile.name
            scheduled = Scheduled(name, {name: self._profile.run(cycle, candidates, self._random)})
        else:
            scheduled = handler.schedule(cycle, candidates, self._runner)
        for dresser in self._dressers:
            scheduled = dresser.dress(cycle, scheduled)
        return scheduled

    def _screened(self, cycle: Cycle, candidates: Candidates) -> Candidates:
        for name, screener in self._screeners:
            positions = screener.keep(cycle, candidates)
            if positions is not None and len(positions) < len(candidates):
                if not positions:
                    raise NoEndpoints(f"{name} leaves no endpoint")
                candidates = candidates.only(positions)
        return candidates

    def _prepare(self, cycle: Cycle, candidates: Candidates, may_wait: bool) -> Candidates:
        if self._screeners:
            candidates = self._screened(cycle, candidates)
        if self._producers:
            whole = candidates.whole
            everyone = candidates if whole is None else whole
            facts = cycle.facts
            for name, producer in self._producers:
                answer = cycle.answers.get(name)
                fact = producer.produce(cycle, everyone) if answer is None else answer.awaited.fact(answer.outcome, everyone)
                if isinstance(fact, Awaited):
                    if may_wait:
                        raise Waits(name, fact)
                    fact = fact.fact(fact.fallback, everyone)
                facts[name] = fact
        for name, admitter in self._admitters:
            why = admitter.refuses(cycle, candidates)
            if why is not None:
                raise Saturated(f"request cannot be admitted: {name}: {why}")
        return candidates

    def explain(self, cycle: Cycle, candidates: Candidates, *, also: Sequence[str] = ()) -> list[Explanation]:
        """As Profile.explain, of each profile; for a cycle that was scheduled with these candidates, well or not."""
        try:
            candidates = self._screened(cycle, candidates)
        except NoEndpoints:
            return []
        return [profile.explain(cycle, candidates, also=also) for profile in self._runner.by_name.values()]

    # -- what becomes of it --------------------------------------------------------------------------------------

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        """The decision goes out."""
        for listener in self._on_picked:
            listener.picked(cycle, scheduled)
        cycle.let_go()

    def answered(self, cycle: Cycle, status: int) -> None:
        """The response's headers are here."""
        for listener in self._on_answered:
            listener.answered(cycle, status)

    def prefilled(self, cycle: Cycle) -> None:
        """The first token is here, as far as that can be seen."""
        for listener in self._on_prefilled:
            listener.prefilled(cycle)

    def ended(self, cycle: Cycle, status: int, served: str) -> None:
        """The request is over."""
        for listener in self._on_ended:
            listener.ended(cycle, status, served)

    def reported(self, tokens: Tokens) -> list[Reported]:
        """What the proxy is told with the end of an answer that cost so much."""
        return [each for reporter in self._hooks.reporters.values() for each in reporter.reports(tokens)]

    def forget(self, endpoint: str) -> None:
        """The endpoint has left, or was started anew."""
        for watcher in self._hooks.watchers.values():
            watcher.forget(endpoint)

    def began(self, endpoint: str, started_s: float) -> None:
        """The endpoint's page says when its process was started."""
        for keeper in self._hooks.keepers.values():
            keeper.began(endpoint, started_s)

    @property
    def keepers(self) -> Mapping[str, Keeper]:
        """Who has something to keep over a restart of ours, by their names."""
        return self._hooks.keepers

    @property
    def dumpers(self) -> Mapping[str, Dumper]:
        """The plugins that have a state to show, by their names."""
        return self._hooks.dumpers

    def dump(self) -> dict[str, Any]:
        """What the plugins keep, by their names."""
        return {name: dumper.dump() for name, dumper in self._hooks.dumpers.items()}

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """What the plugins measure, each with its name."""
        return iter([(name, figure) for name, each in self._hooks.measured.items() for figure in each.figures()])

    def tell(self, cycle: Cycle) -> dict[str, Any]:
        """What plugins have to say of a cycle that was scheduled, by their names."""
        told = {name: teller.tells(cycle) for name, teller in self._hooks.tellers.items()}
        return {name: each for name, each in told.items() if each is not None}
