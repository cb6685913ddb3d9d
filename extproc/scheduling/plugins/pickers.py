"""Pickers: from total points to an ordered list of positions. What each chooses by is in the rows at the end.

`maxNumOfEndpoints` above 1 gives ordered fallbacks after the first.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from math import log
from typing import Final

from extproc.candidates import Candidates, Column
from extproc.scheduling import columns
from extproc.scheduling.plugins.base import PluginType, Random
from extproc.scheduling.plugins.parameters import MaxScoreParameters, PickerParameters

_SAME: Final = 1e-9
"""Totals closer than this are equal: they differ by rounding."""
_INFINITE: Final = float("inf")
_BUSIER: Final = 1.0
"""Who takes turns has at most this many requests in flight more than the least busy: who has more is not done yet."""


class MaxScorePicker:
    """`max-score-picker`.

    Upstream draws among equals at random. The power of two choices keeps the spread and avoids the busier of the two
    (Mitzenmacher 2001), which matters when all scores are equal because nothing is known.

    With a tolerance who is almost as good takes turns: the one that was picked the longest ago has most likely computed the
    prompt that it got then, which no page tells.
    """

    def __init__(self, count: int = 1, tolerance: float = 0.0) -> None:
        """`count` endpoints are named, at least one: the pick and its fallbacks. Totals at most `tolerance` apart count as
        equal, and their endpoints take turns; 0: equals are drawn."""
        self._count = max(1, count)
        self.tolerance = tolerance

    def pick(self, totals: Column, candidates: Candidates, random: Random) -> Sequence[int]:
        if self.tolerance > 0.0 and len(candidates.picked_at):
            first = _in_turn(totals, self.tolerance, candidates, random)
        else:
            first = _best(totals, candidates.in_flight, random)
        count = min(self._count, len(totals))
        if count == 1:
            return (first,)
        in_flight = candidates.in_flight
        rest = heapq.nsmallest(
            count - 1,
            (position for position in range(len(totals)) if position != first),
            key=lambda position: (-totals[position], in_flight[position]),
        )
        return (first, *rest)


def _best(totals: Column, in_flight: Column, random: Random) -> int:
    equals: Sequence[int]
    if isinstance(totals, list):
        least = columns.highest(totals) - _SAME
        equals = [position for position, total in enumerate(totals) if total >= least]
    else:
        equals = (totals >= totals.max() - _SAME).nonzero()[0].tolist()
    number = len(equals)
    if number == 1:
        return int(equals[0])
    one = int(random() * number)
    other = int(random() * (number - 1))
    if other >= one:
        other += 1
    a, b = int(equals[one]), int(equals[other])
    return b if in_flight[b] < in_flight[a] else a


def _in_turn(totals: Column, tolerance: float, candidates: Candidates, random: Random) -> int:
    """Of those within the tolerance who are not clearly busier than another, the one that was picked the longest ago; of
    several that never were, one that is drawn."""
    in_flight, picked_at = candidates.in_flight, candidates.picked_at
    least = columns.highest(totals) - tolerance - _SAME
    if not isinstance(totals, list):
        return columns.longest_ago((totals >= least).nonzero()[0], in_flight, _BUSIER, picked_at, random)
    assert isinstance(in_flight, list)
    assert isinstance(picked_at, list)
    good: list[int] = []
    most = _INFINITE
    for position, total in enumerate(totals):
        if total >= least:
            good.append(position)
            if in_flight[position] < most:
                most = in_flight[position]
    if len(good) == 1:
        return good[0]
    most += _BUSIER
    turn = _INFINITE
    next_ones: list[int] = []
    for position in good:
        at = picked_at[position]
        if at > turn or in_flight[position] > most:
            continue
        if at < turn:
            turn = at
            next_ones.clear()
        next_ones.append(position)
    return next_ones[0] if len(next_ones) == 1 else next_ones[int(random() * len(next_ones))]


class RandomPicker:
    """`random-picker`."""

    def __init__(self, count: int = 1) -> None:
        """`count` endpoints are named, at least one: the pick and its fallbacks."""
        self._count = max(1, count)

    def pick(self, totals: Column, candidates: Candidates, random: Random) -> Sequence[int]:
        number = len(totals)
        count = min(self._count, number)
        if count == 1:
            return (int(random() * number),)
        positions = list(range(number))
        for at in range(count):
            swap = at + int(random() * (number - at))
            positions[at], positions[swap] = positions[swap], positions[at]
        return positions[:count]


class WeightedRandomPicker:
    """`weighted-random-picker` (Efraimidis and Spirakis 2006, algorithm A-Res). All points 0: uniform.

    The keys are logarithms, log(U) / points: of few points U^(1/points) is 0, and many zeros would make the first win.
    """

    def __init__(self, count: int = 1) -> None:
        """`count` endpoints are named, at least one: the pick and its fallbacks."""
        self._count = max(1, count)
        self._uniform = RandomPicker(count)

    def pick(self, totals: Column, candidates: Candidates, random: Random) -> Sequence[int]:
        if not max(totals) > 0:
            return self._uniform.pick(totals, candidates, random)
        # Endpoints without points draw the smaller key: they follow, in random order, when more are asked for.
        keys = [(1, log(1.0 - random()) / total) if total > 0 else (0, random()) for total in totals]
        return heapq.nlargest(min(self._count, len(keys)), range(len(keys)), key=keys.__getitem__)


TYPES: Final = (
    PluginType(
        "max-score-picker",
        "picker",
        "most points; among equals the less busy of two drawn at random. With a `tolerance` who has at most so much less is as "
        "good, and they take turns: of those with the fewest requests in flight, or one more, who was picked the longest ago",
        MaxScoreParameters,
        lambda parameters, kit: MaxScorePicker(parameters.max_num_of_endpoints, parameters.tolerance),
    ),
    PluginType(
        "random-picker",
        "picker",
        "uniform",
        PickerParameters,
        lambda parameters, kit: RandomPicker(parameters.max_num_of_endpoints),
    ),
    PluginType(
        "weighted-random-picker",
        "picker",
        "chance in proportion to the points, without replacement",
        PickerParameters,
        lambda parameters, kit: WeightedRandomPicker(parameters.max_num_of_endpoints),
    ),
)
