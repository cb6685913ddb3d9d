"""Roles, needs and references: what a config's plugins ask of each other is there, in order, or is told with its path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from extproc.candidates import Candidates, Column
from extproc.errors import NoEndpoints, Saturated
from extproc.scheduling import Blueprint, Cycle, Scheduled, build_scheduler
from extproc.scheduling.plugins.base import (
    ADMITTER,
    DECIDER,
    FILTER,
    HANDLER,
    PRODUCER,
    SCORER,
    SCREENER,
    Kit,
    Need,
    PluginType,
    Profiles,
    Reference,
)
from extproc.scheduling.plugins.parameters import NoParameters, Parameters
from extproc.settings.base import SettingsError
from extproc.settings.picker import load_picker_config
from tests.fakes.candidates import REQUEST, candidates, choose, explained
from tests.fakes.chance import seeded
from tests.fakes.clock import FakeClock


class SourceParameters(Parameters):
    """Names where something comes from."""

    source: str | None = None


class Length:
    """Produces the pool's size, and counts how often it did."""

    def __init__(self, kit: Kit) -> None:
        self.asked = 0
        self._kit = kit

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        self.asked += 1
        below = [cycle.facts[source] for source in self._kit.sources if source is not None]
        return len(candidates) + sum(each for each in below if isinstance(each, int))

    def dump(self) -> object:
        return {"asked": self.asked}


class ByFact:
    """A scorer: what a producer said, as the points of the last candidate."""

    per_snapshot = False

    def __init__(self, kit: Kit) -> None:
        (self._source,) = kit.sources

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        told = 0 if self._source is None else cycle.facts[self._source]
        assert isinstance(told, int)
        return [0.0] * (len(candidates) - 1) + [told / 10]


class Without:
    """A filter and screener: leaves out the first so many."""

    fixed = True
    by_load = False

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked = 0

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        self.asked += 1
        return range(self.number, len(candidates)) if self.number else None


class Busy(Without):
    by_load = True
    fixed = False


class Refusing:
    def refuses(self, cycle: Cycle, candidates: Candidates) -> str | None:
        return "tomorrow" if cycle.priority < 0 else None


class Yes:
    def wants(self, cycle: Cycle, decode: object) -> bool:
        return True


class Both:
    """A handler: runs every profile, the last one serves."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.heard: list[str] = []

    def schedule(self, cycle: Cycle, candidates: Candidates, profiles: Profiles) -> Scheduled:
        runs = {name: profiles.run(name, cycle, candidates) for name in profiles.names}
        return Scheduled(profiles.names[-1], runs, (("x-other", runs[profiles.names[0]].endpoint),))

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        self.heard.append(f"picked {scheduled.run.endpoint} {cycle.asked.model}")

    def answered(self, cycle: Cycle, status: int) -> None:
        self.heard.append(f"answered {status}")

    def ended(self, cycle: Cycle, status: int, served: str) -> None:
        self.heard.append(f"ended {status} {served}")

    def dump(self) -> object:
        return self.heard


def _needs(kind: str, *, optional: bool = False) -> Any:
    return lambda parameters: (Need(kind, parameters.source, "source", optional),)


ROWS = (
    PluginType("length", PRODUCER, "", NoParameters, lambda parameters, kit: Length(kit), provides="length"),
    PluginType(
        "sum", PRODUCER, "", SourceParameters, lambda parameters, kit: Length(kit), needs=_needs("length"), provides="sum"
    ),
    PluginType("by-length", SCORER, "", SourceParameters, lambda parameters, kit: ByFact(kit), needs=_needs("length")),
    PluginType("by-sum", SCORER, "", SourceParameters, lambda parameters, kit: ByFact(kit), needs=_needs("sum")),
    PluginType(
        "perhaps", SCORER, "", SourceParameters, lambda parameters, kit: ByFact(kit), needs=_needs("sum", optional=True)
    ),
    PluginType("circle", PRODUCER, "", NoParameters, None, needs=lambda p: (Need("b"),), provides="a"),
    PluginType("back", PRODUCER, "", NoParameters, None, needs=lambda p: (Need("a"),), provides="b"),
    PluginType("round", SCORER, "", NoParameters, None, needs=lambda p: (Need("a"),)),
    PluginType("first-out", FILTER, "", NoParameters, lambda parameters, kit: Without(1)),
    PluginType("all-out", FILTER, "", NoParameters, lambda parameters, kit: Without(99)),
    PluginType("all-busy", FILTER, "", NoParameters, lambda parameters, kit: Busy(99)),
    PluginType("screen", SCREENER, "", NoParameters, lambda parameters, kit: Without(1)),
    PluginType("refusing", ADMITTER, "", NoParameters, lambda parameters, kit: Refusing()),
    PluginType("always", DECIDER, "", NoParameters, lambda parameters, kit: Yes()),
    PluginType(
        "both",
        HANDLER,
        "",
        SourceParameters,
        lambda parameters, kit: Both(kit),
        refers=lambda p: () if p.source is None else (Reference(p.source, DECIDER, "source"),),
        older=("pair",),
        note=lambda p: "only for tests",
    ),
)
ELSEWHERE = {row.name: row for row in ROWS}


def build(text: str, **options: Any) -> Blueprint:
    return build_scheduler(load_picker_config(text)[0], elsewhere=ELSEWHERE, **options)


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        build(text)
    return caught.value.problems


class TestProducers:
    def test_are_asked_in_the_order_of_their_needs_whatever_the_order_of_the_file(self) -> None:
        blueprint = build("plugins: [{type: by-sum}, {type: sum}, {type: length}]")
        assert blueprint.producers == ("length", "sum")
        assert explained(blueprint.scheduler(seeded()), candidates(3)).candidates[0].points == {"by-sum": 0.6}

    def test_whom_nobody_needs_is_not_made(self) -> None:
        assert build("plugins: [{type: queue-scorer}, {type: length}]").producers == ()

    def test_are_asked_once_for_all_who_need_them(self) -> None:
        scheduler = build("plugins: [{type: by-length}, {name: again, type: by-length}, {type: length}]").scheduler(seeded())
        choose(scheduler, candidates(3))
        assert scheduler.dump() == {"length": {"asked": 1}}

    def test_by_name(self) -> None:
        blueprint = build("plugins: [{type: by-length, parameters: {source: b}}, {type: length}, {name: b, type: length}]")
        assert blueprint.producers == ("b",)

    def test_see_the_whole_pool_whatever_the_proxy_allows(self) -> None:
        scheduler = build("plugins: [{type: by-length}, {type: length}]").scheduler(seeded())
        assert explained(scheduler, candidates(5).only([1, 3])).candidates[0].points == {"by-length": 0.5}

    def test_an_optional_one_that_is_not_listed_is_not_there(self) -> None:
        blueprint = build("plugins: [{type: perhaps}]")
        assert blueprint.producers == ()
        assert choose(blueprint.scheduler(seeded()), candidates(2)).positions

    @pytest.mark.parametrize(
        ("config", "problem"),
        [
            ("[{type: by-length}]", "plugins[0].parameters.source: by-length needs length, and no plugin that is listed"),
            ("[{type: by-length, parameters: {source: x}}]", "plugins[0].parameters.source: no plugin is called 'x'"),
            (
                "[{type: by-length, parameters: {source: sum}}, {type: sum}, {type: length}]",
                "plugins[0].parameters.source: 'sum' does not produce length, which by-length needs",
            ),
            ("[{type: round}, {type: circle}, {type: back}]", "plugins[1]: plugins need each other in a circle: circle → back"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_path(self, config: str, problem: str) -> None:
        (told,) = problems(f"plugins: {config}")
        assert told.startswith(problem)


class TestFilters:
    PROFILE = "schedulingProfiles: [{name: p, plugins: [%s]}]"

    def test_leave_out_in_the_order_of_the_profile_and_are_explained(self) -> None:
        scheduler = build(
            "plugins: [{type: first-out}, {name: second, type: first-out}, {type: by-length}, {type: length}]\n"
            + self.PROFILE % "{pluginRef: first-out}, {pluginRef: second}, {pluginRef: by-length}"
        ).scheduler(seeded())
        told = explained(scheduler, candidates(4))
        assert told.filters == {"first-out": 3, "second": 2}
        assert {row.endpoint.address for row in told.candidates} == {"10.0.0.3", "10.0.0.4"}
        given = candidates(4)
        run = scheduler.schedule(Cycle(REQUEST), given).run
        assert run.endpoint == "10.0.0.4:8000"
        assert (run.candidates.whole, list(run.candidates.places)) == (given, [2, 3])

    def test_live_columns_stay_live_behind_a_fixed_filter(self) -> None:
        """What it leaves is kept until the endpoints change; what is in flight there is not."""
        scheduler = build("plugins: [{type: first-out}, {type: active-request-scorer}]").scheduler(seeded())
        given = candidates(in_flight=[0, 5, 0])
        assert scheduler.schedule(Cycle(REQUEST), given).run.endpoint == "10.0.0.3:8000"
        given.in_flight[2] = 9
        assert scheduler.schedule(Cycle(REQUEST), given).run.endpoint == "10.0.0.2:8000"

    def test_whoever_is_tried_stays_so(self) -> None:
        scheduler = build("plugins: [{type: first-out}, {type: queue-scorer}]").scheduler(seeded())
        tried = candidates(waiting=[0, 0, float("nan")], trial=2)
        assert scheduler.schedule(Cycle(REQUEST), tried).run.endpoint in {"10.0.0.2:8000", "10.0.0.3:8000"}
        assert scheduler.schedule(Cycle(REQUEST), tried).run.candidates.trial == 1

    @pytest.mark.parametrize(("kind", "error", "status"), [("all-out", NoEndpoints, 503), ("all-busy", Saturated, 429)])
    def test_nobody_is_left(self, kind: str, error: type[NoEndpoints | Saturated], status: int) -> None:
        scheduler = build(f"plugins: [{{type: {kind}}}]").scheduler(seeded())
        with pytest.raises(error, match=f"profile 'default': {kind} leaves no endpoint") as caught:
            choose(scheduler, candidates(2))
        assert caught.value.status == status
        (told,) = scheduler.explain(Cycle(REQUEST), candidates(2))
        assert (told.candidates, told.filters) == ([], {kind: 0})


def test_screeners_and_admitters_count_by_being_listed() -> None:
    scheduler = build("plugins: [{type: screen}, {type: refusing}, {type: queue-scorer}]").scheduler(seeded())
    assert scheduler.schedule(Cycle(REQUEST), candidates(2)).run.endpoint == "10.0.0.2:8000"
    with pytest.raises(NoEndpoints, match="screen leaves no endpoint"):
        choose(scheduler, candidates(1))
    with pytest.raises(Saturated, match="request cannot be admitted: refusing: tomorrow"):
        scheduler.schedule(Cycle(REQUEST, priority=-1), candidates(2))


class TestHandlers:
    CONFIG = """
    plugins: [{type: %s, parameters: {source: %s}}, {type: always}, {type: first-out}, {type: queue-scorer}]
    schedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer}]}, {name: b, plugins: [{pluginRef: first-out}]}]
    """

    def test_run_profiles_and_hear_what_becomes_of_it(self) -> None:
        blueprint = build(self.CONFIG % ("pair", "always"))
        assert blueprint.warnings == (
            "plugins[0].type: pair is an older name, use both",
            "plugins[0]: pair: only for tests",
        )
        scheduler = blueprint.pool(seeded(), FakeClock()).scheduler
        cycle = Cycle(REQUEST)
        scheduled = scheduler.schedule(cycle, candidates(waiting=[0, 9]))
        assert {name: run.endpoint for name, run in scheduled.runs.items()} == {"a": "10.0.0.1:8000", "b": "10.0.0.2:8000"}
        assert scheduled.set_headers == (("x-other", "10.0.0.1:8000"),)
        assert [table.profile for table in scheduler.explain(cycle, candidates(2))] == ["a", "b"]
        assert scheduler.listens
        scheduler.picked(cycle, scheduled)
        assert (cycle.request, cycle.facts) == (None, {})
        scheduler.answered(cycle, 200)
        scheduler.ended(cycle, 200, "10.0.0.2:8000")
        assert scheduler.dump() == {"pair": ["picked 10.0.0.2:8000 m", "answered 200", "ended 200 10.0.0.2:8000"]}

    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            ("nobody", "plugins[0].parameters.source: no plugin is called 'nobody'"),
            ("first-out", "plugins[0].parameters.source: 'first-out' is a filter, expected a decider"),
        ],
    )
    def test_a_wrong_reference_is_told_with_its_path(self, source: str, problem: str) -> None:
        (told,) = problems(self.CONFIG % ("both", source))
        assert told.startswith(problem)

    def test_a_profile_may_be_named_once(self) -> None:
        told = problems("plugins: [{type: both}]\nschedulingProfiles: [{name: a}, {name: a}]")
        assert told == ["schedulingProfiles[1].name: 'a' is used twice"]


class TestMissing:
    CONFIG = """
    plugins: [{type: gone-scorer}, {type: queue-scorer}]
    schedulingProfiles: [{name: p, plugins: [{pluginRef: gone-scorer}, {pluginRef: queue-scorer, weight: 2}]}]
    """

    @pytest.fixture(autouse=True)
    def _gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("extproc.scheduling.build.why_missing", {"gone-scorer": "it needs a cluster of stars"}.get)

    def test_is_refused_with_its_reason_and_how_to_go_on(self) -> None:
        assert problems(self.CONFIG) == [
            "plugins[0].type: gone-scorer is not available: it needs a cluster of stars; --allow-missing-plugins leaves it out"
        ]

    def test_is_left_out_when_allowed(self) -> None:
        blueprint = build(self.CONFIG, allow_missing=True)
        assert blueprint.profile.scorers == (("queue-scorer", 2.0),)
        assert blueprint.warnings == (
            "plugins[0].type: gone-scorer is not available, and left out: it needs a cluster of stars",
        )
