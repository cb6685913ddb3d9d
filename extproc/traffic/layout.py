"""Who has which of the 10,000 buckets that a key is hashed into, so that a changed split moves as few keys as it can.

A layout is runs of buckets, from bucket 0 on: `((0, 1000), (1, 9000))` gives the first 1,000 to the entity at position 0. In
list order it is the cumulative sum of the shares. From one split to the next, an entity whose share grows keeps all it had, and
one whose share shrinks gives exactly what is too much: nobody moves who need not. Neighbours move the border between them, so a
share that is raised and taken back has the same keys as before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

BUCKETS: Final = 10_000
_EACH: Final = BUCKETS // 100

Layout: TypeAlias = tuple[tuple[int, int], ...]
"""Runs of (position of the entity, number of buckets); the numbers add up to 10,000."""
NamedLayout: TypeAlias = tuple[tuple[str, int], ...]
"""The same with the entity's name: positions change from one version of an endpoint to the next, names stay."""


def in_order(percentages: Sequence[int]) -> Layout:
    """The layout of a split that had none before: cumulative, in the order of the list. The percentages add up to 100."""
    return tuple([(position, share * _EACH) for position, share in enumerate(percentages) if share])


def laid_out(percentages: Mapping[str, int], previous: NamedLayout = ()) -> NamedLayout:
    """The layout of a split that follows another. `percentages` are whole, 0 to 100, and add up to 100.

    An entity that is new, or back, has nothing before. Where no border can move, the last buckets of who shrinks go to whoever
    grows, in the order of the mapping.
    """
    if sum(percentages.values()) != 100:
        raise ValueError(f"the percentages add up to {sum(percentages.values())}; expected 100")
    if not previous:
        return tuple([(name, share * _EACH) for name, share in percentages.items() if share])
    excess = {name: -share * _EACH for name, share in percentages.items()}
    for name, size in previous:
        excess[name] = excess.get(name, 0) + size
    runs = _merged(previous)
    while _moved_a_border(runs, excess):
        runs = _merged(runs)
    growing = [name for name in percentages if excess[name] < 0]
    growing.reverse()  # the next one is the last
    moved_runs: list[tuple[str, int]] = []
    for name, size in reversed(runs):
        given = min(size, max(0, excess[name]))
        excess[name] -= given
        while given:
            taker = growing[-1]
            taken = min(given, -excess[taker])
            moved_runs.append((taker, taken))
            excess[taker] += taken
            given -= taken
            size -= taken
            if not excess[taker]:
                growing.pop()
        moved_runs.append((name, size))
    moved_runs.reverse()
    return tuple(_merged(moved_runs))


def _moved_a_border(runs: list[tuple[str, int]], excess: dict[str, int]) -> bool:
    """Between neighbours of which one grows and the other shrinks, the border moves: back again when the shares go back."""
    changed = False
    for at in range(len(runs) - 1):
        (left, left_size), (right, right_size) = runs[at], runs[at + 1]
        if excess[left] > 0 > excess[right]:
            size = min(excess[left], left_size, -excess[right])
        elif excess[left] < 0 < excess[right]:
            size = -min(excess[right], right_size, -excess[left])
        else:
            continue
        runs[at], runs[at + 1] = (left, left_size - size), (right, right_size + size)
        excess[left] -= size
        excess[right] += size
        changed = True
    return changed


def _merged(runs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Without empty runs, and with neighbours of the same name as one."""
    merged: list[tuple[str, int]] = []
    for name, size in runs:
        if not size:
            continue
        if merged and merged[-1][0] == name:
            size += merged.pop()[1]
        merged.append((name, size))
    return merged


def positioned(layout: NamedLayout, names: Sequence[str]) -> Layout:
    """By position instead of by name. Raises KeyError for a name that is not among `names`."""
    position_of = {name: position for position, name in enumerate(names)}
    return tuple([(position_of[name], size) for name, size in layout])


def moves(before: NamedLayout, after: NamedLayout) -> tuple[tuple[int, int, str, str], ...]:
    """Runs of buckets that have another owner: first, last, the owner before and after. None where there was no layout."""
    if not before or not after:
        return ()
    found: list[tuple[int, int, str, str]] = []
    at = 0
    mine, theirs = list(reversed(before)), list(reversed(after))
    while mine and theirs:
        (name, size), (other, others) = mine.pop(), theirs.pop()
        both = min(size, others)
        if name != other and both:
            first = at
            if found and found[-1][1] == at - 1 and found[-1][2:] == (name, other):
                first = found.pop()[0]
            found.append((first, at + both - 1, name, other))
        at += both
        if size > both:
            mine.append((name, size - both))
        if others > both:
            theirs.append((other, others - both))
    return tuple(found)


def moved(before: NamedLayout, after: NamedLayout) -> int:
    """How many of the 10,000 buckets have another owner; all of them where there was no layout before."""
    if not before or not after:
        return BUCKETS
    return sum([last - first + 1 for first, last, _, _ in moves(before, after)])
