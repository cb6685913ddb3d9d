"""Aligned columns over the members that may be picked: lists for small pools, arrays for large ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

from extproc.candidates import ARRAY_SIZE, Candidates, Column

UNKNOWN: Final = float("nan")


def make_column(values: Iterable[float]) -> Column:
    """A new column, of the kind that its length asks for. numpy is imported with the first large pool only."""
    column = list(values)
    if len(column) < ARRAY_SIZE:
        return column
    import numpy as np

    return cast(Column, np.asarray(column, dtype=np.float64))


def no_candidates() -> Candidates:
    """Of a pool without endpoints."""
    return Candidates(endpoints=[], waiting=[], running=[], kv_usage=[], in_flight=[], stamp=object())
