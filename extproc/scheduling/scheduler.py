"""A scheduler has producers find out what profiles need, and a handler run these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from extproc.candidates import Candidates
from extproc.errors import NoEndpoints, Saturated
from extproc.scheduling.cycle import Awaited, Cycle, Tokens, Waits
from extproc.scheduling.plugins.base import (
    Admitter,
    AnswerListener,
    Dresser,
    Dumper,
    EndListener,
    Figure,
    Keeper,
    Listener,
    Measured,
    PrefillListener,
    Producer,
    ProfileHandler,
    Random,
    Reported,
    Reporter,
    Reuser,
    Run,
    Scheduled,
    Teller,
    Watcher,
)
from extproc.scheduling.profile import Explanation, NamedFilter, Profile


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
    reusers: Mapping[str, Reuser] = {}
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

    def keep_points(self) -> None:
        """From now on each run says how each scorer judged."""
        for profile in self._runner.by_name.values():
            profile.keeps_points = True

    def profile(self, name: str) -> Profile:
        """The one of this name."""
        return self._runner.by_name[name]

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

    def reuse(self) -> Mapping[str, Sequence[int]]:
        """By endpoint, as a `Reuser` tells: the first one's; nothing where there is none."""
        for reuser in self._hooks.reusers.values():
            return reuser.reuse()
        return {}

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """What the plugins measure, each with its name."""
        return iter([(name, figure) for name, each in self._hooks.measured.items() for figure in each.figures()])

    def tell(self, cycle: Cycle) -> dict[str, Any]:
        """What plugins have to say of a cycle that was scheduled, by their names."""
        told = {name: teller.tells(cycle) for name, teller in self._hooks.tellers.items()}
        return {name: each for name, each in told.items() if each is not None}
