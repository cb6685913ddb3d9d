"""Own plugins that fail: the pick goes on as if they were not there, they are counted, and after a few times not asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.candidates import Candidates, Column
from extproc.errors import NoEndpoints
from extproc.scheduling import Cycle, Scheduled, Scheduler, build_scheduler
from extproc.scheduling.cycle import Awaited
from extproc.scheduling.guard import (
    FAR_OVER,
    FIRST_PAUSE_S,
    LEFT_OUT,
    LONGEST_PAUSE_S,
    Wrong,
    guard,
    guarded,
    points_of,
    positions_in,
)
from extproc.scheduling.plugins.base import (
    ADMITTER,
    FILTER,
    HANDLER,
    PICKER,
    PRODUCER,
    SCORER,
    SCREENER,
    Need,
    PluginType,
    Profiles,
)
from extproc.scheduling.plugins.parameters import NoParameters
from extproc.settings.picker import load_picker_config
from extproc.testing import FakeClock, candidates, cycle, kit, seeded

BUDGET_S = 0.01


class Own:
    """Does as the test says, by role."""

    budget_s = BUDGET_S

    def __init__(self, clock: FakeClock) -> None:
        self.does: Callable[..., Any] = lambda *given: None
        self.takes_s = 0.0
        self.asked = 0
        self.clock = clock

    def _do(self, *given: Any) -> Any:
        self.asked += 1
        self.clock.advance(self.takes_s)
        return self.does(*given)


class OwnScorer(Own):
    def score(self, cycle: Cycle, candidates: Candidates) -> Any:
        return self._do(cycle, candidates)


class OwnFilter(Own):
    def keep(self, cycle: Cycle, candidates: Candidates) -> Any:
        return self._do(cycle, candidates)


class OwnPicker(Own):
    def pick(self, totals: Column, candidates: Candidates, random: Any) -> Any:
        return self._do(totals)


class OwnProducer(Own):
    def produce(self, cycle: Cycle, candidates: Candidates) -> Any:
        return self._do(cycle)


class OwnAdmitter(Own):
    def refuses(self, cycle: Cycle, candidates: Candidates) -> Any:
        return self._do(cycle)


class OwnHandler(Own):
    def schedule(self, cycle: Cycle, candidates: Candidates, profiles: Profiles) -> Any:
        return self._do(cycle, candidates, profiles)

    def ended(self, cycle: Cycle, status: int, served: str) -> None:
        self._do()

    def dump(self) -> object:
        return self._do()


FAMILIES: dict[str, tuple[str, type[Own]]] = {
    "scorer": (SCORER, OwnScorer),
    "filter": (FILTER, OwnFilter),
    "screener": (SCREENER, OwnFilter),
    "picker": (PICKER, OwnPicker),
    "producer": (PRODUCER, OwnProducer),
    "admitter": (ADMITTER, OwnAdmitter),
    "handler": (HANDLER, OwnHandler),
}


class Made:
    """A scheduler with own plugins, and what was told of them."""

    def __init__(self, config: str) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.clock = FakeClock()
        self.own: dict[str, Own] = {}
        rows = {kind: guarded(self._row(kind), self._tell) for kind in FAMILIES}
        needing = self._row("scorer")._replace(name="needing", needs=lambda parameters: (Need("fact"),))
        rows["needing"] = guarded(needing, self._tell)
        parsed, _ = load_picker_config(config)
        self.scheduler: Scheduler = build_scheduler(parsed, elsewhere=rows).scheduler(seeded(), self.clock)

    def _row(self, kind: str) -> PluginType:
        family, plugin = FAMILIES[kind]

        def make(parameters: NoParameters, kit: Any) -> Own:
            made = self.own[kit.name] = plugin(self.clock)
            return made

        return PluginType(kind, family, "", NoParameters, make, provides="fact" if family == PRODUCER else "")

    def _tell(self, name: str, state: str, why: str) -> None:
        self.told.append((name, state, why))

    def pick(self, given: Candidates | None = None) -> Scheduled:
        return self.scheduler.schedule(cycle(), given or candidates(waiting=[5, 0, 9]))

    @property
    def figures(self) -> dict[str, float]:
        return {
            figure.name + "".join(value for _, value in figure.labels): figure.value for _, figure in self.scheduler.figures()
        }

    @property
    def states(self) -> list[str]:
        return [state for _, state, _ in self.told]


def fail(*given: Any) -> None:
    raise RuntimeError("a prompt of a client")


BY_QUEUE = "10.0.0.2:8000"
"""Whom the queue alone would choose."""


class TestFailures:
    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (fail, "raises"),
            (lambda *given: [1.0, float("nan"), 0.0], "nan"),
            (lambda *given: [1.0], "length"),
            (lambda *given: [1.0, 0.0, 7.0], "range"),
            (lambda *given: [1.0, 0.0, float("-inf")], "range"),
            (lambda *given: ["a", "b", "c"], "form"),
            (lambda *given: None, "form"),
            (lambda *given: 0.5, "form"),
        ],
    )
    def test_a_scorer_without_points_gives_nobody_any(self, answer: Callable[..., Any], kind: str) -> None:
        made = Made("plugins: [{type: queue-scorer}, {type: scorer}]")
        made.own["scorer"].does = answer
        assert made.pick().run.endpoint == BY_QUEUE
        assert made.figures == {
            "extproc_plugin_failures_total" + kind: 1.0,
            "extproc_plugin_calls_total": 0.0,
            "extproc_plugin_seconds_total": 0.0,
            "extproc_plugin_open": 0.0,
        }

    @pytest.mark.parametrize("answer", [fail, lambda *given: [0, 9], lambda *given: [0, 0], lambda *given: ["a"], lambda *g: 3])
    @pytest.mark.parametrize("kind", ["filter", "screener"])
    def test_a_filter_keeps_all(self, answer: Callable[..., Any], kind: str) -> None:
        made = Made(f"plugins: [{{type: queue-scorer}}, {{type: {kind}}}]")
        made.own[kind].does = answer
        scheduled = made.pick()
        assert (scheduled.run.endpoint, len(scheduled.run.candidates)) == (BY_QUEUE, 3)

    def test_a_filter_that_leaves_nobody_is_heard(self) -> None:
        made = Made("plugins: [{type: filter}]")
        made.own["filter"].does = lambda *given: []
        with pytest.raises(NoEndpoints):
            made.pick()
        assert made.told == []

    @pytest.mark.parametrize(
        "answer", [fail, lambda totals: [], lambda totals: [3], lambda totals: [-1], lambda totals: [True]]
    )
    def test_a_picker_is_the_default_one(self, answer: Callable[..., Any]) -> None:
        made = Made("plugins: [{type: queue-scorer}, {type: picker}]")
        made.own["picker"].does = answer
        assert made.pick().run.endpoint == BY_QUEUE
        assert made.states == ["failing"]

    def test_a_producer_takes_those_who_need_it_along_and_nobody_else(self) -> None:
        made = Made("plugins: [{type: queue-scorer}, {type: needing}, {type: producer}]")
        made.own["producer"].does = fail
        assert made.pick().run.endpoint == BY_QUEUE
        assert (made.own["producer"].asked, made.own["needing"].asked) == (1, 0)
        assert [name for name, _, _ in made.told] == ["producer"], "whose fault it is"
        made.own["producer"].does = lambda *given: 7
        made.own["needing"].does = lambda cycle, candidates: [0.0, 0.0, cycle.facts["producer"] / 7]
        assert made.pick(candidates(waiting=[0, 0, 0])).run.endpoint == "10.0.0.3:8000"

    @pytest.mark.parametrize("answer", [fail, lambda *given: 5])
    def test_an_admitter_admits(self, answer: Callable[..., Any]) -> None:
        made = Made("plugins: [{type: queue-scorer}, {type: admitter}]")
        made.own["admitter"].does = answer
        assert made.pick().run.endpoint == BY_QUEUE

    def test_a_handler_runs_the_first_profile(self) -> None:
        made = Made(
            "plugins: [{type: queue-scorer}, {type: handler}]\n"
            "schedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer}]}, {name: b}]"
        )
        made.own["handler"].does = lambda *given: "b"
        scheduled = made.pick()
        assert (scheduled.primary, scheduled.run.endpoint) == ("a", BY_QUEUE)
        made.own["handler"].does = lambda cycle, candidates, profiles: Scheduled(
            "b", {"b": profiles.run("b", cycle, candidates)}
        )
        assert made.pick().primary == "b"

    def test_that_nobody_is_left_in_a_profile_is_no_failure_of_its_handler(self) -> None:
        made = Made("plugins: [{type: filter}, {type: handler}]")
        made.own["filter"].does = lambda *given: []
        made.own["handler"].does = lambda cycle, candidates, profiles: profiles.run("default", cycle, candidates)
        with pytest.raises(NoEndpoints):
            made.pick()
        assert made.told == []

    def test_hooks_fail_alone(self) -> None:
        made = Made("plugins: [{type: queue-scorer}, {type: handler}]")
        made.own["handler"].does = lambda cycle, all, profiles: Scheduled(
            "default", {"default": profiles.run("default", cycle, all)}
        )
        given = cycle()
        scheduled = made.scheduler.schedule(given, candidates(waiting=[5, 0, 9]))
        made.own["handler"].does = fail
        made.scheduler.picked(given, scheduled)
        made.scheduler.answered(given, 200)
        made.scheduler.ended(given, 200, BY_QUEUE)
        (_, state, why) = made.told[0]
        assert (state, why.split(" at ")[0]) == ("failing", "ended raises RuntimeError")
        dumped = made.scheduler.dump()["handler"]
        assert dumped["state"] is None
        assert dumped["failures"] == {"raises": 2}, "its dump failed too"

    def test_words_of_an_exception_are_told_nobody(self) -> None:
        made = Made("plugins: [{type: queue-scorer}, {type: scorer}]")
        made.own["scorer"].does = fail
        made.pick()
        ((_, _, why),) = made.told
        assert why.startswith("score raises RuntimeError at test_guard.py:")
        assert "prompt" not in why + str(made.scheduler.dump())


class TestBreaker:
    CONFIG = "plugins: [{type: queue-scorer}, {type: scorer}]"

    def test_is_not_asked_for_a_while_that_doubles(self) -> None:
        made = Made(self.CONFIG)
        own = made.own["scorer"]
        own.does = fail
        for _ in range(5):
            assert made.pick().run.endpoint == BY_QUEUE
        assert own.asked == 3
        assert made.states == ["failing", "open"]
        assert made.figures["extproc_plugin_open"] == 1.0
        made.clock.advance(FIRST_PAUSE_S)
        made.pick()
        made.pick()
        assert own.asked == 4, "one call shows that it is as before"
        made.clock.advance(FIRST_PAUSE_S)
        made.pick()
        assert own.asked == 4, "the pause is twice as long"
        made.clock.advance(FIRST_PAUSE_S)
        own.does = lambda *given: [1.0, 0.0, 0.0]
        made.pick()
        own.takes_s = BUDGET_S / 4
        made.pick()
        assert own.asked == 6
        assert made.figures["extproc_plugin_calls_total"] == 2
        assert made.figures["extproc_plugin_seconds_total"] == pytest.approx(BUDGET_S / 4)
        assert made.states == ["failing", "open", "closed"], "one line for each change"
        assert made.figures["extproc_plugin_open"] == 0.0

    def test_pauses_have_an_end(self) -> None:
        made = Made(self.CONFIG)
        own = made.own["scorer"]
        own.does = fail
        for _ in range(20):
            made.pick()
            made.clock.advance(LONGEST_PAUSE_S)
        assert own.asked == 20

    def test_answers_that_take_too_long_count_until_they_are_too_many(self) -> None:
        made = Made(self.CONFIG)
        own = made.own["scorer"]
        own.takes_s, own.does = 2 * BUDGET_S, lambda *given: [1.0, 0.0, 0.0]
        for _ in range(3):
            made.pick(candidates(waiting=[0, 0, 0]))
        assert made.states == ["failing", "open"]
        assert made.told[0][2] == "score took 20.0 ms, more than 10 ms"
        made.pick()
        assert own.asked == 3

    def test_once_is_enough_for_one_that_sleeps(self) -> None:
        made = Made(self.CONFIG)
        own = made.own["scorer"]
        own.takes_s, own.does = 2 * FAR_OVER * BUDGET_S, lambda *given: [1.0, 0.0, 0.0]
        made.pick()
        made.pick()
        assert (own.asked, made.states) == (1, ["failing", "open"])

    def test_failures_now_and_then_open_nothing(self) -> None:
        made = Made(self.CONFIG)
        own = made.own["scorer"]
        for number in range(20):
            own.does = fail if number % 3 else lambda *given: [1.0, 0.0, 0.0]
            made.pick()
        assert made.states == ["failing"]
        assert own.asked == 20


class TestAnswers:
    def test_points_are_of_the_kind_that_the_pool_has(self) -> None:
        assert points_of(np.array([1, 0]), [0.0, 0.0]) == [1.0, 0.0]
        made = points_of([1, 0], np.zeros(2))
        assert isinstance(made, np.ndarray)
        assert made.dtype == np.float64

    def test_positions_may_be_any_numbers_that_are_whole(self) -> None:
        assert positions_in(np.array([2, 0]), 3) == [2, 0]
        assert positions_in(range(2), 3) == [0, 1]

    @given(st.lists(st.integers() | st.floats() | st.none() | st.text(max_size=2) | st.booleans(), max_size=5))
    def test_what_passes_is_right(self, answer: Sequence[Any]) -> None:
        try:
            points = points_of(answer, [0.0] * 3)
        except Wrong:
            points = [0.0] * 3
        assert len(points) == 3
        assert all(0.0 <= point <= 1.0 for point in points)
        try:
            positions = positions_in(answer, 3)
        except Wrong:
            positions = []
        assert set(positions) <= {0, 1, 2}
        assert len(set(positions)) == len(positions)


def test_what_a_plugin_has_no_method_for_it_is_not() -> None:
    made = guard(OwnScorer(FakeClock()), kit(), lambda *told: None)
    assert [hasattr(made, call) for call in ("score", "keep", "picked", "dump", "figures")] == [True, False, False, True, True]
    assert made.asked == 0, "other plugins of the owner see its own"
    assert repr(LEFT_OUT) == "<left out>"


class TestAnswersThatAreAwaited:
    """An own producer that asks somebody: its failures are the breaker's, and the choice goes on."""

    class Asks:
        budget_s = BUDGET_S

        def __init__(self, *, begins: bool = True, makes: bool = True) -> None:
            self.begins = begins
            self.makes = makes

        def produce(self, cycle: Cycle, candidates: Candidates) -> object:
            return Awaited(self._begin, self._fact, fallback="nothing", timeout_s=3.0)

        def _begin(self, resolve: Callable[[object], None]) -> Callable[[], None]:
            if not self.begins:
                raise OSError("nobody is there")
            resolve(OSError("nobody answers"))
            return lambda: None

        def _fact(self, outcome: object, candidates: Candidates) -> object:
            if not self.makes:
                raise KeyError("word")
            return f"fact of {outcome}"

    def awaited(self, **does: bool) -> tuple[Any, Awaited]:
        own = guard(self.Asks(**does), kit("own", clock=FakeClock()), lambda *told: None)
        answer = own.produce(cycle(), candidates(1))
        assert isinstance(answer, Awaited)
        assert (answer.fallback, answer.timeout_s) == ("nothing", 3.0)
        return own, answer

    def test_an_outcome_that_is_an_exception_is_counted_and_handed_on(self) -> None:
        own, answer = self.awaited()
        outcomes: list[object] = []
        answer.begin(outcomes.append)
        assert isinstance(outcomes[0], OSError)
        assert own.breaker.failures["raises"] == 1
        assert answer.fact("it", candidates(1)) == "fact of it"

    def test_who_can_not_begin_is_done_without(self) -> None:
        own, answer = self.awaited(begins=False)
        outcomes: list[object] = []
        answer.begin(outcomes.append)()
        assert outcomes == ["nothing"]
        assert own.breaker.failures["raises"] == 1
        assert "begin raises OSError at test_guard.py:" in own.breaker.last
        assert "nobody is there" not in own.breaker.last

    def test_who_makes_nothing_of_it_is_left_out(self) -> None:
        own, answer = self.awaited(makes=False)
        assert answer.fact("it", candidates(1)) is LEFT_OUT
        assert own.breaker.failures["raises"] == 1
