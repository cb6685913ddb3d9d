"""The KV cache of the engine model: blocks with reference counts, a prefix cache over them, and LRU eviction.

As in vLLM a freed block keeps its content until it is needed for something else, so the prefix cache costs no memory:
usage counts referenced blocks only. Blocks without reusable content are handed out first, then the least recently
freed; of one request the tail goes before the head, because a prefix is worth nothing without its beginning.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class KvCache:
    """Some blocks. The caller asks `match`, checks `fits`, then `acquire`s and `allocate`s; `release` gives back."""

    def __init__(self, blocks: int, *, prefix_caching: bool = True) -> None:
        self.blocks = blocks
        self.prefix_caching = prefix_caching
        self.evicted_total = 0
        self._references = [0] * blocks
        self._hash_of: list[int | None] = [None] * blocks
        self._block_of: dict[int, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(blocks))

    @property
    def used(self) -> int:
        """Blocks that some request refers to."""
        return self.blocks - len(self._free)

    @property
    def cached(self) -> int:
        """Blocks that a prompt can hit, referenced or not."""
        return len(self._block_of)

    @property
    def usage(self) -> float:
        """What vLLM reports as `kv_cache_usage_perc`: 0 to 1."""
        return self.used / self.blocks

    def match(self, hashes: Sequence[int], limit: int) -> list[int]:
        """The longest cached prefix of `hashes`, at most `limit` blocks. Nothing is held: acquire before allocating."""
        found: list[int] = []
        for value in hashes[:limit]:
            block = self._block_of.get(value)
            if block is None:
                break
            found.append(block)
        return found

    def fits(self, count: int, matched: Sequence[int]) -> bool:
        """Whether `count` new blocks are to be had when the matched ones are kept."""
        return count <= len(self._free) - sum(1 for block in matched if not self._references[block])

    def acquire(self, blocks: Iterable[int]) -> None:
        """Refer to matched blocks."""
        for block in blocks:
            if not self._references[block]:
                del self._free[block]
            self._references[block] += 1

    def allocate(self, count: int) -> list[int] | None:
        """New blocks, evicting what was least recently used; None, and nothing happens, when there are too few."""
        if count > len(self._free):
            return None
        taken = []
        for _ in range(count):
            block, _ = self._free.popitem(last=False)
            value = self._hash_of[block]
            if value is not None:
                del self._block_of[value]
                self._hash_of[block] = None
                self.evicted_total += 1
            self._references[block] = 1
            taken.append(block)
        return taken

    def store(self, block: int, value: int) -> None:
        """Make a full block findable. A second block with the same content stays anonymous."""
        if self.prefix_caching and self._hash_of[block] is None and value not in self._block_of:
            self._hash_of[block] = value
            self._block_of[value] = block

    def release(self, blocks: Sequence[int]) -> None:
        """Drop a request's references, given in the order of its tokens."""
        for block in reversed(blocks):
            self._references[block] -= 1
            if not self._references[block]:
                self._free[block] = None
                if self._hash_of[block] is None:
                    self._free.move_to_end(block, last=False)

    def __repr__(self) -> str:
        return f"<KvCache {self.used}/{self.blocks} used, {self.cached} cached>"
