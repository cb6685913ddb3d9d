"""Averages of what was measured at endpoints, in which the new counts more than the old.

    average = Σ value × 2^(−age / half life) / Σ 2^(−age / half life)

What is believed of an endpoint is its own average, and the pool's as one more measurement: of who was not measured, or not for
long, the pool's is, so that nobody is avoided for ever for a bad start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from extproc.candidates import Candidates, Column
from extproc.domain import Endpoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Average:
    """Of one endpoint, or of all."""

    __slots__ = ("at_s", "value", "weight")

    def __init__(self) -> None:
        self.value = 0.0
        self.weight = 0.0
        """Of the measurements, at `at_s`."""
        self.at_s = 0.0

    def add(self, value: float, now_s: float, half_life_s: float) -> None:
        """One more measurement."""
        weight = self.weight_at(now_s, half_life_s)
        self.value += (value - self.value) / (weight + 1.0)
        self.weight = weight + 1.0
        self.at_s = now_s

    def weight_at(self, now_s: float, half_life_s: float) -> float:
        """What the measurements count now."""
        weight: float = self.weight * 2.0 ** ((self.at_s - now_s) / half_life_s)
        return weight


class Averages:
    """By endpoint. One that leaves or starts anew is forgotten."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._by_key: dict[str, Average] = {}
        self._pool = Average()
        self._endpoints: Sequence[Endpoint] = ()
        self._row: list[Average] = []
        """Of the endpoints that the next column is of."""
        self._arrays: NDArray[np.float64] | None = None
        """Of these, value, weight and time each in a row, where their columns are arrays."""
        self._slots: dict[str, int] = {}
        self._none = Average()
        self.number = 0
        """Measurements in all."""

    def add(self, key: str, value: float, now_s: float) -> None:
        """Measured at this endpoint."""
        average = self._by_key.get(key)
        if average is None:
            average = self._by_key[key] = Average()
            self._endpoints = ()
        average.add(value, now_s, self._half_life_s)
        arrays = self._arrays
        if arrays is not None and key in self._slots:
            arrays[:, self._slots[key]] = (average.value, average.weight, average.at_s)
        self._pool.add(value, now_s, self._half_life_s)
        self.number += 1

    def forget(self, key: str) -> None:
        if self._by_key.pop(key, None) is not None:
            self._endpoints = ()

    def column(self, candidates: Candidates, now_s: float) -> Column | None:
        """What is believed of each; None when nothing was ever measured."""
        if not self.number:
            return None
        if candidates.endpoints is not self._endpoints:
            self._lay_out(candidates)
        pool, half_life_s = self._pool.value, self._half_life_s
        if self._arrays is not None:
            return _believed(self._arrays, pool, now_s, half_life_s)
        believed: list[float] = []
        for average in self._row:
            weight = average.weight
            if weight:
                weight *= 2.0 ** ((average.at_s - now_s) / half_life_s)
                believed.append((weight * average.value + pool) / (weight + 1.0))
            else:
                believed.append(pool)
        return believed

    def _lay_out(self, candidates: Candidates) -> None:
        none = self._none
        self._row = [self._by_key.get(endpoint.key, none) for endpoint in candidates.endpoints]
        self._endpoints = candidates.endpoints
        self._arrays = None
        if not isinstance(candidates.in_flight, list):
            import numpy as np

            rows = [(average.value, average.weight, average.at_s) for average in self._row]
            self._arrays = np.asarray(rows, dtype=np.float64).T.copy()
            self._slots = {endpoint.key: slot for slot, endpoint in enumerate(candidates.endpoints)}

    def dump(self, most: int) -> dict[str, float]:
        """The averages of so many endpoints."""
        return {key: average.value for key, average in list(self._by_key.items())[:most]}

    def __len__(self) -> int:
        return len(self._by_key)


def _believed(arrays: NDArray[np.float64], pool: float, now_s: float, half_life_s: float) -> Column:
    import numpy as np

    values, weights, times = arrays
    weights = weights * np.exp2((times - now_s) / half_life_s)
    return cast(Column, (weights * values + pool) / (weights + 1.0))
