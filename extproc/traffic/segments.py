"""Segments: named sets of requests, for rules and experiments. By header, by claim, by list, or by share of keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from extproc.traffic.conditions import Asking, Condition, HeaderIs, IsAmong, Wanted


class SegmentSpec(NamedTuple):
    """A segment: who has one of the things that are given."""

    name: str
    header: tuple[str, Wanted] | None = None
    groups: frozenset[str] = frozenset()
    """Of a token that was checked."""
    subjects: frozenset[str] = frozenset()
    """The same."""
    keys: frozenset[bytes] = frozenset()
    """Of users, as the endpoint's split goes by."""
    buckets: int | None = None
    """Of 10,000 keys."""
    salt: str = ""
    """Of that share; '' takes the name."""


class Segment:
    """A segment, compiled. Immutable."""

    __slots__ = ("_groups", "_header", "_keys", "_share", "_subjects", "name")

    def __init__(self, spec: SegmentSpec) -> None:
        self.name = spec.name
        self._header = None if spec.header is None else HeaderIs(*spec.header)
        self._groups = spec.groups
        self._subjects = spec.subjects
        self._keys = spec.keys
        self._share = None if spec.buckets is None else IsAmong(f"segment/{spec.salt or spec.name}", spec.buckets)

    @property
    def needs_key(self) -> bool:
        """Whether it asks who is asking."""
        return bool(self._keys) or self._share is not None

    def has(self, asking: Asking) -> bool:
        """Whether the request is one of the set. Without a key, it is in no list and in no share."""
        if self._header is not None and self._header.holds(asking):
            return True
        if self._subjects and asking.subject in self._subjects:
            return True
        if self._groups and not self._groups.isdisjoint(asking.groups):
            return True
        key = asking.key
        if key is None:
            return False
        return key in self._keys or (self._share is not None and self._share.holds(asking))

    def __repr__(self) -> str:
        return f"<Segment {self.name} {len(self._keys)} keys>"


class Segments:
    """All segments by name. Immutable: a change is another one."""

    __slots__ = ("_segments",)

    def __init__(self, specs: Iterable[SegmentSpec] = ()) -> None:
        self._segments = {spec.name: Segment(spec) for spec in specs}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._segments)

    def get(self, name: str) -> Segment | None:
        return self._segments.get(name)

    def __len__(self) -> int:
        return len(self._segments)

    def __repr__(self) -> str:
        return f"<Segments {', '.join(self._segments)}>"


NO_SEGMENTS: Final = Segments()


class InSegment(Condition):
    """The request is in one of these segments. One that is not there has nobody in it."""

    __slots__ = ("_segments", "names", "needs_key")

    def __init__(self, names: tuple[str, ...], segments: Segments) -> None:
        self.names = frozenset(names)
        found: list[Segment] = []
        for name in names:
            segment = segments.get(name)
            if segment is not None:
                found.append(segment)
        self._segments = tuple(found)
        self.needs_key = any(segment.needs_key for segment in found)

    def holds(self, asking: Asking) -> bool:
        for segment in self._segments:  # noqa: SIM110  # compiled, a loop is three times as fast as `any`
            if segment.has(asking):
                return True
        return False

    def covers(self, other: Condition) -> bool:
        return isinstance(other, InSegment) and other.names <= self.names
