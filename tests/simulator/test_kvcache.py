"""Blocks are never lost, and what is evicted is what was freed longest ago."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from extproc.simulator.kvcache import KvCache


def fill(cache: KvCache, hashes: list[int]) -> list[int]:
    """A request that stored these blocks."""
    blocks = cache.allocate(len(hashes))
    assert blocks is not None
    for block, value in zip(blocks, hashes, strict=True):
        cache.store(block, value)
    return blocks


def test_freed_blocks_are_found_again_and_cost_nothing() -> None:
    cache = KvCache(4)
    blocks = fill(cache, [1, 2, 3])
    assert repr(cache) == "<KvCache 3/4 used, 3 cached>"
    cache.release(blocks)
    assert repr(cache) == "<KvCache 0/4 used, 3 cached>"
    assert cache.match([1, 2, 9, 3], 4) == blocks[:2]
    assert cache.match([1, 2, 3], 1) == blocks[:1]
    assert cache.match([9, 1], 2) == []
    cache.acquire(blocks[:2])
    assert cache.used == 2
    assert cache.usage == 0.5


def test_the_least_recently_freed_goes_first_and_tails_before_heads() -> None:
    cache = KvCache(4)
    old, new = fill(cache, [1, 2]), fill(cache, [3, 4])
    cache.release(old)
    cache.release(new)
    cached = []
    for _ in range(4):
        assert cache.allocate(1) is not None
        cached.append([value for value in (1, 2, 3, 4) if cache.match([value], 1)])
    assert cached == [[1, 3, 4], [3, 4], [3], []]
    assert cache.evicted_total == 4


def test_blocks_without_content_go_before_any_other() -> None:
    cache = KvCache(3)
    kept = fill(cache, [1, 2])
    cache.release(kept)
    blank = cache.allocate(1)
    assert blank is not None
    cache.release(blank)
    assert cache.allocate(1) == blank
    assert cache.cached == 2


def test_too_few_blocks_change_nothing() -> None:
    cache = KvCache(2)
    held = cache.allocate(1)
    assert held is not None
    assert cache.allocate(2) is None
    assert cache.used == 1
    assert cache.allocate(0) == []


def test_matched_free_blocks_are_not_counted_as_room() -> None:
    cache = KvCache(3)
    blocks = fill(cache, [1, 2])
    cache.release(blocks)
    assert cache.fits(3, [])
    assert not cache.fits(2, blocks)
    cache.acquire(blocks)
    assert cache.fits(1, blocks)


def test_the_same_content_twice_is_stored_once() -> None:
    cache = KvCache(2)
    first, second = fill(cache, [1])[0], fill(cache, [1])[0]
    assert cache.match([1], 1) == [first] != [second]
    assert cache.cached == 1


def test_without_prefix_caching_nothing_is_found() -> None:
    cache = KvCache(2, prefix_caching=False)
    fill(cache, [1])
    assert cache.match([1], 1) == []


class CacheMachine(RuleBasedStateMachine):
    """Requests come, share prefixes, and go."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.cache = KvCache(6)
        self.references: list[int] = []

    @rule(target=held, hashes=st.lists(st.integers(0, 9), max_size=4, unique=True), new=st.integers(0, 3))
    def come(self, hashes: list[int], new: int) -> list[int]:
        matched = self.cache.match(hashes, 3)
        if not self.cache.fits(new, matched):
            return []
        self.cache.acquire(matched)
        blocks = self.cache.allocate(new)
        assert blocks is not None
        assert not set(blocks) & set(self.references)
        for block, value in zip(blocks, hashes[len(matched) :], strict=False):
            self.cache.store(block, value)
        self.references += matched + blocks
        return matched + blocks

    @rule(blocks=consumes(held))
    def go(self, blocks: list[int]) -> None:
        self.cache.release(blocks)
        for block in blocks:
            self.references.remove(block)

    @invariant()
    def referenced_blocks_are_the_used_ones(self) -> None:
        assert self.cache.used == len(set(self.references))

    @invariant()
    def every_hash_names_one_block(self) -> None:
        found = [self.cache.match([value], 1) for value in range(10)]
        blocks = [blocks[0] for blocks in found if blocks]
        assert len(blocks) == len(set(blocks)) == self.cache.cached <= 6


TestCacheMachine = pytest.mark.filterwarnings("default")(CacheMachine.TestCase)
TestCacheMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
