"""What two people's changes of one split come to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extproc.api.page.merging import merged

NAMES = ("a", "b", "c")


def splits() -> st.SearchStrategy[dict[str, int]]:
    """Three shares of 100."""
    cuts = st.tuples(st.integers(0, 100), st.integers(0, 100)).map(sorted)
    return cuts.map(lambda cut: dict(zip(NAMES, (cut[0], cut[1] - cut[0], 100 - cut[1]), strict=True)))


@given(splits(), splits(), splits())
def test_both_together_is_a_split_with_both_changes(
    began: dict[str, int], theirs: dict[str, int], mine: dict[str, int]
) -> None:
    merge = merged(began, theirs, mine)
    assert merge.mine == mine
    both = {name: theirs[name] + mine[name] - began[name] for name in NAMES}
    if merge.together:
        assert merge.together == both
        assert sum(merge.together.values()) == 100
        assert all(0 <= share <= 100 for share in merge.together.values())
    else:
        assert both in (mine, theirs) or not all(0 <= share <= 100 for share in both.values())


@given(splits(), splits())
def test_who_changed_nothing_is_no_conflict(began: dict[str, int], other: dict[str, int]) -> None:
    assert merged(began, other, began).together == {}
    assert merged(began, began, other).together == {}


def test_other_entities_leave_nothing_to_choose() -> None:
    merge = merged({"a": 90, "b": 10}, {"a": 90, "new": 10}, {"a": 50, "b": 50})
    assert (merge.mine, merge.together) == ({}, {})
    assert [(each.name, each.began, each.theirs, each.mine) for each in merge.shares] == [
        ("a", 90, 90, 50),
        ("new", None, 10, None),
        ("b", 10, None, 50),
    ]
