"""Who goes by what prompts have in common with caches: `no-hit-lru-scorer` and `prefix-cache-affinity-filter`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from extproc.candidates import Candidates, Column, Pick
from extproc.scheduling import Cycle
from extproc.scheduling.facts import InFlight, Latency, PrefixMatch
from extproc.scheduling.plugins.base import Run, Scheduled
from tests.fakes.candidates import NAN, REQUEST, candidates
from tests.fakes.plugins import blueprint_of, kit, make, problems_of


def matching(given: Candidates, *matched: float, total: int = 10) -> Cycle:
    """A cycle in which so many blocks of the prompt are cached at each."""
    cycle = Cycle(REQUEST)
    cycle.facts["match"] = PrefixMatch(_like(given, matched), total, 16)
    return cycle


def _like(given: Candidates, values: Sequence[float]) -> Column:
    column = given.in_flight
    if isinstance(column, list):
        return list(values)
    array = column * 0
    array[: len(values)] = values
    return array


def picked(given: Candidates, position: int, **more: int) -> Scheduled:
    runs = {name: Run(given, Pick((at,), 0.0)) for name, at in {"default": position, **more}.items()}
    return Scheduled("default", runs)


class TestNoHitLru:
    def test_a_hit_anywhere_makes_all_alike(self) -> None:
        scorer, given = make("no-hit-lru-scorer", {}, kit(sources=["match"])), candidates(3)
        assert scorer.score(matching(given, 0, 1, 0), given) == [0.5, 0.5, 0.5]
        scorer.picked(matching(given, 0, 1, 0), picked(given, 1))
        assert scorer.dump()["endpoints"] == 0, "and counts for nobody"

    @pytest.mark.parametrize("number", [3, 100])
    def test_cold_prompts_go_round(self, number: int) -> None:
        scorer = make("no-hit-lru-scorer", {}, kit(sources=["match"]))
        given = candidates(number, arrays=number >= 64)
        cycle = matching(given, *[0] * number)
        turns = []
        for _ in range(2 * number):
            points = list(scorer.score(cycle, given))
            assert sorted(points) == pytest.approx([rank / (number - 1) for rank in range(number)])
            turns.append(points.index(max(points)))
            scorer.picked(cycle, picked(given, turns[-1]))
        assert turns == [*range(number), *range(number)]

    def test_the_longest_ago_comes_first_behind_those_that_never_had_one(self) -> None:
        scorer, given = make("no-hit-lru-scorer", {}, kit(sources=["match"])), candidates(4)
        cycle = matching(given, 0, 0, 0, 0)
        for position in (2, 0):
            scorer.picked(cycle, picked(given, position))
        assert scorer.score(cycle, given) == pytest.approx([0, 1, 1 / 3, 2 / 3])

    def test_one_alone_has_all_points(self) -> None:
        scorer, given = make("no-hit-lru-scorer", {}, kit(sources=["match"])), candidates(1)
        assert scorer.score(matching(given, 0), given) == [1.0]

    def test_who_prefills_had_its_turn_too(self) -> None:
        scorer, given = make("no-hit-lru-scorer", {}, kit(sources=["match"])), candidates(3)
        scorer.picked(matching(given, 0, 0, 0), picked(given, 1, prefill=0, other=2))
        assert scorer.dump()["longest_ago_first"] == ["10.0.0.2:8000", "10.0.0.1:8000"]

    def test_is_bounded_and_forgets(self) -> None:
        scorer, given = make("no-hit-lru-scorer", {"lruSize": 2}, kit(sources=["match"])), candidates(3)
        cycle = matching(given, 0, 0, 0)
        for position in (0, 1, 2):
            scorer.picked(cycle, picked(given, position))
        assert scorer.dump() == {"cold": 3, "longest_ago_first": ["10.0.0.2:8000", "10.0.0.3:8000"], "endpoints": 2}
        scorer.forget("10.0.0.2:8000")
        assert scorer.score(cycle, given) == [1, 0.5, 0]
        assert [(figure.name, figure.value) for figure in scorer.figures()] == [("extproc_cold_requests_total", 3)]

    def test_a_hit_outside_the_candidates_does_not_count(self) -> None:
        scorer, whole = make("no-hit-lru-scorer", {}, kit(sources=["match"])), candidates(3)
        assert scorer.score(matching(whole, 5, 0, 0), whole.only([1, 2])) == [1, 0]


class TestPrefixAffinity:
    def keep(
        self,
        parameters: dict[str, object],
        given: Candidates,
        cycle: Cycle,
        *,
        draw: float = 0.5,
        second: str = "load",
    ) -> Sequence[int] | None:
        made = make("prefix-cache-affinity-filter", parameters, kit(random=lambda: draw, sources=["match", second]))
        kept: Sequence[int] | None = made.keep(cycle, given)
        return kept

    def cycle(self, given: Candidates, matched: Sequence[float], tokens: Sequence[float] = (), total: int = 10) -> Cycle:
        cycle = matching(given, *matched, total=total)
        none = _like(given, [0] * len(given))
        cycle.facts["load"] = InFlight(none, _like(given, tokens or [0] * len(given)), none)
        return cycle

    @pytest.mark.parametrize(
        ("matched", "kept"),
        [([8, 7, 10], [0, 2]), ([7, 7, 7], None), ([9, 9, 9], None), ([0, 0, 0], None), ([0, 0, 8], [2])],
    )
    def test_those_with_enough_of_the_prompt(self, matched: list[float], kept: list[int] | None) -> None:
        given = candidates(3)
        assert self.keep({}, given, self.cycle(given, matched)) == kept

    def test_of_arrays(self) -> None:
        given = candidates(100, arrays=True)
        assert self.keep({}, given, self.cycle(given, [8, 7, 10])) == [0, 2]

    def test_a_prompt_that_could_not_be_read_keeps_all(self) -> None:
        given = candidates(2)
        assert self.keep({}, given, self.cycle(given, [0, 0], total=0)) is None

    @pytest.mark.parametrize(("draw", "kept"), [(0.09, None), (0.1, [0])])
    def test_exploring(self, draw: float, kept: list[int] | None) -> None:
        given = candidates(2)
        parameters: dict[str, object] = {"explorationProbability": 0.1}
        assert self.keep(parameters, given, self.cycle(given, [9, 0]), draw=draw) == kept

    @pytest.mark.parametrize(
        ("parameters", "tokens", "kept"),
        [
            ({"peakPrefillThroughput": 1000}, [19_000, 30_000, 1_001], [0, 1]),
            ({"peakPrefillThroughput": 1000}, [19_000, 30_000, 999], None),
            ({"peakPrefillThroughput": 1000, "maxTTFTPenaltyMs": 100}, [200, 101, 0], None),
            ({"peakPrefillThroughput": 1000, "maxTTFTPenaltyMs": 100}, [200, 99, 0], [0, 1]),
            ({"peakPrefillThroughput": 1000, "maxTTFTPenaltyMs": 0}, [10**9, 10**9, 0], [0, 1]),
        ],
    )
    def test_not_when_the_first_token_comes_too_late(
        self, parameters: dict[str, object], tokens: list[float], kept: list[int] | None
    ) -> None:
        given = candidates(3)
        assert self.keep(parameters, given, self.cycle(given, [9, 9, 0], tokens)) == kept

    @pytest.mark.parametrize(
        ("ttft", "kept"),
        [
            ([20_000, NAN, 1_999], None),
            ([20_000, NAN, 2_000], [0, 1]),
            ([NAN, NAN, 5], None),
            ([5, NAN, NAN], [0, 1]),
            ([NAN, NAN, NAN], [0, 1]),
        ],
    )
    def test_as_predicted(self, ttft: list[float], kept: list[int] | None) -> None:
        given = candidates(3)
        cycle = matching(given, 9, 9, 0)
        cycle.facts["latency"] = Latency(ttft, ttft, ttft, ttft, any(each == each for each in ttft))
        assert self.keep({"ttftSource": "latencyPredictor"}, given, cycle, second="latency") == kept

    def test_needs_only_what_it_reads(self) -> None:
        told = "{type: told-prompt}, {type: told-match}"
        text = f"plugins: [{{type: prefix-cache-affinity-filter, parameters: {{maxTTFTPenaltyMs: 0}}}}, {told}]"
        assert blueprint_of(text).producers == ("told-match",)
        text = f"plugins: [{{type: prefix-cache-affinity-filter}}, {told}]"
        assert blueprint_of(text).producers == ("told-match", "told-prompt", "inflight-load-producer")

    @pytest.mark.parametrize(
        "parameters",
        ["{affinityThreshold: 1.1}", "{peakPrefillThroughput: 0}", "{maxTTFTPenaltyMs: -1}", "{ttftSource: x}"],
    )
    def test_parameters_out_of_range(self, parameters: str) -> None:
        text = f"plugins: [{{type: prefix-cache-affinity-filter, parameters: {parameters}}}]"
        assert problems_of(text)[0].startswith(f"plugins[0].parameters.{parameters[1:].split(':')[0]}: ")
