"""Choices drawn from bytes, front to back. When they run out every choice is the first one, so every program ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Source:
    """Draws from `data`; changing a byte of it changes one choice."""

    __slots__ = ("_at", "_data", "_size")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._size = len(data)
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that were not drawn yet."""
        return self._size - self._at

    def below(self, end: int) -> int:
        """A number from 0 to `end` - 1, at most 255, of one byte."""
        at = self._at
        if at >= self._size:
            return 0
        self._at = at + 1
        return self._data[at] % end

    def number(self, size: int) -> int:
        """An unsigned number of so many bytes; of fewer when they run out."""
        at = self._at
        self._at = min(at + size, self._size)
        return int.from_bytes(self._data[at : self._at], "big")

    def chance(self, of: int) -> bool:
        """True once in `of` times; never when the bytes have run out."""
        at = self._at
        if at >= self._size:
            return of == 1
        self._at = at + 1
        return self._data[at] % of == of - 1

    def pick(self, options: Sequence[T]) -> T:
        """One of at most 256."""
        return options[self.below(len(options))]

    def piece(self, most: int) -> bytes:
        """Up to `most` bytes, at most 255, as they stand."""
        size = self.below(most + 1)
        at = self._at
        self._at = min(at + size, self._size)
        return self._data[at : self._at]

    def rest(self) -> bytes:
        """All that is left."""
        at, self._at = self._at, self._size
        return self._data[at:]

    def cut(self, data: bytes, most: int = 6) -> list[bytes]:
        """`data` in up to `most` pieces, or in single bytes if it is short; some may be empty."""
        size = len(data)
        pieces = self.below(most + 1)
        if pieces == most and 0 < size <= 64:
            return [data[at : at + 1] for at in range(size)]
        places = sorted(self.number(2) % (size + 1) for _ in range(pieces - 1))
        return [data[a:b] for a, b in zip([0, *places], [*places, size], strict=True)]
