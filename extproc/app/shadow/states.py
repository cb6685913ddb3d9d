"""What is known of each shadow while it is one: its budget, its sums, its last pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from extproc.observability.shadow import ShadowMetrics
from extproc.shadow import Bodies, Budget, Comparison, Pair, Pairs, Side, Sums
from extproc.shadow.sums import verdict_of
from extproc.traffic import ServedEntity
from extproc.traffic.shadows import ShadowSpec


class Key(NamedTuple):
    """Which shadow: another model behind the same name is another one."""

    endpoint: str
    entity: str
    model: str
    pool: str


class Shadowed:
    """One shadow."""

    def __init__(self, key: Key, spec: ShadowSpec, now_s: float) -> None:
        self.key = key
        self.spec = spec
        self.budget = Budget(spec.max_in_flight, spec.max_bytes, spec.max_per_second, now_s)
        self.sums = Sums()
        self.pairs = Pairs()
        self.outcomes: Counter[str] = Counter()
        self.not_sent: Counter[str] = Counter()

    def changed(self, spec: ShadowSpec) -> None:
        """It is to be like this from now on; what was seen is kept."""
        self.spec = spec
        self.budget.resized(spec.max_in_flight, spec.max_bytes, spec.max_per_second)

    def shape(self, limit: int, *, bodies: bool) -> dict[str, Any]:
        """For people, with so many of the last pairs."""
        spec = self.spec
        return {
            "entity": self.key.entity,
            "model": self.key.model,
            "pool": self.key.pool,
            "percentage": spec.share * 100,
            "in_flight": self.budget.in_flight,
            "held_bytes": self.budget.bytes_held,
            "copies": dict(self.outcomes),
            "not_sent": dict(self.not_sent),
            "summary": self.sums.shape(),
            "last_pairs": [pair.shape(bodies=bodies) for pair in self.pairs.latest(limit)],
        }


class Hold:
    """What one copy has of a budget. Both may be said more than once."""

    __slots__ = ("_answered", "_metrics", "_size_bytes", "_state")

    def __init__(self, state: Shadowed, size_bytes: int, metrics: ShadowMetrics) -> None:
        self._state = state
        self._size_bytes = size_bytes
        self._metrics = metrics
        self._answered = False
        self._tell()

    def answered(self) -> None:
        """Its answer has ended, or there will be none."""
        if not self._answered:
            self._answered = True
            self._state.budget.answered()
            self._tell()

    def let_go(self) -> None:
        """Nothing of it is held any more."""
        self.answered()
        self._state.budget.give_back(self._size_bytes)
        self._size_bytes = 0
        self._tell()

    def _tell(self) -> None:
        budget = self._state.budget
        self._metrics.holds(*self._state.key[:2], budget.in_flight, budget.bytes_held)


class States:
    """All shadows that were asked for anything. One writer: the component."""

    def __init__(self, metrics: ShadowMetrics, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._wall_clock = wall_clock
        self._shadows: dict[tuple[str, str], Shadowed] = {}

    def of(self, endpoint: str, spec: ShadowSpec, entity: ServedEntity) -> Shadowed:
        """The shadow as it is asked for now."""
        key = Key(endpoint, entity.name, entity.model, entity.pool)
        state = self._shadows.get(key[:2])
        if state is None or state.key != key:
            state = self._shadows[key[:2]] = Shadowed(key, spec, self._clock())
        elif state.spec is not spec and state.spec != spec:
            state.changed(spec)
        return state

    def __iter__(self) -> Iterator[Shadowed]:
        return iter(self._shadows.values())

    def keep(self, shadows: Collection[tuple[str, str]]) -> None:
        """Forget all shadows but these (endpoint, entity)."""
        for key in [key for key in self._shadows if key not in shadows]:
            del self._shadows[key]
        self._metrics.keep(shadows)

    def forget_bodies(self) -> None:
        """Those that were kept for as long as somebody asked for."""
        now_s = self._wall_clock()
        for state in self._shadows.values():
            state.pairs.forget(now_s - state.spec.kept_body_s)

    def take(self, state: Shadowed, size_bytes: int) -> Hold | str:
        """What a copy of that size may have of the budget, or which bound it would break."""
        return state.budget.take(size_bytes, self._clock()) or Hold(state, size_bytes, self._metrics)

    # -- counting ----------------------------------------------------------------------------------------------------

    def refused(self, state: Shadowed, reason: str) -> None:
        """A copy was not sent."""
        state.not_sent[reason] += 1
        self._metrics.not_sent(*state.key[:2], reason)

    def answered(self, state: Shadowed, outcome: str) -> None:
        """A copy that was sent is over."""
        state.outcomes[outcome] += 1
        self._metrics.sent(*state.key[:2], outcome)

    def compared(
        self, state: Shadowed, request_id: str, live: Side, shadow: Side, found: Comparison, bodies: Bodies | None
    ) -> None:
        """One more pair."""
        state.sums.add(live, shadow, found)
        state.pairs.add(Pair(self._wall_clock(), request_id, live.shape(), shadow.shape(), found, bodies))
        self._metrics.compared(*state.key[:2], verdict_of(found))
