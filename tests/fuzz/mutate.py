"""Changes to an input: a few at once, small ones more often than large ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

MOST_BYTES: Final = 4096
"""Longest input that is made."""

_INTERESTING: Final = (0, 1, 2, 0x0A, 0x0D, 0x20, 0x22, 0x5C, 0x7F, 0x80, 0x81, 0xFE, 0xFF)


def mutated(data: bytes, chance: Random, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """`data` with one to eight changes; `pool` are inputs to take pieces from, `tokens` words to put in."""
    made = bytearray(data)
    for _ in range(1 << int(chance.random() * 4)):
        at = int(chance.random() * (len(made) + 1))
        kind = int(chance.random() * (10 if tokens else 8))
        if kind >= 8:
            token = tokens[int(chance.random() * len(tokens))]
            made[at : at + (len(token) if chance.random() < 0.3 else 0)] = token
        elif at == len(made):
            made += chance.randbytes(1 + int(chance.random() * 4))
        else:
            _KINDS[kind](made, at, chance, pool)
    del made[MOST_BYTES:]
    return bytes(made)


def _flip(made: bytearray, at: int, chance: Random, pool: Sequence[bytes]) -> None:
    made[at] ^= 1 << int(chance.random() * 8)


def _set(made: bytearray, at: int, chance: Random, pool: Sequence[bytes]) -> None:
    made[at] = int(chance.random() * 256)


def _interesting(made: bytearray, at: int, chance: Random, pool: Sequence[bytes]) -> None:
    made[at] = _INTERESTING[int(chance.random() * len(_INTERESTING))]


def _step(made: bytearray, at: int, chance: Random, pool: Sequence[bytes]) -> None:
    made[at] = (made[at] + int(chance.random() * 33) - 16) & 255


def _insert(made: bytearray, at: int, chance: Random, pool: Sequence[bytes]) -> None:
    made[at:at] = chance.randbytes(1 + int(chance.random() * 8))


def _delete(made: bytearray, at: int, chance: Random, pool: Sequence[bytes]) -> None:
    del made[at : at + 1 + int(chance.random() ** 3 * 40)]


def _repeat(made: bytearray, at: int, chance: Random, pool: Sequence[bytes]) -> None:
    size = 1 + int(chance.random() ** 2 * 40)
    made[at:at] = made[at : at + size] * (1 + int(chance.random() ** 4 * 20))


def _splice(made: bytearray, at: int, chance: Random, pool: Sequence[bytes]) -> None:
    other = pool[int(chance.random() * len(pool))]
    begin = int(chance.random() * (len(other) + 1))
    size = int(chance.random() ** 2 * (len(other) - begin)) + 1
    made[at : at + (size if chance.random() < 0.5 else 0)] = other[begin : begin + size]


_KINDS: Final[Sequence[Callable[[bytearray, int, Random, Sequence[bytes]], None]]] = (
    _flip,
    _set,
    _interesting,
    _step,
    _insert,
    _delete,
    _repeat,
    _splice,
)
