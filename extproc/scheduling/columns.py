"""Arithmetic on columns: one meaning, for lists and for numpy arrays.

NaN is unknown and always scores 0: an endpoint of which nothing is known is not an idle one.

Lists are gone through in plain loops: compiled, these cost a fifth of `min`, `max` and a `zip` that is strict, which are calls
of Python's then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import nlargest
from typing import TYPE_CHECKING, Final, cast

from extproc.candidates import Column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_INFINITE: Final = float("inf")


def lower_is_better(column: Column) -> Column:
    """(max - x) / (max - min) over the known values, 1 when they are all equal; 0 for the unknown."""
    if not isinstance(column, list):
        return _lower_is_better_array(column)
    low, high = _INFINITE, -_INFINITE
    known = True
    for value in column:
        if value < low:
            low = value
        if value > high:
            high = value
        elif value != value:
            known = False
    if not low < high:  # all equal, or all unknown
        return [1.0 if value == value else 0.0 for value in column]
    span = high - low
    if known:
        return [(high - value) / span for value in column]
    return [(high - value) / span if value == value else 0.0 for value in column]


def _lower_is_better_array(column: NDArray[np.float64]) -> Column:
    import numpy as np

    high = float(np.fmax.reduce(column))
    span = high - float(np.fmin.reduce(column))
    if not span > 0:  # all equal, or all unknown
        return cast(Column, (column == column).astype(np.float64))
    scores = (high - column) / span
    scores[scores != scores] = 0.0
    return cast(Column, scores)


def complement(column: Column) -> Column:
    """1 - x for x in 0..1; 0 for the unknown."""
    if isinstance(column, list):
        return [1.0 - value if value == value else 0.0 for value in column]
    scores = 1.0 - column
    scores[scores != scores] = 0.0
    return cast(Column, scores)


def busyness(column: Column, idle: float, most: float) -> Column:
    """1 where x <= idle, else (max - x) / max * most. Nothing is unknown here: we count these ourselves."""
    if isinstance(column, list):
        high = _largest_of(column)
        if high <= idle:
            return [1.0] * len(column)
        scale = most / high
        return [1.0 if value <= idle else (high - value) * scale for value in column]
    import numpy as np

    high = float(np.maximum.reduce(column))
    if high <= idle:
        return cast(Column, np.ones_like(column))
    scores = (high - column) * (most / high)
    scores[column <= idle] = 1.0
    return cast(Column, scores)


def less_waiting(column: Column, threshold: float) -> Column:
    """0.5 * (1 - min(x, threshold) / threshold); 0 for the unknown."""
    if isinstance(column, list):
        return [0.5 * (1.0 - min(value, threshold) / threshold) if value == value else 0.0 for value in column]
    import numpy as np

    scores = 0.5 * (1.0 - np.minimum(column, threshold) / threshold)
    scores[scores != scores] = 0.0
    return cast(Column, scores)


def at_most(column: Column, most: float) -> list[int] | None:
    """Positions of what is at most that, and of the unknown; None when that is all."""
    if isinstance(column, list):
        kept = [position for position, value in enumerate(column) if not value > most]
    else:
        kept = (~(column > most)).nonzero()[0].tolist()
    return kept if len(kept) < len(column) else None


def below(column: Column, bound: float) -> list[int]:
    """Positions of what is known and less than that."""
    if isinstance(column, list):
        return [position for position, value in enumerate(column) if value < bound]
    return (column < bound).nonzero()[0].tolist()


def with_room(waiting: Column, kv_usage: Column, most: float, fullest: float) -> list[int]:
    """Positions of those with less than both, as far as one of the two is known."""
    if isinstance(waiting, list):
        return [
            position
            for position, (queue, used) in enumerate(zip(waiting, kv_usage, strict=True))
            if not (queue >= most or used >= fullest) and (queue == queue or used == used)
        ]
    used_of = cast("NDArray[np.float64]", kv_usage)
    room = ~((waiting >= most) | (used_of >= fullest)) & ((waiting == waiting) | (used_of == used_of))
    kept: list[int] = room.nonzero()[0].tolist()
    return kept


def between(column: Column, low: float, high: float, *, unknown: bool, outside: bool = False) -> list[int]:
    """Positions of what is from `low` to `high`, or outside of that; and of the unknown where those are wanted."""
    if isinstance(column, list):
        return [
            position
            for position, value in enumerate(column)
            if (unknown if value != value else (low <= value <= high) != outside)
        ]
    inside = (column >= low) & (column <= high)
    wanted = ~inside if outside else inside
    absent = column != column
    kept: list[int] = ((wanted | absent) if unknown else (wanted & ~absent)).nonzero()[0].tolist()
    return kept


def rescaled(column: Column, low: float, high: float, *, higher: bool) -> Column:
    """Where x is from `low` (0) to `high` (1), or the other way round; what is outside counts as the end. 0 for the unknown."""
    span = high - low
    if isinstance(column, list):
        shares = [min(max((value - low) / span, 0.0), 1.0) if value == value else -1.0 for value in column]
        return [(share if higher else 1.0 - share) if share >= 0.0 else 0.0 for share in shares]
    import numpy as np

    scores = np.clip((column - low) / span, 0.0, 1.0)
    if not higher:
        scores = 1.0 - scores
    scores[scores != scores] = 0.0
    return cast(Column, scores)


def range_of(column: Column) -> tuple[float, float] | None:
    """The least and the largest of the known; None when nothing is known."""
    if isinstance(column, list):
        known = [value for value in column if value == value]
        return (min(known), max(known)) if known else None
    import numpy as np

    low = float(np.fmin.reduce(column))
    return None if low != low else (low, float(np.fmax.reduce(column)))


def least(column: Column, parts: int) -> list[int] | None:
    """Positions of what is in the first of as many equal parts of the range of the known; None for all, and when none is known.

    The unknown are not among them.
    """
    if isinstance(column, list):
        known = [value for value in column if value == value]
        if not known:
            return None
        low = min(known)
        bound = low + (max(known) - low) / parts
        kept = [position for position, value in enumerate(column) if value <= bound]
    else:
        import numpy as np

        low = float(np.fmin.reduce(column))
        if low != low:
            return None
        bound = low + (float(np.fmax.reduce(column)) - low) / parts
        kept = (column <= bound).nonzero()[0].tolist()
    return kept if len(kept) < len(column) else None


def both(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """What is in both, in the order of the first."""
    among = set(other)
    return [position for position in one if position in among]


def add_weighted(total: Column, column: Column, weight: float) -> Column:
    """total + x * weight, as a new column."""
    if isinstance(total, list) and isinstance(column, list):
        return [base + value * weight for base, value in zip(total, column)]  # noqa: B905  guarded: as long as each other
    return cast("NDArray[np.float64]", total) + cast("NDArray[np.float64]", column) * weight


def like(column: Column, values: list[float]) -> Column:
    """These values, as a column of that one's kind."""
    if isinstance(column, list):
        return values
    import numpy as np

    return cast(Column, np.asarray(values, dtype=np.float64))


def rest_of(whole: float, parts: Column, size: float) -> Column:
    """whole - x * size, at least 0."""
    if isinstance(parts, list):
        return [max(0.0, whole - value * size) for value in parts]
    import numpy as np

    return cast(Column, np.maximum(whole - parts * size, 0.0))


def room(column: Column, most: float) -> Column:
    """1 - min(x, most) / most for x from 0 on."""
    if isinstance(column, list):
        return [1.0 - value / most if value < most else 0.0 for value in column]
    import numpy as np

    return cast(Column, 1.0 - np.minimum(column, most) / most)


def zeros_like(column: Column) -> Column:
    """As many zeros."""
    if isinstance(column, list):
        return [0.0] * len(column)
    return column * 0.0


def raised(column: Column, position: int) -> Column:
    """A copy in which that position has the largest value."""
    if isinstance(column, list):
        copy = list(column)
        copy[position] = max(column)
        return copy
    array = column.copy()
    array[position] = array.max()
    return cast(Column, array)


def largest(column: Column, most: int) -> list[int]:
    """Positions of the `most` largest values, the largest first, of equal ones the first first."""
    if isinstance(column, list):
        return nlargest(most, range(len(column)), key=column.__getitem__)
    import numpy as np

    return cast("list[int]", np.argsort(-column, kind="stable")[:most].tolist())


def scaled(column: Column, factor: float) -> Column:
    """x * factor, as a new column."""
    if isinstance(column, list):
        return [value * factor for value in column]
    return cast(Column, column * factor)


def squared_share(column: Column, factor: float) -> Column:
    """min(1, x * factor) squared."""
    if isinstance(column, list):
        return [min(1.0, value * factor) ** 2 for value in column]
    import numpy as np

    share = np.minimum(column * factor, 1.0)
    return cast(Column, share * share)


def highest(column: Column) -> float:
    """The largest value."""
    return _largest_of(column) if isinstance(column, list) else float(column.max())


def _largest_of(values: list[float]) -> float:
    """`max` of what is all known."""
    high = values[0]
    for value in values:
        if value > high:
            high = value
    return high


def longest_ago(
    positions: NDArray[np.intp], in_flight: Column, busier: float, picked_at: Column, random: Callable[[], float]
) -> int:
    """Of these positions of arrays, the one that was picked the longest ago, of those that have at most `busier` requests in
    flight more than any other; of several that never were, one that is drawn."""
    assert not isinstance(in_flight, list)
    assert not isinstance(picked_at, list)
    busy = in_flight[positions]
    positions = positions[busy <= busy.min() + busier]
    turns = picked_at[positions]
    first = positions[turns == turns.min()]
    return int(first[0] if len(first) == 1 else first[int(random() * len(first))])


def floats(column: Column) -> list[float]:
    """The values, to go through one by one; to read only."""
    return column if isinstance(column, list) else cast("list[float]", column.tolist())


def lowest_of(column: Column, positions: list[int]) -> tuple[float, float]:
    """The lowest value at these positions, and that at all others; infinite where none is known."""
    infinite = float("inf")
    if isinstance(column, list):
        chosen = set(positions)
        one = min([column[position] for position in positions if column[position] == column[position]], default=infinite)
        rest = [value for position, value in enumerate(column) if value == value and position not in chosen]
        return one, min(rest, default=infinite)
    import numpy as np

    known = np.where(column == column, column, infinite)
    mask = np.zeros(len(known), dtype=bool)
    mask[positions] = True
    return float(known[mask].min(initial=infinite)), float(known[~mask].min(initial=infinite))
