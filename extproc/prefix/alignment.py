"""Where each holder of the tree stands among the endpoints that are asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from extproc.candidates import ARRAY_SIZE, Column
from extproc.domain import Endpoint

_KEPT: Final = 4
"""Sequences that are remembered: of a pool's candidates, and whatever else is asked about."""
_FEW: Final = 12
"""Bits that are written one by one, at 0.1 µs each; more cost 5 µs together."""


class Alignment:
    """Of one sequence, for as long as no endpoint comes or goes."""

    def __init__(self, endpoints: Sequence[Endpoint], holders: Mapping[str, int]) -> None:
        self.endpoints = endpoints
        self.mask = 0
        """The holders that are there."""
        self._size = len(endpoints)
        self._position: list[int] = [0] * (1 + max(holders.values(), default=0))
        for position, endpoint in enumerate(endpoints):
            holder = holders.get(endpoint.key, -1)
            if holder >= 0:
                self.mask |= 1 << holder
                self._position[holder] = position
        self._array: Any = None

    def zeros(self) -> Column:
        """A new column."""
        if self._size < ARRAY_SIZE:
            return [0.0] * self._size
        import numpy as np

        return cast(Column, np.zeros(self._size))

    def write(self, column: Column, holders: int, value: int) -> None:
        """The same for all of these holders, a bit each, which are among `mask`."""
        if self._size >= ARRAY_SIZE and holders.bit_count() > _FEW:
            self._write_many(column, holders, value)
            return
        number = float(value)
        while holders:
            lowest = holders & -holders
            column[self._position[lowest.bit_length() - 1]] = number
            holders ^= lowest

    def _write_many(self, column: Column, holders: int, value: int) -> None:
        import numpy as np

        if self._array is None:
            self._array = np.asarray(self._position, dtype=np.intp)
        found = np.frombuffer(holders.to_bytes((holders.bit_length() + 7) // 8, "little"), dtype=np.uint8)
        cast(Any, column)[self._array[np.unpackbits(found, bitorder="little").nonzero()[0]]] = value


class Alignments:
    """The last few. A sequence is known again by being the very same object, so it may not be changed."""

    def __init__(self) -> None:
        self._kept: list[Alignment] = []

    def of(self, endpoints: Sequence[Endpoint], holders: Mapping[str, int]) -> Alignment:
        """Of this sequence; `holders` by `Endpoint.key`."""
        for kept in self._kept:
            if kept.endpoints is endpoints:
                return kept
        made = Alignment(endpoints, holders)
        self._kept = [made, *self._kept[: _KEPT - 1]]
        return made

    def clear(self) -> None:
        """A holder came or went."""
        self._kept = []
