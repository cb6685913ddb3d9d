"""Rules before the split: in order, the first that matches a request decides.

A rule's matches are alternatives, and all conditions of a match must hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from extproc.expressions import compiled
from extproc.traffic.conditions import (
    Asking,
    Condition,
    ExpressionHolds,
    FieldIs,
    HeaderIs,
    IsAmong,
    ModelIs,
    PathIs,
    RegionIs,
    TimeIs,
    Wanted,
    Window,
)
from extproc.traffic.segments import NO_SEGMENTS, InSegment, Segments


class MatchSpec(NamedTuple):
    """Conditions, all of which must hold; none holds for every request."""

    headers: tuple[tuple[str, Wanted], ...] = ()
    """By name in lower case."""
    path: Wanted | None = None
    model: Wanted | None = None
    """As the client names it."""
    body: tuple[tuple[str, Wanted], ...] = ()
    """By the field's path in a JSON body: `metadata.tier`."""
    regions: tuple[str, ...] = ()
    """Of which the request comes from one."""
    segments: tuple[str, ...] = ()
    """The same."""
    window: Window | None = None
    buckets: int | None = None
    """Of 10,000, by a salt that is the rule's own."""
    expression: str = ""


class RefusalSpec(NamedTuple):
    """An answer instead of an entity's."""

    status: int = 403
    message: str = ""


class RuleSpec(NamedTuple):
    """A rule as it was asked for: one of entity, split and refusal."""

    name: str
    matches: tuple[MatchSpec, ...] = ()
    """One of them must hold; () matches every request."""
    entity: str = ""
    split: tuple[tuple[str, int], ...] = ()
    """Percentages by entity; 100 in all."""
    refusal: RefusalSpec | None = None


def conditions_of(spec: MatchSpec, salt: str, segments: Segments = NO_SEGMENTS) -> tuple[Condition, ...]:
    """The conditions of a match, cheapest first. Raises BadExpression."""
    found: list[Condition] = []
    if spec.model is not None:
        found.append(ModelIs(spec.model))
    if spec.path is not None:
        found.append(PathIs(spec.path))
    found += [HeaderIs(name, test) for name, test in spec.headers]
    if spec.regions:
        found.append(RegionIs(spec.regions))
    if spec.segments:
        found.append(InSegment(spec.segments, segments))
    found += [FieldIs(path, test) for path, test in spec.body]
    if spec.buckets is not None:
        found.append(IsAmong(salt, spec.buckets))
    if spec.window is not None:
        found.append(TimeIs(spec.window))
    if spec.expression:
        found.append(ExpressionHolds(compiled(spec.expression)))
    return tuple(found)


class Matcher:
    """The alternatives of a rule, compiled."""

    __slots__ = ("alternatives",)

    def __init__(self, specs: Sequence[MatchSpec], salt: str = "", segments: Segments = NO_SEGMENTS) -> None:
        """`salt` is of shares of keys, so that two rules do not choose the same ones. Raises BadExpression."""
        self.alternatives = tuple([conditions_of(spec, salt, segments) for spec in specs]) or ((),)

    @property
    def needs_key(self) -> bool:
        """Whether it asks who is asking."""
        for conditions in self.alternatives:
            for each in conditions:
                if isinstance(each, IsAmong) or (isinstance(each, InSegment) and each.needs_key):
                    return True
        return False

    def matches(self, asking: Asking) -> bool:
        for conditions in self.alternatives:
            for condition in conditions:
                if not condition.holds(asking):
                    break
            else:
                return True
        return False

    def covers(self, other: Matcher) -> bool:
        """Whether this matches every request that `other` matches, as far as can be told without looking at requests."""
        return all(self._covers_one(narrow) for narrow in other.alternatives)

    def _covers_one(self, narrow: tuple[Condition, ...]) -> bool:
        return any(_covers(wide, narrow) for wide in self.alternatives)


def _covers(wide: tuple[Condition, ...], narrow: tuple[Condition, ...]) -> bool:
    """Each condition of the wider one is one that the narrower one keeps as well."""
    return all(_kept(condition, narrow) for condition in wide)


def _kept(condition: Condition, narrow: tuple[Condition, ...]) -> bool:
    return any(condition.covers(each) for each in narrow)


def shadowed(rules: Sequence[RuleSpec]) -> list[tuple[str, str]]:
    """Rules that can never match, each with the one before it that matches all of its requests."""
    found: list[tuple[str, str]] = []
    before: list[tuple[str, Matcher]] = []
    for rule in rules:
        matcher = Matcher(rule.matches)
        for name, earlier in before:
            if earlier.covers(matcher):
                found.append((rule.name, name))
                break
        before.append((rule.name, matcher))
    return found
