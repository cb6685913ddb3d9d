"""Two people have changed the same split: what each has changed, and what both together come to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Share(NamedTuple):
    """One entity's, in percent; None where it is not there."""

    name: str
    began: int | None
    """When the editor was opened."""
    theirs: int | None
    """As it is now."""
    mine: int | None


class Merge(NamedTuple):
    """What to choose from."""

    shares: tuple[Share, ...]
    mine: Mapping[str, int]
    """What was wanted; empty when the entities are others now."""
    together: Mapping[str, int]
    """Both changes, one upon the other; empty when that is no split, or the same as one of them."""


def merged(began: Mapping[str, int], theirs: Mapping[str, int], mine: Mapping[str, int]) -> Merge:
    """Of three splits of 100 each."""
    names = list(dict.fromkeys([*theirs, *began, *mine]))
    shares = tuple([Share(name, began.get(name), theirs.get(name), mine.get(name)) for name in names])
    if set(mine) != set(theirs):
        return Merge(shares, {}, {})
    wanted = {name: mine[name] for name in theirs}
    if set(began) != set(theirs):
        return Merge(shares, wanted, {})
    both = {name: theirs[name] + mine[name] - began[name] for name in theirs}
    good = all(0 <= share <= 100 for share in both.values()) and sum(both.values()) == 100
    return Merge(shares, wanted, both if good and both not in (wanted, dict(theirs)) else {})
