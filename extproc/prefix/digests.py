"""Digests of many blocks of a prompt at once, as arrays: 0.02 µs a block of 64 bytes, 0.05 µs one of 256.

A block is words w₀, w₁, … of 8 bytes, read little-endian. With keys k (fixed random odd numbers) and everything modulo 2^64:

    x = w ⊕ w≫29      a = Σ xⱼ·kⱼ + place·g      digest = S(F(a))
    F(a) = f·(a ⊕ a≫32)      S(b) = c ⊕ c≫32, c = s·(b ⊕ b≫32)

x, F and S mix bits and lose none; f, g and s are SplitMix64's constants. The hash of a block is that of the block before plus
its digest.

**Why x.** A product modulo 2^64 carries differences up and never down: of two blocks that differ in two words by d and e, both
multiples of 2^t, the sum is the same with a chance of about 2^(t − 63), which for a pair of letters in upper and lower case at
the ends of two words is a quarter. In x the end of a word is in its middle too: for those letters t is 32, and 34 at most where
one byte of each word is another. Only two bytes of a word that are made for it come near the quarter again. Blocks that
differ in one word alone never have the same digest, as keys are odd.

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
DOWN: Final = 29
"""Bits by which x has a word beside itself: no multiple of 8, so that alike bytes of a word do not take each other away."""

_keys: Final[dict[int, Any]] = {}


def keys_of(block_bytes: int) -> list[int]:
    """k for blocks of so many bytes: odd, 64 bits, the same wherever this runs."""
    return [xxhash.xxh3_64_intdigest(b"k", seed=at) | 1 for at in range(block_bytes // WORD_BYTES)]


def running(data: bytes, begin: int, blocks: int, block_bytes: int, before: bytes, place: int) -> bytes:
    """The hashes of so many full blocks of `data` from `begin` on, 8 bytes each, little-endian.

    `before` is the hash of the block before them, or the seed, `place` the number of the first of them in its prompt.
    `block_bytes` is a multiple of `WORD_BYTES`, and so many blocks are there.
    """
    import numpy as np

    keys, step, first, second, half, down = _constants(block_bytes)
    count = blocks * (block_bytes // WORD_BYTES)
    words = np.frombuffer(data, dtype="<u8", count=count, offset=begin).reshape(blocks, -1)
    mixed: Any = np.arange(place, place + blocks, dtype=np.uint64)
    mixed *= step
    mixed += _sums(words ^ (words >> down), keys)
    mixed ^= mixed >> half
    mixed *= first
    mixed ^= mixed >> half
    mixed *= second
    mixed ^= mixed >> half
    mixed[:1] += np.frombuffer(before, dtype="<u8")
    return bytes(np.add.accumulate(mixed, out=mixed).astype("<u8", copy=False).tobytes())


def _sums(words: Any, keys: Any) -> Any:
    """Σ xⱼ·kⱼ of each block. numpy has no fast product of matrices for integers: `einsum` is a third faster for long rows, and
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
        kept = _keys[block_bytes] = (
            np.array(keys_of(block_bytes), dtype=np.uint64),
            np.uint64(PLACE),
            np.uint64(FIRST),
            np.uint64(SECOND),
            np.uint64(32),
            np.uint64(DOWN),
        )
    return kept
