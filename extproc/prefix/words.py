"""The digests of `prefix.digests` word by word: what arrays are for Python's bytecode, a loop is for machine code.

It reads a prompt once and writes nothing but hashes, where arrays make a copy of the prompt and go through both: half the time
when the prompt is not in the processor's cache, as one that has just come never is wholly. Only where `COMPILED`: numbers
are C's of 64 bits there, which begin anew when they are full. Python's own grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter, read_i64_le, write_i64_le

from extproc.prefix.digests import DOWN, FIRST, KEYS_KEPT, PLACE, SECOND, WORD_BYTES, keys_of

if TYPE_CHECKING:
    from mypy_extensions import i64

COMPILED: Final = not __file__.endswith(".py")
"""Whether this is machine code."""

_NUMBERS: Final = b"".join([number.to_bytes(WORD_BYTES, "little") for number in (PLACE, FIRST, SECOND)])
"""As bytes, as a constant beyond 62 bits is an object of Python that is looked at each time."""
_LOW: Final[i64] = 0xFFFFFFFF
_DOWN: Final[i64] = DOWN
_BELOW: Final[i64] = 0x7FFFFFFFF
"""What is left of a word that was shifted by that."""

_keys: Final[dict[int, bytes]] = {}


def running(data: bytes, begin: int, blocks: int, block_bytes: int, before: bytes, place: int) -> bytes:
    """As `digests.running`."""
    keys = _keys.get(block_bytes)
    if keys is None:
        if len(_keys) >= KEYS_KEPT:
            _keys.clear()
        keys = _keys[block_bytes] = b"".join([key.to_bytes(WORD_BYTES, "little") for key in keys_of(block_bytes)])
    return _hashes(data, begin, blocks, block_bytes, keys, before, place)


def _hashes(data: bytes, begin: i64, blocks: i64, size: i64, keys: bytes, before: bytes, first: i64) -> bytes:
    """Four blocks at a time, for each of which the keys are read once."""
    out = BytesWriter()
    step: i64 = read_i64_le(_NUMBERS, 0)
    inner: i64 = read_i64_le(_NUMBERS, 8)
    outer: i64 = read_i64_le(_NUMBERS, 16)
    hashed: i64 = read_i64_le(before, 0)
    place: i64 = first * step
    at: i64 = begin
    last: i64 = begin + blocks * size
    four: i64 = 4 * size
    while at + four <= last:
        a1: i64 = place
        a2: i64 = place + step
        a3: i64 = a2 + step
        a4: i64 = a3 + step
        place = a4 + step
        word: i64 = 0
        at1: i64 = at
        at2: i64 = at1 + size
        at3: i64 = at2 + size
        at4: i64 = at3 + size
        at = at4 + size
        while word < size:
            key: i64 = read_i64_le(keys, word)
            w1: i64 = read_i64_le(data, at1)
            a1 += (w1 ^ ((w1 >> _DOWN) & _BELOW)) * key
            w2: i64 = read_i64_le(data, at2)
            a2 += (w2 ^ ((w2 >> _DOWN) & _BELOW)) * key
            w3: i64 = read_i64_le(data, at3)
            a3 += (w3 ^ ((w3 >> _DOWN) & _BELOW)) * key
            w4: i64 = read_i64_le(data, at4)
            a4 += (w4 ^ ((w4 >> _DOWN) & _BELOW)) * key
            word += 8
            at1 += 8
            at2 += 8
            at3 += 8
            at4 += 8
        hashed += _digest(a1, inner, outer)
        write_i64_le(out, hashed)
        hashed += _digest(a2, inner, outer)
        write_i64_le(out, hashed)
        hashed += _digest(a3, inner, outer)
        write_i64_le(out, hashed)
        hashed += _digest(a4, inner, outer)
        write_i64_le(out, hashed)
    while at < last:
        a1 = place
        word = 0
        while word < size:
            w1 = read_i64_le(data, at)
            a1 += (w1 ^ ((w1 >> _DOWN) & _BELOW)) * read_i64_le(keys, word)
            word += 8
            at += 8
        hashed += _digest(a1, inner, outer)
        write_i64_le(out, hashed)
        place += step
    return out.getvalue()


def _digest(a: i64, inner: i64, outer: i64) -> i64:
    """S(F(a)), f and s."""
    mixed: i64 = (a ^ ((a >> 32) & _LOW)) * inner
    mixed = (mixed ^ ((mixed >> 32) & _LOW)) * outer
    return mixed ^ ((mixed >> 32) & _LOW)
