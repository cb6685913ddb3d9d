"""The numbers of two answers: predictions and embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

MOST_LOOKED_AT: Final = 10_000
"""Numbers, texts and brackets of one answer; what is behind these is not compared."""


class Gap(NamedTuple):
    """How far two answers' numbers are apart."""

    compared: int
    """How many were compared."""
    largest: float
    mean: float
    """Of the absolute differences."""
    other_shape: bool = False
    """They do not have the same numbers of the same things, so only the first ones were compared."""


def numbers_in(value: Any) -> tuple[tuple[float, ...], int]:
    """The numbers of a JSON value in its order (an object's by its keys), and a hash of what they are numbers of.

    True and false are 1 and 0, as some classifiers answer with them and some with numbers. Texts are part of the shape.
    """
    numbers: list[float] = []
    shape: list[str] = []
    for kind in islice(_walk(value), MOST_LOOKED_AT):
        if isinstance(kind, float):
            numbers.append(kind)
        else:
            shape.append(f"{len(numbers)}{kind}")
    return tuple(numbers), hash(tuple(shape))


def _walk(value: Any) -> Iterator[float | str]:
    """Without recursion: JSON may be deep."""
    left = [iter((value,))]
    while left:
        each = next(left[-1], _END)
        if each is _END:
            left.pop()
            yield "]"
        elif isinstance(each, bool | int | float):
            yield _number(each)
        elif isinstance(each, Mapping):
            keys = sorted(each)
            yield "{" + "\0".join(keys)
            left.append(iter([each[key] for key in keys]))
        elif isinstance(each, list | tuple):
            yield "["
            left.append(iter(each))
        else:
            yield f"={each}"


_END: Final = object()


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return float("inf") if value > 0 else float("-inf")


def gap_of(one: tuple[tuple[float, ...], int], other: tuple[tuple[float, ...], int]) -> Gap:
    """Between what `numbers_in` gave for two answers."""
    pairs = list(zip(one[0], other[0], strict=False))
    apart = [_apart(a, b) for a, b in pairs]
    largest = max(apart, default=0.0)
    mean = sum(apart) / len(apart) if apart else 0.0
    return Gap(len(pairs), largest, mean, len(one[0]) != len(other[0]) or one[1] != other[1])


def _apart(one: float, other: float) -> float:
    """NaN is equal to itself here, and infinitely far from everything else."""
    if one == other or (one != one and other != other):
        return 0.0
    apart = abs(one - other)
    return apart if apart == apart else float("inf")
