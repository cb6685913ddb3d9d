"""Digests of many blocks of a prompt at once, as arrays: 0.02 µs a block of 64 bytes, 0.05 µs one of 256.

A block is words w₀, w₁, … of 8 bytes, read little-endian, and w′₀, w′₁, … the same bytes read big-endian. With keys k and k′
(fixed random odd numbers) and everything modulo 2^64:

    a = Σ wⱼ·kⱼ      b = Σ w′ⱼ·k′ⱼ      digest = S(F(a + place·g) + b)
    F(x) = f·(x ⊕ x≫32)      S(x) = y ⊕ y≫32, y = s·(x ⊕ x≫32)

F and S mix bits both ways and lose none; f, g and s are SplitMix64's constants. The hash of a block is that of the block before
plus its digest.

**Why two sums.** One product modulo 2^64 carries differences up and never down: of two blocks that differ in two words by d
and e, both multiples of 2^t, a is the same with a chance of about 2^(t − 64), which for a pair of letters in upper and lower
case at the ends of two words is a quarter. Read the other way round the same difference is a multiple of a small power only: a
byte at place i of a word is 2^(8·i) in w and 2^(8·(7 − i)) in w′. Both sums are the same with a chance of about 2^−57 at most,
whichever bytes are others, and with none when it is one word alone. That the digest is the same though the sums are not has a
chance of about 2^−64, as F stands between them; a difference in one sum alone is always one of the digest.

**Why adding is enough.** The place is in the digest, so swapped blocks give another sum. Two chains of different prompts are
equal at a place when differences of digests add up to nothing: 2^−64 for what was not made for it. Whoever wants to make it
can, as with XXH3; what comes of that is in `hashing`.

`tests/prefix/test_digests.py` holds all of this against a formula without arrays, and against texts. Where there is machine
code, `prefix.words` does the same without arrays.
"""

from __future__ import annotations

from typing import Any, Final

import xxhash

WORD_BYTES: Final = 8
KEYS_KEPT: Final = 16
"""Sizes of blocks whose keys are remembered. A picker has one or two."""
_LONG_ROW: Final = 32
"""Words of a block."""
PLACE: Final = 0x9E3779B97F4A7C15
FIRST: Final = 0xBF58476D1CE4E5B9
SECOND: Final = 0x94D049BB133111EB
"""g, f and s."""

_keys: Final[dict[int, Any]] = {}


def keys_of(block_bytes: int) -> tuple[list[int], list[int]]:
    """k and k′ for blocks of so many bytes: odd, 64 bits, the same wherever this runs."""
    words = range(block_bytes // WORD_BYTES)
    return (
        [xxhash.xxh3_64_intdigest(b"k", seed=at) | 1 for at in words],
        [xxhash.xxh3_64_intdigest(b"k'", seed=at) | 1 for at in words],
    )


def running(data: bytes, begin: int, blocks: int, block_bytes: int, before: bytes, place: int) -> bytes:
    """The hashes of so many full blocks of `data` from `begin` on, 8 bytes each, little-endian.

    `before` is the hash of the block before them, or the seed, `place` the number of the first of them in its prompt.
    `block_bytes` is a multiple of `WORD_BYTES`, and so many blocks are there.
    """
    import numpy as np

    keys, reversed_keys, step, first, second, half = _constants(block_bytes)
    count = blocks * (block_bytes // WORD_BYTES)
    words = np.frombuffer(data, dtype="<u8", count=count, offset=begin).reshape(blocks, -1)
    mixed: Any = np.arange(place, place + blocks, dtype=np.uint64)
    mixed *= step
    mixed += _sums(words, keys)
    mixed ^= mixed >> half
    mixed *= first
    mixed += _sums(words.view(">u8").astype(np.uint64), reversed_keys)
    mixed ^= mixed >> half
    mixed *= second
    mixed ^= mixed >> half
    mixed[:1] += np.frombuffer(before, dtype="<u8")
    return bytes(np.add.accumulate(mixed, out=mixed).astype("<u8", copy=False).tobytes())


def _sums(words: Any, keys: Any) -> Any:
    """Σ wⱼ·kⱼ of each block. numpy has no fast product of matrices for integers: `einsum` is a third faster for long rows, and
    the other way round a fifth for short ones. All three are the same modulo 2^64."""
    import numpy as np

    return np.einsum("ij,j->i", words, keys) if len(keys) >= _LONG_ROW else keys @ words.T


def _constants(block_bytes: int) -> Any:
    """As numpy wants them."""
    kept = _keys.get(block_bytes)
    if kept is None:
        import numpy as np

        if len(_keys) >= KEYS_KEPT:
            _keys.clear()
        keys, reversed_keys = keys_of(block_bytes)
        kept = _keys[block_bytes] = (
            np.array(keys, dtype=np.uint64),
            np.array(reversed_keys, dtype=np.uint64),
            np.uint64(PLACE),
            np.uint64(FIRST),
            np.uint64(SECOND),
            np.uint64(32),
        )
    return kept
