"""Segments: who is in one."""

from __future__ import annotations

import pytest

from extproc.domain import InferenceRequest, RequestHead
from extproc.traffic.conditions import Asking, Wanted
from extproc.traffic.match import Matcher, MatchSpec, RuleSpec, shadowed
from extproc.traffic.segments import Segment, Segments, SegmentSpec


def never() -> float:
    raise AssertionError("nobody asks for the time, or draws, without need")


def asking(key: bytes | None = None, subject: str = "", groups: tuple[str, ...] = (), **headers: bytes) -> Asking:
    head = RequestHead({name.replace("_", "-"): value for name, value in headers.items()})
    return Asking(InferenceRequest(head, "/"), None, never, never, key, subject, groups)


GOLD = SegmentSpec("gold", header=("x-tier", Wanted("one_of", ("gold", "platinum"))))
STAFF = SegmentSpec("staff", groups=frozenset({"staff", "ops"}))
ROBOTS = SegmentSpec("robots", subjects=frozenset({"ci"}))
LISTED = SegmentSpec("listed", keys=frozenset({b"ann", b"bob"}))
SOME = SegmentSpec("some", buckets=1000)


@pytest.mark.parametrize(
    ("spec", "request_", "is_in"),
    [
        (GOLD, asking(x_tier=b"platinum"), True),
        (GOLD, asking(x_tier=b"silver"), False),
        (STAFF, asking(groups=("a", "ops")), True),
        (STAFF, asking(groups=("a",)), False),
        (ROBOTS, asking(subject="ci"), True),
        (ROBOTS, asking(), False),
        (LISTED, asking(b"bob"), True),
        (LISTED, asking(b"eve"), False),
        (LISTED, asking(), False),
        (SOME, asking(), False),
    ],
)
def test_who_is_in_a_segment(spec: SegmentSpec, request_: Asking, is_in: bool) -> None:
    assert Segment(spec).has(request_) is is_in
    assert Segment(spec).needs_key is (spec in (LISTED, SOME))
    table = Segments([spec])
    assert Matcher([MatchSpec(segments=(spec.name, "other"))], segments=table).matches(request_) is is_in


def test_a_share_has_a_salt_of_its_own() -> None:
    users = [asking(b"user-%d" % user) for user in range(20_000)]
    one, other, same = (Segment(SOME._replace(name=name, salt=salt)) for name, salt in (("a", ""), ("b", ""), ("c", "a")))
    first, second, third = ({index for index, user in enumerate(users) if each.has(user)} for each in (one, other, same))
    assert len(first) == pytest.approx(2000, abs=190)  # 4.5 standard deviations
    assert len(first & second) == pytest.approx(200, abs=65)
    assert first == third


def test_nobody_is_in_a_segment_that_is_not_there() -> None:
    matcher = Matcher([MatchSpec(segments=("gone",))], segments=Segments([LISTED]))
    assert not matcher.matches(asking(b"ann"))
    assert not matcher.needs_key


def test_more_segments_hide_fewer() -> None:
    rules = [RuleSpec("both", (MatchSpec(segments=("a", "b")),)), RuleSpec("one", (MatchSpec(segments=("b",)),))]
    assert shadowed(rules) == [("one", "both")]
    assert shadowed(rules[::-1]) == []
