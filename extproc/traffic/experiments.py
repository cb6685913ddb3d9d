"""A/B experiments: who is in which arm, by a salt of their own, so that one experiment says nothing of another.

A key is hashed into one of 10,000 buckets, as for the split, and a layout says whose bucket that is; the rest is in no arm. A
request without a key is in no experiment: it could not stay in its arm.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from extproc.traffic.conditions import Asking
from extproc.traffic.hashing import Hashed
from extproc.traffic.layout import BUCKETS, NamedLayout, laid_out
from extproc.traffic.match import Matcher, MatchSpec
from extproc.traffic.segments import NO_SEGMENTS, Segments

OUTSIDE: Final = ""
"""Stands in a layout for who is in no arm."""


class ArmSpec(NamedTuple):
    """One arm."""

    name: str
    weight: int
    """Percent of the experiment's keys, whole."""
    entity: str = ""
    """Who serves it; '' leaves that to the split."""


class ExperimentSpec(NamedTuple):
    """An experiment as it was asked for."""

    name: str
    arms: tuple[ArmSpec, ...]
    """Their weights add up to 100 at most; the rest takes no part."""
    matches: tuple[MatchSpec, ...] = ()
    """Who may take part; () is everybody."""
    salt: str = ""
    """'' takes the endpoint's name and the experiment's."""
    start_s: float | None = None
    """Since 1970."""
    end_s: float | None = None
    overrides: tuple[tuple[str, str], ...] = ()
    """Keys of testers, each with its arm, whatever its bucket says and whether it matches or not."""
    layout: NamedLayout = ()
    """Whose buckets are whose, by the arm's name; () is `spread`."""


class Arm(NamedTuple):
    """A request's part in an experiment."""

    name: str
    entity: str
    """'' leaves it to the split."""
    bucket: int
    """-1 when the override list decided."""


class Experiment:
    """An experiment, compiled. Immutable."""

    __slots__ = (
        "_arms",
        "_bounds",
        "_end_s",
        "_hashed",
        "_is_timed",
        "_overrides",
        "_start_s",
        "decides",
        "entities",
        "matcher",
        "name",
        "spec",
    )

    def __init__(self, spec: ExperimentSpec, endpoint: str, segments: Segments = NO_SEGMENTS) -> None:
        """Raise ValueError for an expression that does not compile, weights over 100, or a layout of others than 10,000
        buckets."""
        self.name = spec.name
        self.spec = spec
        self.matcher = Matcher(spec.matches, f"{endpoint}/{spec.name}/match", segments)
        weights = weights_of(spec.arms)
        layout = spec.layout or spread(weights)
        if sum([size for _, size in layout]) != BUCKETS:
            raise ValueError(f"the layout of experiment {spec.name!r} has not {BUCKETS} buckets: {layout}")
        arms = {arm.name: Arm(arm.name, arm.entity, 0) for arm in spec.arms}
        self._hashed = Hashed(f"experiment/{spec.salt or f'{endpoint}/{spec.name}'}")
        self._arms: tuple[Arm | None, ...] = tuple([arms.get(name) for name, _ in layout])
        self._bounds = tuple(accumulate([size for _, size in layout]))
        self._overrides = {key.encode(): arms[arm]._replace(bucket=-1) for key, arm in spec.overrides if arm in arms}
        self._start_s = 0.0 if spec.start_s is None else spec.start_s
        self._end_s = 0.0 if spec.end_s is None else spec.end_s
        self._is_timed = spec.start_s is not None or spec.end_s is not None
        self.entities = tuple([arm.entity for arm in spec.arms if arm.entity])
        self.decides = bool(self.entities)
        """Whether an arm says who serves it."""

    def arm_of(self, asking: Asking) -> Arm | None:
        """The arm of a request, None when it takes no part."""
        key = asking.key
        if key is None:
            return None
        if self._is_timed:
            now_s = asking.now_s
            if now_s < self._start_s or (self._end_s > 0.0 and now_s >= self._end_s):
                return None
        if self._overrides:
            arm = self._overrides.get(key)
            if arm is not None:
                return arm
        if not self.matcher.matches(asking):
            return None
        bucket = self._hashed.bucket_of(key)
        found = self._arms[bisect_right(self._bounds, bucket)]
        return None if found is None else Arm(found.name, found.entity, bucket)

    def __repr__(self) -> str:
        return f"<Experiment {self.name} {', '.join(f'{arm.name} {arm.weight} %' for arm in self.spec.arms)}>"


def weights_of(arms: Sequence[ArmSpec]) -> dict[str, int]:
    """By arm, with the rest; 100 in all. Raises ValueError when they are more."""
    weights = {arm.name: arm.weight for arm in arms}
    rest = 100 - sum(weights.values())
    if rest < 0:
        raise ValueError(f"the weights of the arms add up to {100 - rest}; expected at most 100")
    return {**weights, OUTSIDE: rest}


def spread(weights: Mapping[str, int]) -> NamedLayout:
    """A layout that follows from the weights alone: each arm begins at a place of its own and grows from there.

    The places are apart by an equal part of the buckets. An arm that is larger than that takes what others leave free, from
    the first on; what is left then is nobody's. So of two arms, or of any that are smaller than their place, only those move
    whose arm's weight has changed.
    """
    arms = [(name, weight * (BUCKETS // 100)) for name, weight in weights.items() if name != OUTSIDE]
    places = [len(arms) and BUCKETS * position // len(arms) for position in range(len(arms))] + [BUCKETS]
    runs: list[tuple[str, int]] = []
    over: list[tuple[str, int]] = []
    for position, (name, size) in enumerate(arms):
        room = places[position + 1] - places[position]
        runs += [(name, min(size, room)), (OUTSIDE, max(0, room - size))]
        if size > room:
            over.append((name, size - room))
    filled: list[tuple[str, int]] = []
    for name, size in runs:
        if name != OUTSIDE:
            filled.append((name, size))
            continue
        while size and over:
            taker, wanted = over[0]
            taken = min(size, wanted)
            filled.append((taker, taken))
            size -= taken
            over[0] = (taker, wanted - taken)
            if taken == wanted:
                over.pop(0)
        filled.append((OUTSIDE, size))
    return _merged(filled) or ((OUTSIDE, BUCKETS),)


def changed_layout(weights: Mapping[str, int], previous: NamedLayout) -> NamedLayout:
    """The layout after a change of weights: an arm that grows keeps all that it had, and nobody moves who need not."""
    return laid_out(weights, previous) if previous else spread(weights)


def _merged(runs: Sequence[tuple[str, int]]) -> NamedLayout:
    """Runs side by side as one, none of no size."""
    merged: list[tuple[str, int]] = []
    for name, size in runs:
        if not size:
            continue
        if merged and merged[-1][0] == name:
            merged[-1] = (name, merged[-1][1] + size)
        else:
            merged.append((name, size))
    return tuple(merged)
