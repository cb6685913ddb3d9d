"""Data residency: which regions may serve a request, by rules that all have to be kept.

Unlike rules before the split, every one that matches counts, and what they allow is what all of them allow. A rule whose
expression gives no answer for a request is taken to match, and so is one that names a segment that is not there: a request that
can't be judged does not leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from extproc.traffic.conditions import Asking
from extproc.traffic.match import Matcher, MatchSpec
from extproc.traffic.segments import NO_SEGMENTS, Segments


class ResidencySpec(NamedTuple):
    """A rule as it was asked for."""

    name: str
    regions: tuple[str, ...]
    """That may serve; () is the one that the request comes from."""
    matches: tuple[MatchSpec, ...] = ()
    """One of them must hold; () matches every request."""
    entities: tuple[str, ...] = ()
    """Of the endpoint, which it is about; () is all."""


class Kept(NamedTuple):
    """Where a request may be served."""

    regions: frozenset[str] | None
    """None: anywhere."""
    rules: tuple[str, ...] = ()
    """The names of those that say so."""


ANYWHERE: Final = Kept(None)


class _Rule:
    """One rule, compiled."""

    __slots__ = ("_always", "entities", "matcher", "name", "regions")

    def __init__(self, spec: ResidencySpec, salt: str, segments: Segments) -> None:
        self.name = spec.name
        self.regions = frozenset(spec.regions)
        self.entities = frozenset(spec.entities)
        self.matcher = Matcher(spec.matches, f"{salt}/{spec.name}", segments)
        self._always = False
        """Who is in a segment that went is not known."""
        for match in spec.matches:
            for segment in match.segments:
                if segments.get(segment) is None:
                    self._always = True

    def matches(self, asking: Asking) -> bool:
        if self._always:
            return True
        before = asking.failed
        return self.matcher.matches(asking) or asking.failed > before


class Residency:
    """Rules, compiled. Immutable."""

    __slots__ = ("_rules", "needs_key")

    def __init__(self, specs: Sequence[ResidencySpec], salt: str = "", segments: Segments = NO_SEGMENTS) -> None:
        """Raises BadExpression."""
        self._rules = tuple([_Rule(spec, salt, segments) for spec in specs])
        self.needs_key = any(rule.matcher.needs_key for rule in self._rules)
        """Whether they ask who is asking."""

    def __bool__(self) -> bool:
        return bool(self._rules)

    def kept(self, asking: Asking, origin: str, entity: str, before: Kept = ANYWHERE) -> Kept:
        """Where a request from `origin` may be served as `entity` ('' for none), when it may be no further than `before`."""
        regions, names = before.regions, list(before.rules)
        for rule in self._rules:
            if rule.entities and entity not in rule.entities:
                continue
            if rule.matches(asking):
                here = rule.regions or frozenset((origin,))
                regions = here if regions is None else regions & here
                names.append(rule.name)
        return Kept(regions, tuple(names))
