"""Digests of many blocks at once: the formula without arrays, and how well blocks are told apart."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from extproc import compiled
from extproc.prefix import digests as arrays
from extproc.prefix import words
from extproc.prefix.digests import WORD_BYTES, keys_of

made = words.running if words.COMPILED else arrays.running
"""As `hashing.chain` has them made."""
_ALL = (1 << 64) - 1
_PLACE, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Said once more here, as a snapshot rests on them."""


def running(data: bytes, begin: int, blocks: int, size: int, before: int) -> bytes:
    """Of a prompt that is `data`."""
    return made(data, begin, blocks, size, before.to_bytes(8, "little"), begin // size)


def digest(block: bytes, place: int) -> int:
    """As the module's docstring has it."""
    words = [int.from_bytes(block[at : at + WORD_BYTES], "little") for at in range(0, len(block), WORD_BYTES)]
    mixed = sum((word ^ word >> 29) * key for word, key in zip(words, keys_of(len(block)), strict=True)) + place * _PLACE & _ALL
    mixed = (mixed ^ mixed >> 32) * _FIRST & _ALL
    mixed = (mixed ^ mixed >> 32) * _SECOND & _ALL
    return mixed ^ mixed >> 32


def alone(block: bytes, place: int = 0) -> int:
    """A block's digest as the arrays have it."""
    begin = place * len(block)
    return int.from_bytes(running(bytes(begin) + block, begin, 1, len(block), 0), "little")


def digests(blocks: list[bytes]) -> set[int]:
    """Of blocks of one size, each as if it stood at the same place: what is told apart is told apart by the bytes."""
    size = len(blocks[0])
    return {int.from_bytes(running(block, 0, 1, size, 0), "little") for block in blocks}


@given(
    data=st.binary(min_size=16, max_size=400), words=st.integers(1, 6), skipped=st.integers(0, 3), before=st.integers(0, _ALL)
)
def test_it_is_the_formula(data: bytes, words: int, skipped: int, before: int) -> None:
    size = words * WORD_BYTES
    blocks = len(data) // size - skipped
    if blocks < 1:
        return
    hashes = np.frombuffer(running(data, skipped * size, blocks, size, before), "<u8")
    expected, hashed = [], before
    for at in range(skipped, skipped + blocks):
        hashed = hashed + digest(data[at * size : (at + 1) * size], at) & _ALL
        expected.append(hashed)
    assert [int(each) for each in hashes] == expected


def test_where_there_is_machine_code_it_does_the_same() -> None:
    assert compiled() == words.COMPILED
    if not words.COMPILED:
        return
    draw = random.Random(5)
    for size in (8, 24, 64, 256, 2048):
        for blocks in (1, 2, 3, 4, 5, 8, 11):
            data = draw.randbytes(size * (blocks + 2) + 5)
            for before in (0, 1, _ALL, draw.getrandbits(64)):
                for skipped in (0, 2):
                    asked = (data, skipped * size + 3, blocks, size, before.to_bytes(8, "little"), skipped)
                    assert words.running(*asked) == arrays.running(*asked)


def test_keys_are_odd_and_all_different() -> None:
    keys = keys_of(8 * 512)
    assert len(set(keys)) == 512
    assert all(key % 2 and 0 < key <= _ALL for key in keys)


@pytest.mark.parametrize("size", [8, 64, 128])
def test_every_byte_counts(size: int) -> None:
    """All blocks that are another one but for a byte: no two have the same digest, nor have any two of their digests' halves
    more often in common than by chance."""
    text = (b"You are a helpful assistant. Answer briefly, and say so when you do not know. " * 4)[:size]
    blocks = [text]
    for at in range(size):
        blocks += [text[:at] + bytes([value]) + text[at + 1 :] for value in range(256) if value != text[at]]
    found = digests(blocks)
    assert len(found) == len(blocks)
    pairs = len(blocks) ** 2 / 2 / 2**32
    for half in ({each >> 32 for each in found}, {each & 0xFFFFFFFF for each in found}):
        assert len(blocks) - len(half) <= 5 + 3 * pairs


def test_two_bytes_in_two_words() -> None:
    """Where one product modulo 2^64 fails: the same bit, at the same place, of two words; upper and lower case."""
    text = b"ab cd ef" * 8
    for bit in range(8):
        for place in range(8):
            blocks = []
            for one in range(8):
                for other in range(one):
                    block = bytearray(text)
                    block[one * 8 + place] ^= 1 << bit
                    block[other * 8 + place] ^= 1 << bit
                    blocks.append(bytes(block))
            assert len(digests(blocks)) == len(blocks) == 28, (bit, place)


def test_letters_in_upper_and_lower_case_at_the_ends_of_all_words() -> None:
    """8,192 blocks; of a sum of words as they are there are 8 digests."""
    words_of = (b"a word X", b"a word x")
    blocks = [b"".join([words_of[mask >> at & 1] for at in range(13)]) for mask in range(1 << 13)]
    keys = np.array(keys_of(104), dtype=np.uint64)
    words = np.frombuffer(b"".join(blocks), "<u8").reshape(-1, 13)
    assert len(np.unique(words @ keys)) < 100
    assert len(digests(blocks)) == len(blocks)


def test_words_and_blocks_that_changed_places() -> None:
    draw = random.Random(3)
    words = [draw.randbytes(8) for _ in range(8)]
    blocks = []
    for one in range(8):
        for other in range(one):
            swapped = list(words)
            swapped[one], swapped[other] = words[other], words[one]
            blocks.append(b"".join(swapped))
    assert len(digests(blocks)) == 28
    pieces = [draw.randbytes(64) for _ in range(20)]
    ends = set()
    for one in range(20):
        for other in range(one):
            swapped = list(pieces)
            swapped[one], swapped[other] = pieces[other], pieces[one]
            ends.add(running(b"".join(swapped), 0, 20, 64, 0)[-8:])
    assert len(ends) == 190


def test_all_alike_but_for_a_number() -> None:
    """Prompts of programs: a counter in one of several places, in figures and in binary."""
    blocks = [
        b"%06d" % number + b" is the number of a row in a table, see row 001234, " + b"page 7" for number in range(30_000)
    ]
    assert len(digests(blocks)) == len(blocks)
    ids = np.zeros((20_000, 16), dtype="<u4")
    ids[:, 5] = np.arange(20_000)
    ids[:, 11] = 20_000 - np.arange(20_000)
    assert len(digests([row.tobytes() for row in ids])) == 20_000


@pytest.mark.parametrize("kind", ["text", "noise"])
def test_a_bit_of_a_block_changes_half_of_the_digest(kind: str) -> None:
    """Each bit of the digest, by each bit of the block: with a chance of a half, whose 150 tosses are within 6 standard
    deviations (0.25), and on average within 0.005."""
    draw, size, tosses = random.Random(4), 24, 150
    counts = np.zeros((size * 8, 64))
    for _ in range(tosses):
        block = draw.randbytes(size) if kind == "noise" else draw.randbytes(size // 2).hex().encode()
        flipped = []
        for bit in range(size * 8):
            other = bytearray(block)
            other[bit // 8] ^= 1 << bit % 8
            flipped.append(alone(bytes(other)))
        changed = np.array(flipped, dtype="<u8") ^ np.uint64(alone(block))
        counts += np.unpackbits(changed.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    assert abs(counts.mean() / tosses - 0.5) < 0.005
    assert np.abs(counts / tosses - 0.5).max() < 0.25


def test_places_in_a_table_are_taken_evenly() -> None:
    """The lowest and the highest byte of a chain over one letter: χ² of 255 degrees of freedom, above 350 once in 30,000."""
    hashes = np.frombuffer(running(b"a" * 64 * 20_000, 0, 20_000, 64, 0), "<u8")
    for byte in (hashes & np.uint64(255), hashes >> np.uint64(56)):
        counts = np.bincount(byte.astype(np.int64), minlength=256)
        assert float(((counts - 20_000 / 256) ** 2 / (20_000 / 256)).sum()) < 350


def test_the_values_stay() -> None:
    """Snapshots rest on it: other values want another `snapshot.VERSION`."""
    assert running(bytes(range(64)) * 2, 0, 2, 64, 1).hex() == "31c406fe7722694c0199573bc471f349"
