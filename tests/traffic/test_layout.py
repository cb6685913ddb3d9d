"""Layouts: shares are exact, and nobody moves who need not."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.traffic.layout import BUCKETS, NamedLayout, in_order, laid_out, moved, positioned

NAMES = ("a", "b", "c", "d", "e")


@st.composite
def splits(draw: st.DrawFn) -> dict[str, int]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(names) - 1, max_size=len(names) - 1)))
    return {name: after - before for name, before, after in zip(names, [0, *cuts], [*cuts, 100], strict=True)}


def owners(layout: NamedLayout) -> list[str]:
    return [name for name, size in layout for _ in range(size)]


def shares(layout: NamedLayout) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, size in layout:
        counts[name] = counts.get(name, 0) + size
    return counts


def test_without_a_layout_before_it_is_cumulative_in_the_order_of_the_list() -> None:
    assert laid_out({"canary": 10, "current": 90}) == (("canary", 1000), ("current", 9000))
    assert in_order([10, 0, 90]) == ((0, 1000), (2, 9000))


def test_who_has_nothing_has_no_buckets() -> None:
    assert laid_out({"current": 100, "dark": 0}) == (("current", BUCKETS),)


@pytest.mark.parametrize("order", [("canary", "current"), ("current", "canary")])
def test_raising_a_share_moves_nobody_of_those_who_had_it(order: tuple[str, str]) -> None:
    def split(canary: int) -> dict[str, int]:
        of = {"canary": canary, "current": 100 - canary}
        return {name: of[name] for name in order}

    before = laid_out(split(10))
    after = laid_out(split(20), before)
    had = {bucket for bucket, name in enumerate(owners(before)) if name == "canary"}
    has = {bucket for bucket, name in enumerate(owners(after)) if name == "canary"}
    assert had < has
    assert len(has) == 2000
    assert moved(before, after) == 1000


def test_a_removed_entitys_buckets_move_alone() -> None:
    before = laid_out({"a": 50, "b": 30, "c": 20})
    after = laid_out({"a": 65, "c": 35}, before)
    assert {old for old, new in zip(owners(before), owners(after), strict=True) if old != new} == {"b"}


def test_a_share_that_rises_and_falls_back_is_as_before() -> None:
    before = laid_out({"a": 80, "b": 20})
    assert laid_out({"a": 80, "b": 20}, laid_out({"a": 60, "b": 40}, before)) == before


@given(first=splits(), second=splits(), third=splits())
def test_shares_are_exact_and_moves_are_the_fewest(
    first: dict[str, int], second: dict[str, int], third: dict[str, int]
) -> None:
    layout = laid_out(first)
    for percentages in (second, third):
        before, had = layout, shares(layout)
        layout = laid_out(percentages, before)
        assert shares(layout) == {name: share * 100 for name, share in percentages.items() if share}
        grown = sum(max(0, share * 100 - had.get(name, 0)) for name, share in percentages.items())
        assert moved(before, layout) == grown
        assert grown == sum(1 for old, new in zip(owners(before), owners(layout), strict=True) if old != new)
        assert all(size > 0 for _, size in layout)
        assert all(one[0] != other[0] for one, other in pairwise(layout)), "runs are as long as can be"


def test_a_split_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"add up to 99; expected 100"):
        laid_out({"a": 99})


def test_positions_are_those_of_the_names() -> None:
    assert positioned((("b", 4000), ("a", 6000)), ["a", "b"]) == ((1, 4000), (0, 6000))
    with pytest.raises(KeyError):
        positioned((("x", BUCKETS),), ["a"])


def test_everybody_moves_where_there_was_nothing() -> None:
    assert moved((), (("a", BUCKETS),)) == BUCKETS
