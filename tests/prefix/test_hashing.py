"""Chains of block hashes."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import xxhash
from hypothesis import given

from extproc.document import Span
from extproc.prefix.hashing import HASH_BYTES, block_bytes_of, chain, chain_of, seed_of


def common(one: bytes, other: bytes) -> int:
    count = 0
    while one[: HASH_BYTES * (count + 1)] == other[: HASH_BYTES * (count + 1)] and count * HASH_BYTES < min(
        len(one), len(other)
    ):
        count += 1
    return count


@given(same=st.binary(max_size=40), one=st.binary(max_size=20), other=st.binary(max_size=20), block=st.integers(1, 9))
def test_chains_share_the_blocks_that_the_prompts_share(same: bytes, one: bytes, other: bytes, block: int) -> None:
    first, second = same + b"1" + one, same + b"2" + other
    chains = chain(first, 1, block, 1000), chain(second, 1, block, 1000)
    assert common(*chains) == len(same) // block
    assert len(chains[0]) == -(-len(first) // block) * HASH_BYTES


@given(data=st.binary(min_size=1, max_size=60), block=st.integers(1, 9), most=st.integers(0, 70))
def test_at_most_so_many(data: bytes, block: int, most: int) -> None:
    assert chain(data, 1, block, most) == chain(data, 1, block, 1000)[: most * HASH_BYTES]


def test_the_last_block_counts_though_it_is_not_full() -> None:
    assert common(chain(b"abcd", 1, 3, 9), chain(b"abcd", 1, 3, 9)) == 2
    assert common(chain(b"abcd", 1, 3, 9), chain(b"abcde", 1, 3, 9)) == 1
    assert chain(b"", 1, 3, 9) == b""


def test_a_block_stands_for_all_before_it() -> None:
    one, other = chain(b"xaabb", 1, 1, 9), chain(b"yaabb", 1, 1, 9)
    assert not {one[at : at + HASH_BYTES] for at in range(0, 40, 8)} & {other[at : at + HASH_BYTES] for at in range(0, 40, 8)}


def test_models_adapters_and_tenants_have_nothing_in_common() -> None:
    seeds = {
        seed_of("m"),
        seed_of("m", "a"),
        seed_of("m", "", "a"),
        seed_of("ma"),
        seed_of("", "m", "a"),
        seed_of("m", "a", "b"),
        seed_of("m", "ab"),
        seed_of("\ud800"),
    }
    assert len(seeds) == 8
    assert len({chain(b"abc", seed, 4, 9) for seed in seeds}) == 8
    assert all(0 <= seed < 1 << 64 for seed in seeds)


def test_the_values_stay() -> None:
    """Snapshots and replicas rest on it."""
    assert seed_of("m", "a", "s") == 10845910234451302475
    data = bytes(range(250)) * 2
    first = chain(data[:256], 1, 256, 9)
    assert first.hex() == "ee51d4e180b433b2"
    assert chain(data, 1, 256, 9) == first + xxhash.xxh3_64_digest(first + data[256:])
    assert chain(data[:9], 1, 256, 9) == xxhash.xxh3_64_digest((1).to_bytes(8, "little") + data[:9])
    assert chain(data, 1, 255, 9) == xxhash.xxh3_64_digest(data[:255], 1) + xxhash.xxh3_64_digest(data, 1)


def test_bytes_of_a_block() -> None:
    assert (block_bytes_of(64, 4.0), block_bytes_of(16, 3.6), block_bytes_of(1, 0.1)) == (256, 58, 1)


@given(
    same=st.integers(0, 90 * 16),
    one=st.integers(1, 400),
    other=st.integers(1, 400),
    block=st.sampled_from([8, 12, 16]),
    seed=st.integers(0, 2**64 - 1),
)
def test_large_prompts_share_the_blocks_that_they_share(same: int, one: int, other: int, block: int, seed: int) -> None:
    """Whatever comes behind, and however long it is."""
    first, second = b"s" * same + b"1" * one, b"s" * same + b"2" * other
    chains = chain(first, seed, block, 1000), chain(second, seed, block, 1000)
    assert common(*chains) == same // block
    assert len(chains[0]) == -(-len(first) // block) * HASH_BYTES
    hashes = [each[at : at + HASH_BYTES] for each in chains for at in range(0, len(each), HASH_BYTES)]
    assert len(set(hashes)) == len(hashes) - same // block


@given(length=st.integers(1, 100 * 8), most=st.integers(0, 110))
def test_a_large_prompt_is_cut_where_it_is_asked_to_be(length: int, most: int) -> None:
    data = bytes(at % 251 for at in range(length))
    assert chain(data, 1, 8, most) == chain(data, 1, 8, 1000)[: most * HASH_BYTES]


@given(length=st.integers(1, 100 * 8), less=st.integers(0, 100 * 8))
def test_a_prompt_that_goes_on_has_all_full_blocks_of_the_one_before(length: int, less: int) -> None:
    data = bytes(at % 251 for at in range(length))
    before, after = chain(data[: min(less, length)], 1, 8, 1000), chain(data, 1, 8, 1000)
    full = min(less, length) // 8 * HASH_BYTES
    assert before[:full] == after[:full]


def test_seeds_have_nothing_in_common_in_large_prompts_either() -> None:
    data = b"a" * 16 * 200
    chains = [chain(data, seed, 16, 1000) for seed in (1, 2, 3)]
    hashes = {each[at : at + HASH_BYTES] for each in chains for at in range(0, len(each), HASH_BYTES)}
    assert len(hashes) == 600


def test_blocks_of_odd_sizes_are_hashed_one_by_one() -> None:
    data = bytes(range(256)) * 3
    assert chain(data, 1, 7, 1000)[-HASH_BYTES:] == xxhash.xxh3_64_digest(data, 1)
    assert chain(data, 1, 8, 1000)[-HASH_BYTES:] != xxhash.xxh3_64_digest(data, 1)


@given(
    sizes=st.lists(st.integers(0, 300) | st.integers(0, 40_000), max_size=4),
    long=st.sampled_from([0, 60_000, 65_536, 80_000, 131_072]) | st.integers(65_000, 140_000),
    at=st.integers(0, 4),
    block=st.sampled_from([8, 16, 24, 64, 256, 1000, 1024, 7, 250]),
    most=st.sampled_from([1, 63, 64, 65, 300, 2048, 100_000]),
)
def test_a_prompt_in_pieces_has_the_chain_of_the_whole(sizes: list[int], long: int, at: int, block: int, most: int) -> None:
    draw = random.Random(sum(sizes) + long)
    sizes.insert(at, long)
    pieces = [draw.randbytes(size) for size in sizes]
    expected = chain(b"".join(pieces), 5, block, most)
    assert chain_of(pieces, 5, block, most) == expected
    spans = [Span(b"before" + piece + b"behind", 6, 6 + len(piece)) if draw.random() < 0.7 else piece for piece in pieces]
    assert chain_of(spans, 5, block, most) == expected


def test_a_prompt_of_no_pieces_has_no_blocks() -> None:
    assert chain_of((), 5, 256, 100) == b""
