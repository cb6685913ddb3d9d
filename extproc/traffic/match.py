"""Rules before the split: in order, the first that matches a request decides.

A rule's matches are alternatives, and all conditions of a match must hold. They are compiled when the endpoint is: to sets, to
bytes as headers are, cheapest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from extproc.domain import InferenceRequest

EXACT: Final = "exact"
PREFIX: Final = "prefix"
SUFFIX: Final = "suffix"
ONE_OF: Final = "one_of"
PRESENT: Final = "present"
EQUALS: Final = "equals"

Plain: TypeAlias = str | bool | int | float


class Wanted(NamedTuple):
    """What a value is compared with."""

    kind: str
    """One of the above."""
    values: tuple[Plain, ...]
    """One, but for `one_of`; of `present` whether it is to be there."""


class MatchSpec(NamedTuple):
    """Conditions, all of which must hold; none holds for every request."""

    headers: tuple[tuple[str, Wanted], ...] = ()
    """By name in lower case."""
    path: Wanted | None = None
    model: Wanted | None = None
    """As the client names it."""
    body: tuple[tuple[str, Wanted], ...] = ()
    """By the field's path in a JSON body: `metadata.tier`."""


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


class Asking:
    """One request, as conditions ask about it."""

    __slots__ = ("model", "request")

    def __init__(self, request: InferenceRequest, model: str | None) -> None:
        self.request = request
        self.model = model
        """As the client names it."""


class Condition:
    """Something that holds for a request or does not. Immutable by convention."""

    def holds(self, asking: Asking) -> bool:
        raise NotImplementedError

    def covers(self, other: Condition) -> bool:
        """Whether this holds for every request for which `other` does, as far as can be told without looking at requests."""
        raise NotImplementedError


class TextTest:
    """A test of a text that may not be there."""

    __slots__ = ("_any_of", "_kind", "_there", "_value")

    def __init__(self, test: Wanted) -> None:
        self._kind = test.kind
        self._value = str(test.values[0])
        self._any_of = frozenset([str(value) for value in test.values])
        self._there = bool(test.values[0])

    def passes(self, text: str | None) -> bool:
        """None: there is none."""
        kind = self._kind
        if kind == PRESENT:
            return (text is not None) == self._there
        if text is None:
            return False
        if kind == PREFIX:
            return text.startswith(self._value)
        if kind == SUFFIX:
            return text.endswith(self._value)
        return text in self._any_of


def implies(one: Wanted, other: Wanted) -> bool:
    """Whether what passes `one` passes `other`."""
    if one == other and all(type(a) is type(b) for a, b in zip(one.values, other.values, strict=True)):  # 1 == True
        return True
    if other.kind == PRESENT:
        return other.values[0] is True and one.kind != PRESENT
    if one.kind in (EXACT, ONE_OF) and other.kind != EQUALS:
        test = TextTest(other)
        return all(test.passes(str(value)) for value in one.values)
    if one.kind == other.kind == PREFIX:
        return str(one.values[0]).startswith(str(other.values[0]))
    if one.kind == other.kind == SUFFIX:
        return str(one.values[0]).endswith(str(other.values[0]))
    return False


class HeaderIs(Condition):
    """A header's value; compared as bytes, as headers are."""

    __slots__ = ("_any_of", "_kind", "_name", "_there", "_value", "test")

    def __init__(self, name: str, test: Wanted) -> None:
        self._name = name
        self.test = test
        self._kind = test.kind
        self._value = str(test.values[0]).encode()
        self._any_of = frozenset([str(value).encode() for value in test.values])
        self._there = bool(test.values[0])

    def holds(self, asking: Asking) -> bool:
        value = asking.request.head.headers.get(self._name)
        kind = self._kind
        if kind == PRESENT:
            return (value is not None) == self._there
        if value is None:
            return False
        if kind == PREFIX:
            return value.startswith(self._value)
        if kind == SUFFIX:
            return value.endswith(self._value)
        return value in self._any_of

    def covers(self, other: Condition) -> bool:
        return isinstance(other, HeaderIs) and other._name == self._name and implies(other.test, self.test)


class PathIs(Condition):
    """The path without its query string."""

    __slots__ = ("_passes", "test")

    def __init__(self, test: Wanted) -> None:
        self.test = test
        self._passes = TextTest(test)

    def holds(self, asking: Asking) -> bool:
        return self._passes.passes(asking.request.path)

    def covers(self, other: Condition) -> bool:
        return isinstance(other, PathIs) and implies(other.test, self.test)


class ModelIs(Condition):
    """The model that the client names."""

    __slots__ = ("_passes", "test")

    def __init__(self, test: Wanted) -> None:
        self.test = test
        self._passes = TextTest(test)

    def holds(self, asking: Asking) -> bool:
        return self._passes.passes(asking.model)

    def covers(self, other: Condition) -> bool:
        return isinstance(other, ModelIs) and implies(other.test, self.test)


class FieldIs(Condition):
    """A field of a JSON body. Of a body that is none, or was not read, nothing is there."""

    __slots__ = ("_passes", "_path", "test")

    def __init__(self, path: str, test: Wanted) -> None:
        self._path = tuple(path.split("."))
        self.test = test
        self._passes = TextTest(test)

    def holds(self, asking: Asking) -> bool:
        value: object = asking.request.payload
        for name in self._path:
            value = value.get(name) if isinstance(value, Mapping) else None
        test = self.test
        if test.kind == EQUALS:
            wanted = test.values[0]
            # 1 == True in Python, and not in JSON
            return isinstance(value, bool) == isinstance(wanted, bool) and value == wanted
        if test.kind == PRESENT:
            return (value is not None) == bool(test.values[0])
        return isinstance(value, str) and self._passes.passes(value)

    def covers(self, other: Condition) -> bool:
        return isinstance(other, FieldIs) and other._path == self._path and implies(other.test, self.test)


def conditions_of(spec: MatchSpec) -> tuple[Condition, ...]:
    """The conditions of a match, cheapest first."""
    found: list[Condition] = []
    if spec.model is not None:
        found.append(ModelIs(spec.model))
    if spec.path is not None:
        found.append(PathIs(spec.path))
    found += [HeaderIs(name, test) for name, test in spec.headers]
    found += [FieldIs(path, test) for path, test in spec.body]
    return tuple(found)


class Matcher:
    """The alternatives of a rule, compiled."""

    __slots__ = ("alternatives",)

    def __init__(self, specs: Sequence[MatchSpec]) -> None:
        self.alternatives = tuple([conditions_of(spec) for spec in specs]) or ((),)

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
