"""Own plugins as people write them: classes to rows, parameters as dataclasses and models, and the per-endpoint forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from extproc import plugin as public
from extproc.candidates import Candidates, Column
from extproc.domain import Load
from extproc.plugin import (
    Cycle,
    EndpointFilter,
    EndpointScorer,
    EndpointState,
    Plugin,
    Producer,
    Request,
    Scorer,
    row_of,
)
from extproc.testing import candidates, cycle, each, kit, make, request


@dataclass(frozen=True)
class Most:
    """So many."""

    most_waiting: int
    names: list[str] = field(default_factory=list, metadata={"description": "Whom."})
    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.most_waiting < 1:
            raise ValueError("most_waiting must be at least 1")


class ShortQueue(EndpointScorer):
    """Endpoints with a short queue.

    And more words.
    """

    parameters: Most

    def score(self, request: Request, endpoint: EndpointState) -> float:
        waiting = endpoint.waiting
        return 0.0 if waiting is None else max(0.0, 1 - waiting / self.parameters.most_waiting)


class OnlyMine(EndpointFilter):
    """By a header."""

    by_load: ClassVar[bool] = True

    def keep(self, request: Request, endpoint: EndpointState) -> bool:
        return endpoint.labels.get("team") == request.header("x-team")

    def picked(self, cycle: Cycle, scheduled: object) -> None:
        cycle.kept[self.kit.name] = True


class Halved(BaseModel):
    by: int = 2


class Half(Scorer):
    parameters: Halved
    needs = ("half of something",)

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        return [self.fact(cycle, "half of something") / self.parameters.by] * len(candidates)


class Something(Producer):
    provides = "half of something"

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        return 1.0


class TestRows:
    def test_of_a_class(self) -> None:
        row = row_of(ShortQueue)
        assert (row.name, row.family, row.what) == ("short-queue", "scorer", "Endpoints with a short queue.")
        assert row_of(ShortQueue, "other").name == "other"
        fields = {info.alias: info.description for info in row.parameters.model_fields.values()}
        assert fields == {"mostWaiting": None, "names": "Whom.", "factor": None}

    def test_needs_and_provides(self) -> None:
        assert [need.kind for need in row_of(Half).needs(Halved())] == ["half of something"]
        assert row_of(Something).provides == "half of something"

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            (type("NoRole", (Plugin,), {}), "expected a subclass of Scorer"),
            (type("NoKind", (Producer,), {}), "provides: expected the kind"),
            (type("Odd", (Scorer,), {"__annotations__": {"parameters": int}}), "expected a dataclass or a pydantic model"),
        ],
    )
    def test_of_what_can_be_none(self, wrong: type[Plugin], words: str) -> None:
        with pytest.raises(TypeError, match=words):
            row_of(wrong)


class TestParameters:
    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({}, "mostWaiting"),
            ({"mostWaiting": "x"}, "valid integer"),
            ({"mostWaiting": 1, "odd": 2}, "Extra inputs"),
            ({"mostWaiting": 0}, "most_waiting must be at least 1"),
        ],
    )
    def test_are_checked_as_those_of_ours(self, given: dict[str, Any], problem: str) -> None:
        with pytest.raises(ValueError, match=problem):
            row_of(ShortQueue).parameters.model_validate(given)

    def test_come_as_they_were_written(self) -> None:
        seen: list[Any] = []

        class Sees(Scorer):
            parameters: Most

            def __init__(self, parameters: Most, kit: Any) -> None:
                super().__init__(parameters, kit)
                seen.append(parameters)

        Sees.__annotations__["parameters"] = Most
        make(Sees, {"mostWaiting": 3, "names": ["a"]})
        assert seen == [Most(3, ["a"])]
        assert make(Half, {"by": 4}, kit(sources=("s",))).score(cycle(facts={"s": 2.0}), candidates(2)) == [0.5, 0.5]

    def test_none_is_none(self) -> None:
        assert row_of(Something).parameters.model_fields == {}


class TestPerEndpoint:
    def test_scorer(self) -> None:
        given = candidates(waiting=[0, 5, float("nan")])
        plugin = make(ShortQueue, {"mostWaiting": 10})
        assert plugin.score(cycle(), given) == [1.0, 0.5, 0.0]
        assert plugin.budget_s == ShortQueue.budget_s

    def test_filter_and_its_hooks(self) -> None:
        given = candidates(labels=[{"team": "a"}, {}, {"team": "a"}])
        plugin = make(OnlyMine)
        asked = cycle(request(headers={"x-team": "a"}))
        assert plugin.keep(asked, given) == [0, 2]
        assert plugin.by_load
        plugin.picked(asked, None)
        assert asked.kept == {"only-mine": True}

    def test_what_is_seen(self) -> None:
        asked = request("m", {"n": 1}, headers={"a": "b"}, path="/v1/x")
        given = candidates(
            waiting=[1], running=[2], kv_usage=[0.5], in_flight=[3], labels=[{"l": "v"}], loads=[Load(max_loras=4)]
        )
        ((seen, endpoint),) = each(given, asked, priority=-1)
        assert (seen.model, seen.path, seen.body, seen.header("a"), seen.priority) == ("m", "/v1/x", {"n": 1}, "b", -1)
        assert (endpoint.waiting, endpoint.running, endpoint.kv_usage, endpoint.in_flight) == (1, 2, 0.5, 3)
        assert (endpoint.key, endpoint.labels, endpoint.load.max_loras) == ("10.0.0.1:8000", {"l": "v"}, 4)
        ((_, unknown),) = each(candidates(1))
        assert (unknown.waiting, unknown.running, unknown.kv_usage, unknown.in_flight) == (None, None, None, 0)


def test_all_that_is_public_is_there() -> None:
    assert [name for name in public.__all__ if not hasattr(public, name)] == []
