"""From the first hash of a run to its node: open addressing in arrays, 20 bytes a node where a dict of ints takes 130.

In shards that grow each by itself, so that no request waits for a table of a million nodes to be laid out anew.
"""

from __future__ import annotations

from array import array
from typing import Final

KEY_MASK: Final = (1 << 62) - 1
_SHARD_BITS: Final = 6
_SHARDS: Final = 1 << _SHARD_BITS
_SMALLEST: Final = 8


class NodeTable:
    """Keys are 0 to `KEY_MASK` and evenly spread, nodes are numbers from 1. Linear probing; a removal closes its gap."""

    def __init__(self) -> None:
        self._keys = array("q", [0])  # of each node
        self._shards: list[array[int]] = [array("i", bytes(4 * _SMALLEST)) for _ in range(_SHARDS)]
        self._used = [0] * _SHARDS

    def find(self, key: int) -> int:
        """The node, 0 when there is none."""
        shard = self._shards[key & (_SHARDS - 1)]
        last = len(shard) - 1
        at = (key >> _SHARD_BITS) & last
        node = int(shard[at])
        while node and self._keys[node] != key:
            at = (at + 1) & last
            node = int(shard[at])
        return node

    def add(self, key: int, node: int) -> None:
        """A key that is not there yet."""
        while len(self._keys) <= node:
            self._keys.append(0)
        self._keys[node] = key
        number = key & (_SHARDS - 1)
        self._used[number] += 1
        if self._used[number] * 3 > len(self._shards[number]) * 2:
            self._grow(number)
        self._place(self._shards[number], key, node)

    def remove(self, node: int) -> None:
        """A node that is there."""
        key = int(self._keys[node])
        number = key & (_SHARDS - 1)
        shard = self._shards[number]
        last = len(shard) - 1
        gap = (key >> _SHARD_BITS) & last
        while shard[gap] != node:
            gap = (gap + 1) & last
        self._used[number] -= 1
        at = (gap + 1) & last
        while shard[at]:
            home = (int(self._keys[shard[at]]) >> _SHARD_BITS) & last
            if ((at - home) & last) >= ((at - gap) & last):  # it was looked for across the gap
                shard[gap] = shard[at]
                gap = at
            at = (at + 1) & last
        shard[gap] = 0

    def _grow(self, number: int) -> None:
        old = self._shards[number]
        new: array[int] = array("i", bytes(8 * len(old)))
        self._shards[number] = new
        for node in old:
            if node:
                self._place(new, int(self._keys[node]), node)

    def _place(self, shard: array[int], key: int, node: int) -> None:
        last = len(shard) - 1
        at = (key >> _SHARD_BITS) & last
        while shard[at]:
            at = (at + 1) & last
        shard[at] = node
