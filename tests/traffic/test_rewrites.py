"""Rewrites: which rule counts, and how its targets share the requests."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.traffic import ModelRewrite, RewriteRule, RewriteTable, RewriteTarget
from extproc.traffic.rewrites import MAX_WEIGHT
from tests.fakes.chance import Draws, target_of


def to(*targets: str | tuple[str, int | None]) -> tuple[RewriteTarget, ...]:
    return tuple(RewriteTarget(t) if isinstance(t, str) else RewriteTarget(*t) for t in targets)


def rewrite(name: str, *rules: RewriteRule, created_s: float = 0.0) -> ModelRewrite:
    return ModelRewrite(name, created_s, rules)


def one(*targets: str | tuple[str, int | None]) -> RewriteTable:
    return RewriteTable([rewrite("ns/r", RewriteRule(("m",), to(*targets)))])


NEVER = Draws()
"""A single target needs no draw."""


class TestWhichRule:
    def test_the_name_is_matched_exactly(self) -> None:
        table = one("served")
        assert target_of(table, "m", NEVER) == "served"
        for other in ("M", " m", "m ", "", "served"):
            assert target_of(table, other, NEVER) is None

    def test_a_rule_without_models_means_every_model_and_none(self) -> None:
        table = RewriteTable([rewrite("ns/r", RewriteRule((), to("served")))])
        assert target_of(table, "whatever", NEVER) == "served"
        assert target_of(table, "", NEVER) == "served"

    def test_a_named_model_comes_before_every_model(self) -> None:
        table = RewriteTable(
            [
                rewrite("ns/old", RewriteRule((), to("all")), created_s=1),
                rewrite("ns/new", RewriteRule(("m",), to("named")), created_s=2),
            ]
        )
        assert target_of(table, "m", NEVER) == "named"
        assert target_of(table, "other", NEVER) == "all"

    @pytest.mark.parametrize("models", [("m",), ()])
    def test_the_oldest_object_counts_in_whatever_order_they_are_told(self, models: tuple[str, ...]) -> None:
        old = rewrite("ns/z", RewriteRule(models, to("old")), created_s=1)
        new = rewrite("ns/a", RewriteRule(models, to("new")), created_s=2)
        for order in ([old, new], [new, old]):
            assert target_of(RewriteTable(order), "m", NEVER) == "old"

    def test_objects_of_the_same_second_go_by_name(self) -> None:
        a, b = (rewrite(f"ns/{name}", RewriteRule(("m",), to(name))) for name in "ab")
        assert target_of(RewriteTable([b, a]), "m", NEVER) == target_of(RewriteTable([a, b]), "m", NEVER) == "a"

    @pytest.mark.parametrize("models", [("m",), ()])
    def test_the_first_rule_of_an_object_counts(self, models: tuple[str, ...]) -> None:
        table = RewriteTable([rewrite("ns/r", RewriteRule(models, to("first")), RewriteRule(models, to("second")))])
        assert target_of(table, "m", NEVER) == "first"

    def test_the_object_is_told(self) -> None:
        table = one("served")
        split = table.split_of("m")
        assert split is not None
        assert (split.rewrite, split.models) == ("ns/r", ("served",))
        assert table.split_of("other") is None
        assert repr(split) == "<Split ns/r to served>"

    def test_a_target_with_a_rule_of_its_own_is_not_followed_and_is_told(self) -> None:
        table = RewriteTable([rewrite("ns/r", RewriteRule(("a",), to("b")), RewriteRule(("b",), to("a", "c")))])
        assert target_of(table, "a", NEVER) == "b"
        assert table.followed_by() == (("ns/r", "a", "b"), ("ns/r", "b", "a"))
        assert one("m", "served").followed_by() == ()  # a share that stays is no chain


class TestShares:
    def test_without_weights_shares_are_equal(self) -> None:
        table = one("a", "b", "c", "d")
        assert [target_of(table, "m", Draws(x)) for x in (0.0, 0.2499, 0.25, 0.5, 0.75, 0.9999)] == list("aabcdd")

    def test_weights_are_shares(self) -> None:
        table = one(("a", 90), ("b", 10))
        assert [target_of(table, "m", Draws(x)) for x in (0.0, 0.8999, 0.9, 0.9999)] == list("aabb")

    def test_a_target_without_weight_among_weights_counts_one(self) -> None:
        table = RewriteTable([rewrite("ns/r", RewriteRule(("m",), to(("a", 3), "b")))])
        assert [target_of(table, "m", Draws(x)) for x in (0.0, 0.7499, 0.75)] == list("aab")

    @given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
    def test_every_target_gets_exactly_its_share(self, weights: list[int]) -> None:
        table = one(*[(str(i), weight) for i, weight in enumerate(weights)])
        total = sum(weights)
        drawn = Counter(target_of(table, "m", lambda x=x: (x + 0.5) / total) for x in range(total))  # type: ignore[misc]
        assert drawn == {str(i): weight for i, weight in enumerate(weights)}

    @given(
        st.lists(st.one_of(st.none(), st.integers(1, MAX_WEIGHT)), min_size=1, max_size=50),
        st.floats(0, 1, exclude_max=True),
    )
    def test_every_draw_is_a_target(self, weights: list[int | None], draw: float) -> None:
        table = one(*[(str(i), weight) for i, weight in enumerate(weights)])
        assert target_of(table, "m", lambda: draw) in {str(i) for i in range(len(weights))}

    def test_the_largest_draw_there_is(self) -> None:
        largest = 1 - 2**-53
        assert target_of(one(*[(str(i), MAX_WEIGHT) for i in range(64)]), "m", Draws(largest)) == "63"


class TestWrongRules:
    @pytest.mark.parametrize(
        ("targets", "said"),
        [
            ((), r"^ns/r: rules\[1\]\.targets is empty; at least one target is needed$"),
            (to("a", ""), r"^ns/r: rules\[1\]\.targets\[1\]\.modelRewrite is ''; expected a model's name of 1 to 1024 "),
            (to("a\r\nb"), r"modelRewrite is 'a\\r\\nb'; expected a model's name "),
            (to("\ud83d"), r"expected a model's name "),
            (to("m" * 1025), r"expected a model's name "),
            (to(("a", 0)), r"^ns/r: rules\[1\]\.targets\[0\]\.weight is 0; expected 1 to 1000000$"),
            (to(("a", 1_000_001)), r"weight is 1000001; expected 1 to 1000000$"),
            (to(("a", -1)), r"weight is -1; "),
        ],
    )
    def test_are_named(self, targets: tuple[RewriteTarget, ...], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            RewriteTable([rewrite("ns/r", RewriteRule(("x",), to("y")), RewriteRule(("m",), targets))])


def test_an_empty_table_is_false_and_changes_nothing() -> None:
    assert not RewriteTable()
    assert not RewriteTable([rewrite("ns/r")])
    assert target_of(RewriteTable(), "m", NEVER) is None
    assert one("served")
    assert repr(one("served")) == "<RewriteTable 1 models>"
    assert repr(RewriteTable([rewrite("ns/r", RewriteRule((), to("s")))])) == "<RewriteTable 0 models and all others>"
