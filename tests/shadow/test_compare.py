"""Two answers to one request."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.response import Usage
from extproc.shadow import Comparison, Said, Side, Sums, compared, numbers_in
from extproc.shadow.sums import verdict_of


def side(entity: str = "a", **fields: Any) -> Side:
    return Side(entity, "10.0.0.1:8000", **{"status": 200, "latency_s": 1.0, "ttft_s": 0.1, **fields})


TEXT = Said("the cat sat", "stop", Usage(3, 3))


class TestVerdict:
    def test_the_same(self) -> None:
        assert compared(side(said=TEXT), side(said=TEXT)) == Comparison(True, (), 1.0)

    @pytest.mark.parametrize(
        ("shadow", "differs"),
        [
            (side(outcome="timeout", status=0), ("outcome",)),
            (side(status=503), ("status",)),
            (side(said=TEXT._replace(finish_reason="length")), ("finish reason",)),
            (side(said=TEXT._replace(text="one dog ran", finish_reason="length")), ("finish reason", "text")),
        ],
    )
    def test_differs(self, shadow: Side, differs: tuple[str, ...]) -> None:
        found = compared(side(said=TEXT), shadow, min_similarity=0.5)
        assert (found.same, found.differs) == (False, differs)

    def test_texts_judge_only_where_somebody_says_how_alike_they_must_be(self) -> None:
        other = side(said=TEXT._replace(text="the dog sat"))
        assert compared(side(said=TEXT), other).same
        assert compared(side(said=TEXT), other, min_similarity=0.6).same
        assert compared(side(said=TEXT), other, min_similarity=0.7).differs == ("text",)

    def test_numbers(self) -> None:
        one, other = side(said=Said(numbers=numbers_in([0.5]))), side(said=Said(numbers=numbers_in([0.51])))
        assert compared(one, other, max_difference=0.1).same
        assert compared(one, other, max_difference=0.001).differs == ("numbers",)
        assert compared(one, side(said=Said(numbers=numbers_in([0.5, 0.5]))), max_difference=1).differs == ("numbers",)
        assert compared(one, side(), max_difference=1).differs == ("numbers",)

    def test_a_text_against_none(self) -> None:
        assert compared(side(said=TEXT), side(), min_similarity=0.1).similarity == 0.0

    def test_errors_on_both_sides_are_the_same(self) -> None:
        assert compared(side(status=400), side(status=400)).same

    @pytest.mark.parametrize(
        ("live", "shadow"),
        [
            (side(outcome="left"), side(status=500)),
            (side(outcome="goes on", status=0), side()),
            (side(seen=False), side(said=TEXT)),
            (side(said=Said(unread="too long")), side(said=TEXT)),
            (side(said=TEXT), side(said=Said(unread="content-encoding"))),
        ],
    )
    def test_nobody_can_tell(self, live: Side, shadow: Side) -> None:
        assert compared(live, shadow, min_similarity=1.0).same is None

    def test_a_status_can_be_compared_without_the_body(self) -> None:
        assert compared(side(seen=False), side(status=500)).same is False


class TestSums:
    def test_pair_by_pair(self) -> None:
        sums = Sums()
        for factor in (1.2, 1.3, 1.4):
            live, shadow = side(said=TEXT), side(said=TEXT, latency_s=factor, ttft_s=0.1 * factor)
            sums.add(live, shadow, compared(live, shadow))
        told = sums.shape()
        assert (told["pairs"], told["same"]) == (3, 3)
        assert told["ttft_ratio"]["mean"] == pytest.approx((1.2 * 1.3 * 1.4) ** (1 / 3))
        assert told["ttft_ratio"]["low"] < 1.3 < told["ttft_ratio"]["high"]
        assert told["latency_ratio"]["mean"] == pytest.approx(told["ttft_ratio"]["mean"])
        assert told["similarity"] == {"pairs": 3, "mean": 1.0, "worst": 1.0}
        assert told["completion_tokens"] == {"live": 9, "shadow": 9}
        assert told["finish_reasons"] == {"live": {"stop": 3}, "shadow": {"stop": 3}}
        assert told["statuses"] == [{"live": 200, "shadow": 200, "pairs": 3}]

    def test_what_failed_is_counted_and_its_times_are_not(self) -> None:
        sums = Sums()
        live, shadow = side(), side(outcome="timeout", status=0)
        sums.add(live, shadow, compared(live, shadow))
        told = sums.shape()
        assert (told["differs"], told["differs_in"], told["outcomes"]) == (1, {"outcome": 1}, {"timeout": 1})
        assert (told["ttft_ratio"], told["similarity"], told["numeric_difference"]) == (None, None, None)

    def test_one_pair_says_nothing_of_the_spread(self) -> None:
        sums = Sums()
        sums.add(side(), side(latency_s=2.0), Comparison(True))
        assert sums.shape()["latency_ratio"] == {"pairs": 1, "mean": 2.0, "low": None, "high": None}

    def test_a_clock_that_stands_still_divides_by_nothing(self) -> None:
        sums = Sums()
        sums.add(side(latency_s=0.0, ttft_s=0.0), side(latency_s=0.0, ttft_s=0.0), Comparison(True))
        assert sums.shape()["latency_ratio"]["mean"] == 1.0

    def test_numbers_that_are_infinitely_far_apart(self) -> None:
        sums = Sums()
        one, other = side(said=Said(numbers=numbers_in([1]))), side(said=Said(numbers=numbers_in([float("nan")])))
        sums.add(one, other, compared(one, other))
        assert sums.shape()["numeric_difference"] == {"pairs": 1, "mean": None, "worst": None}

    @pytest.mark.parametrize(("same", "verdict"), [(True, "same"), (False, "differs"), (None, "unjudged")])
    def test_verdicts(self, same: bool | None, verdict: str) -> None:
        assert verdict_of(Comparison(same)) == verdict
