"""Own plugins in picks: one that raises, takes too long or answers nonsense is left out, and the pick goes on without it.

What comes with us is not guarded, and costs nothing of this. Synchronous code can't be interrupted: that a call took too long
is known when it is over, so its answer counts; whoever does so again is not asked for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from extproc.errors import NoEndpoints, Saturated
from extproc.scheduling import columns
from extproc.scheduling.cycle import Awaited
from extproc.scheduling.plugins.base import Clock, Figure, Kit, PluginType, Scheduled
from extproc.scheduling.plugins.handlers import SingleProfile
from extproc.scheduling.plugins.pickers import MaxScorePicker

BUDGET_S: Final = 0.005
"""What a call of an own plugin may take, unless its class says otherwise."""
IN_A_ROW: Final = 3
"""Failures of one kind of call after which a plugin is not asked for a while."""
FAR_OVER: Final = 20
"""So many times the budget in one call, and it is not asked for a while at once."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
"""Each pause is twice as long as the one before, up to this; from the first again after as long without one."""

RAISES, SLOW, NAN, LENGTH, RANGE, FORM = "raises", "slow", "nan", "length", "range", "form"
KINDS: Final = (RAISES, SLOW, NAN, LENGTH, RANGE, FORM)
"""How a plugin can fail: an exception, over its budget, and what is wrong with an answer."""

LEFT_OUT: Final[object] = type("LeftOut", (), {"__repr__": lambda self: "<left out>"})()
"""In `Cycle.facts`, of a producer that failed. Who needs it is left out too."""

Tell: TypeAlias = Callable[[str, str, str], None]
"""Hears of a plugin, by its name, that it is `failing` for the first time, `open` (not asked) or `closed` again, and why."""


class Wrong(Exception):
    """An answer that can't be used: which of KINDS it is, and why."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


class Breaker:
    """Whether a plugin is asked: not for a while after it has failed several times in a row. One writer, the event loop."""

    def __init__(self, name: str, clock: Clock, tell: Tell, budget_s: float = BUDGET_S) -> None:
        self.failures = dict.fromkeys(KINDS, 0)
        self.last = ""
        """How it failed last."""
        self.calls = 0
        self.seconds = 0.0
        """Of those calls that answered, in all."""
        self.clock = clock
        self._name = name
        self._tell = tell
        self._budget_s = budget_s
        self._in_a_row: dict[str, int] = {}
        self._until_s: float | None = None
        self._closed_s = clock() - LONGEST_PAUSE_S
        self._pause_s = 0.0

    @property
    def open(self) -> bool:
        """It failed, and has not shown since that it is well."""
        return self._until_s is not None

    def may_ask(self) -> bool:
        """False while it is left out; then one call shows whether it is well."""
        return self._until_s is None or self.clock() >= self._until_s

    def answered(self, call: str, took_s: float) -> None:
        """The call has given an answer that can be used."""
        self.calls += 1
        self.seconds += took_s
        if took_s > self._budget_s:
            why = f"{call} took {took_s * 1e3:.1f} ms, more than {self._budget_s * 1e3:g} ms"
            self._failed(call, SLOW, why, at_once=took_s > FAR_OVER * self._budget_s)
            return
        self._in_a_row[call] = 0
        if self._until_s is not None:
            self._until_s = None
            self._closed_s = self.clock()
            self._tell(self._name, "closed", f"{call} is well")

    def failed(self, call: str, error: Exception) -> None:
        """The call has raised. Of an exception only its type and place are told: its words may be a client's."""
        if isinstance(error, Wrong):
            self._failed(call, error.kind, f"{call}: {error}")
        else:
            self._failed(call, RAISES, f"{call} raises {type(error).__name__}{_place(error)}")

    def _failed(self, call: str, kind: str, why: str, *, at_once: bool = False) -> None:
        if not any(self.failures.values()):
            self._tell(self._name, "failing", why)
        self.failures[kind] += 1
        self.last = why
        number = self._in_a_row[call] = self._in_a_row.get(call, 0) + 1
        if self._until_s is not None or number >= IN_A_ROW or at_once:
            self._open(why)

    def _open(self, why: str) -> None:
        now_s = self.clock()
        calm = self._until_s is None and now_s - self._closed_s >= LONGEST_PAUSE_S
        self._pause_s = FIRST_PAUSE_S if calm else min(2 * self._pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        was_open = self._until_s is not None
        self._until_s = now_s + self._pause_s
        self._in_a_row.clear()
        if not was_open:
            self._tell(self._name, "open", why)


def _place(error: Exception) -> str:
    """Where it was raised: ` at file.py:12`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" at {trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"


# -- what an answer must be ----------------------------------------------------------------------------------------------


def positions_in(answer: Any, size: int) -> list[int]:
    """Positions, each once and in range. Raises Wrong."""
    try:
        found = [int(each) for each in answer]
        whole = all(not isinstance(each, bool) and each == number for each, number in zip(answer, found, strict=True))
    except (TypeError, ValueError, OverflowError):
        raise Wrong(FORM, f"expected positions of endpoints (got {type(answer).__name__})") from None
    if not whole:
        raise Wrong(FORM, "expected positions of endpoints as whole numbers")
    if any(not 0 <= each < size for each in found):
        raise Wrong(RANGE, f"expected positions from 0 to {size - 1}")
    if len(set(found)) < len(found):
        raise Wrong(FORM, "expected each position once")
    return found


def points_of(answer: Any, like: Any) -> Any:
    """A column of points in 0..1, of the kind that `like` is. Raises Wrong."""
    try:
        points = [float(each) for each in answer]
    except (TypeError, ValueError):
        raise Wrong(FORM, f"expected a column of numbers (got {type(answer).__name__})") from None
    if len(points) != len(like):
        raise Wrong(LENGTH, f"expected {len(like)} points, one for each candidate (got {len(points)})")
    if any(each != each for each in points):
        raise Wrong(NAN, "expected numbers, not NaN")
    if not (min(points) >= 0.0 and max(points) <= 1.0):
        raise Wrong(RANGE, "expected points from 0 to 1")
    if isinstance(like, list):
        return points
    import numpy as np

    return np.asarray(points, dtype=np.float64)


def _kept(answer: Any, candidates: Any) -> Sequence[int] | None:
    return None if answer is None else positions_in(answer, len(candidates))


def _picked(answer: Any, candidates: Any) -> Sequence[int]:
    positions = positions_in(answer, len(candidates))
    if not positions:
        raise Wrong(LENGTH, "expected at least one position")
    return positions


def _text(answer: Any) -> str | None:
    if answer is not None and not isinstance(answer, str):
        raise Wrong(FORM, f"expected text or None (got {type(answer).__name__})")
    return answer


def _choice(answer: Any) -> Scheduled:
    if not isinstance(answer, Scheduled) or answer.primary not in answer.runs:
        raise Wrong(FORM, "expected a Scheduled whose primary profile is among its runs")
    return answer


# -- the plugin in its guard ---------------------------------------------------------------------------------------------


class Guarded:
    """An own plugin. Which of the roles' methods it has, the plugin decides: see `guard`."""

    fixed = False
    per_snapshot = False

    def __init__(self, plugin: Any, kit: Kit, breaker: Breaker) -> None:
        self.plugin = plugin
        self.breaker = breaker
        self.by_load = bool(getattr(plugin, "by_load", False))
        self._sources = [source for source in kit.sources if source is not None]

    def __getattr__(self, name: str) -> Any:
        """What other plugins of the same owner ask it."""
        return getattr(self.plugin, name)

    def ask(self, call: str, check: Callable[[Any], Any], otherwise: Callable[[], Any], *given: Any, cycle: Any = None) -> Any:
        """What the plugin answers, or what goes on without it."""
        breaker = self.breaker
        if not breaker.may_ask() or (cycle is not None and self._lacks(cycle)):
            return otherwise()
        began_s = breaker.clock()
        try:
            answer = check(getattr(self.plugin, call)(*given))
        except (NoEndpoints, Saturated) as error:
            if call == "schedule":  # a profile's answer, and not the plugin's failure
                raise
            breaker.failed(call, error)
            return otherwise()
        except Exception as error:
            breaker.failed(call, error)
            return otherwise()
        breaker.answered(call, breaker.clock() - began_s)
        return answer

    def _lacks(self, cycle: Any) -> bool:
        facts = cycle.facts
        return any(facts.get(source) is LEFT_OUT for source in self._sources)

    def dump(self) -> object:
        breaker = self.breaker
        state = self.ask("dump", _anything, lambda: None) if hasattr(self.plugin, "dump") else None
        failures = {kind: number for kind, number in breaker.failures.items() if number}
        return {"left_out": breaker.open, "failures": failures, "last_failure": breaker.last, "state": state}

    def figures(self) -> Iterable[Figure]:
        failures, doc = self.breaker.failures, "Calls of an own plugin that failed, by how."
        for kind, number in failures.items():
            if number:
                yield Figure("extproc_plugin_failures_total", doc, float(number), (("kind", kind),), counts=True)
        yield Figure(
            "extproc_plugin_calls_total", "Calls of an own plugin that answered.", float(self.breaker.calls), counts=True
        )
        yield Figure("extproc_plugin_seconds_total", "What they took in all.", self.breaker.seconds, counts=True)
        yield Figure("extproc_plugin_open", "1 while an own plugin is left out of picks.", float(self.breaker.open))


def _anything(answer: Any) -> Any:
    return answer


def _nothing() -> None:
    return None


class _Keep(Guarded):
    def keep(self, cycle: Any, candidates: Any) -> Any:
        return self.ask("keep", lambda answer: _kept(answer, candidates), _nothing, cycle, candidates, cycle=cycle)


class _Score(Guarded):
    def score(self, cycle: Any, candidates: Any) -> Any:
        like = candidates.in_flight
        zeros = partial(columns.zeros_like, like)
        return self.ask("score", lambda answer: points_of(answer, like), zeros, cycle, candidates, cycle=cycle)


class _Pick(Guarded):
    _default = MaxScorePicker()

    def pick(self, totals: Any, candidates: Any, random: Any) -> Any:
        return self.ask(
            "pick",
            lambda answer: _picked(answer, candidates),
            lambda: self._default.pick(totals, candidates, random),
            totals,
            candidates,
            random,
        )


class _Produce(Guarded):
    def produce(self, cycle: Any, candidates: Any) -> Any:
        fact = self.ask("produce", _anything, lambda: LEFT_OUT, cycle, candidates, cycle=cycle)
        if not isinstance(fact, Awaited):
            return fact
        return Awaited(partial(self._begin, fact), partial(self._fact, fact), fallback=fact.fallback, timeout_s=fact.timeout_s)

    def _begin(self, awaited: Awaited, resolve: Callable[[object], None]) -> Callable[[], None]:
        """Of an outcome that is an exception the breaker hears; the choice goes on with the fallback."""

        def resolved(outcome: object) -> None:
            if isinstance(outcome, Exception):
                self.breaker.failed("begin", outcome)
            resolve(outcome)

        try:
            return awaited.begin(resolved)
        except Exception as error:
            self.breaker.failed("begin", error)
            resolve(awaited.fallback)
            return _nothing

    def _fact(self, awaited: Awaited, outcome: object, candidates: Any) -> Any:
        try:
            return awaited.fact(outcome, candidates)
        except Exception as error:
            self.breaker.failed("fact", error)
            return LEFT_OUT


class _Refuse(Guarded):
    def refuses(self, cycle: Any, candidates: Any) -> Any:
        return self.ask("refuses", _text, _nothing, cycle, candidates, cycle=cycle)


class _Want(Guarded):
    def wants(self, cycle: Any, decode: Any) -> Any:
        return self.ask("wants", bool, lambda: False, cycle, decode, cycle=cycle)


class _Schedule(Guarded):
    _default = SingleProfile()

    def schedule(self, cycle: Any, candidates: Any, profiles: Any) -> Any:
        first = partial(self._default.schedule, cycle, candidates, profiles)
        return self.ask("schedule", _choice, first, cycle, candidates, profiles, cycle=cycle)


class _Dress(Guarded):
    def dress(self, cycle: Any, scheduled: Any) -> Any:
        return self.ask("dress", _choice, lambda: scheduled, cycle, scheduled, cycle=cycle)


class _Picked(Guarded):
    def picked(self, cycle: Any, scheduled: Any) -> None:
        self.ask("picked", _anything, _nothing, cycle, scheduled)


class _Answered(Guarded):
    def answered(self, cycle: Any, status: int) -> None:
        self.ask("answered", _anything, _nothing, cycle, status)


class _Prefilled(Guarded):
    def prefilled(self, cycle: Any) -> None:
        self.ask("prefilled", _anything, _nothing, cycle)


class _Ended(Guarded):
    def ended(self, cycle: Any, status: int, served: str) -> None:
        self.ask("ended", _anything, _nothing, cycle, status, served)


class _Forget(Guarded):
    def forget(self, endpoint: str) -> None:
        self.ask("forget", _anything, _nothing, endpoint)


class _Tell(Guarded):
    def tells(self, cycle: Any) -> Any:
        return self.ask("tells", _anything, _nothing, cycle, cycle=cycle)


_CALLS: Final[dict[str, type[Guarded]]] = {
    "keep": _Keep,
    "score": _Score,
    "pick": _Pick,
    "produce": _Produce,
    "refuses": _Refuse,
    "wants": _Want,
    "schedule": _Schedule,
    "dress": _Dress,
    "picked": _Picked,
    "answered": _Answered,
    "prefilled": _Prefilled,
    "ended": _Ended,
    "forget": _Forget,
    "tells": _Tell,
}
"""By the method that a plugin has, what guards it."""


def guard(plugin: Any, kit: Kit, tell: Tell) -> Guarded:
    """The plugin with a guard before each of its roles."""
    parts = [part for call, part in _CALLS.items() if hasattr(plugin, call)]
    made: type[Guarded] = type("Guarded", tuple(parts) or (Guarded,), {})
    return made(plugin, kit, Breaker(kit.name, kit.clock, tell, float(getattr(plugin, "budget_s", BUDGET_S))))


def guarded(row: PluginType, tell: Tell) -> PluginType:
    """A row whose plugins are guarded."""
    make = row.make
    if make is None:
        return row
    return row._replace(make=lambda parameters, kit: guard(make(parameters, kit), kit, tell))
