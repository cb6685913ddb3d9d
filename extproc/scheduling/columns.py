"""Arithmetic on columns: one meaning, for lists and for numpy arrays.

NaN is unknown and always scores 0: an endpoint of which nothing is known is not an idle one.
"""

from __future__ import annotations

from heapq import nlargest
from typing import TYPE_CHECKING, cast

from extproc.candidates import Column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def lower_is_better(column: Column) -> Column:
    """(max - x) / (max - min) over the known values, 1 when they are all equal; 0 for the unknown."""
    if not isinstance(column, list):
        return _lower_is_better_array(column)
    total = sum(column)
    if total == total:
        low, high = min(column), max(column)
        if low == high:
            return [1.0] * len(column)
        span = high - low
        return [(high - value) / span for value in column]
    known = [value for value in column if value == value]
    if not known:
        return [0.0] * len(column)
    low, high = min(known), max(known)
    span = high - low
    if not span:
        return [1.0 if value == value else 0.0 for value in column]
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
        high = max(column)
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


def add_weighted(total: Column, column: Column, weight: float) -> Column:
    """total + x * weight, as a new column."""
    if isinstance(total, list):
        return [base + value * weight for base, value in zip(total, column, strict=True)]
    return total + cast("NDArray[np.float64]", column) * weight


def like(column: Column, values: list[float]) -> Column:
    """These values, as a column of that one's kind."""
    if isinstance(column, list):
        return values
    import numpy as np

    return cast(Column, np.asarray(values, dtype=np.float64))


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
