"""Runs of block hashes and who holds them: a radix tree in arrays, with an LRU list for each holder.

A run is a piece of a chain that everybody who holds any of it holds whole. As a hash stands for all before it
(`prefix.hashing`), a run is found by its first hash alone, wherever in the tree it hangs, be it in the middle of another:
nodes need no links to their parents and children, and two places of a chain are compared by looking at the places
themselves.

Why runs: a hash in a table of its own costs 12 to 16 bytes with the best of packing, 80 in a dict, and a table for each
endpoint is asked for each of them. Prompts are few and long: a run costs 8 bytes a block and about 130 once, whoever wants
to know about 1,600 blocks asks about as many places as prompts parted on the way, and a new prompt is one new run. All is
in arrays and bytes, so that millions of blocks cost the garbage collector nothing.

Holders are small numbers, and a bit each in a node's mask. A hold (one holder, one node) stands in the list of its holder,
from the one used longest ago to the one used last. Who touches a chain touches its end first and its beginning last, so the
beginning is always newer than what follows it: what leaves first is an end, and who holds a block holds all before it.
"""

from __future__ import annotations

from array import array
from typing import Final

from extproc.prefix.hashing import HASH_BYTES
from extproc.prefix.holds import Holds
from extproc.prefix.table import KEY_MASK, NodeTable

NODE_BYTES: Final = 92
"""What a node costs besides its hashes: its places in the lists and arrays, in the table, and the head of a bytes object,
each with the slack of its container. Held against the process' memory by `tests.bench.prefix`."""


class Tree:
    """Nodes and holds. Everything here is for `prefix.index`, which knows endpoints, capacities and bounds."""

    def __init__(self) -> None:
        self._table = NodeTable()
        self._runs: list[bytes] = [b""]  # 0 is no node
        self._free_nodes: list[int] = []
        self.holds = Holds()
        self._node = array("i", [0])  # of a hold; 0 is none
        self._older = array("i", [0])
        self._newer = array("i", [0])
        self._free_holds: list[int] = []
        self._ends: list[int] = []  # of each holder, a hold of no node: the list is a ring through it
        self.blocks: list[int] = []
        """How many blocks each holder holds."""
        self.nodes = 0
        self.distinct = 0
        """Blocks, each counted once."""

    # -- asked ---------------------------------------------------------------------------------------------------

    @property
    def bytes_used(self) -> int:
        """Of memory, by counting."""
        return self.nodes * NODE_BYTES + self.distinct * HASH_BYTES + self.holds.bytes_used

    def find(self, key: int) -> int:
        """The node whose first hash this is, as `key_at` reads it; 0: there is none."""
        return self._table.find(key)

    def mask(self, node: int) -> int:
        """A bit for each holder; 0 of no node."""
        return self.holds.mask(node)

    def run(self, node: int) -> bytes:
        """Its hashes."""
        return self._runs[node]

    def common(self, node: int, hashes: bytes, keys: memoryview, position: int) -> int:
        """How many blocks the node's run and the chain from `position` on have in common, when the first is one of them."""
        run = self._runs[node]
        if hashes.startswith(run, position * HASH_BYTES):
            return len(run) // HASH_BYTES
        low, high = 1, min(len(run) // HASH_BYTES, len(keys) - position)
        own = memoryview(run).cast("q")
        if own[high - 1] == keys[position + high - 1]:
            return high
        while high - low > 1:  # equal up to `low`, different at `high`
            middle = (low + high) >> 1
            if own[middle - 1] == keys[position + middle - 1]:
                low = middle
            else:
                high = middle
        return low

    def oldest(self, holder: int) -> int:
        """The holder's node that was used longest ago, 0 when it holds none."""
        return int(self._node[self._newer[self._ends[holder]]])

    def runs_of(self, holder: int) -> list[bytes]:
        """What it holds, used longest ago first."""
        found, end = [], self._ends[holder]
        hold = int(self._newer[end])
        while hold != end:
            found.append(self._runs[self._node[hold]])
            hold = int(self._newer[hold])
        return found

    # -- changed -------------------------------------------------------------------------------------------------

    def add_holder(self) -> int:
        """A new one, which holds nothing."""
        end = self._new_hold(0)
        self._older[end] = self._newer[end] = end
        self._ends.append(end)
        self.holds.add_holder()
        self.blocks.append(0)
        return len(self._ends) - 1

    def create(self, run: bytes, holder: int) -> int:
        """A new node with its first holder, used just now."""
        node = self._new_node(run)
        self._hold(node, holder, self._ends[holder])
        return node

    def touch(self, node: int, holder: int) -> None:
        """The holder uses the node now, and holds it from now on if it did not."""
        end = self._ends[holder]
        if not self.holds.has(node, holder):
            self._hold(node, holder, end)
            return
        hold = self.holds.find(node, holder)
        if self._newer[hold] != end:
            self._unlink(hold)
            self._link(hold, end)

    def split(self, node: int, blocks: int) -> int:
        """Cut the node's run behind so many of its blocks; the rest is a new node, just older with each holder. Returns
        that."""
        run = self._runs[node]
        self._runs[node] = run[: blocks * HASH_BYTES]
        rest = self._new_node(run[blocks * HASH_BYTES :])
        size = len(self._runs[rest]) // HASH_BYTES
        self.distinct -= size  # counted already, and so below
        for hold in self.holds.of(node):
            holder = int(self.holds.holder[hold])
            self._hold(rest, holder, hold)
            self.blocks[holder] -= size
        return rest

    def join(self, node: int, following: int) -> bool:
        """Make one node of two that stand one behind the other in a chain, if all who hold one used both at once: then
        nobody can tell the difference."""
        mask = self.holds.mask(node)
        if node == following or not mask or mask != self.holds.mask(following):
            return False
        holds = self.holds.of(following)
        for hold in holds:
            if self._node[self._newer[hold]] != node:
                return False
        run = self._runs[following]
        for hold in holds:
            holder = int(self.holds.holder[hold])
            self.drop(following, holder)
            self.blocks[holder] += len(run) // HASH_BYTES
        self._runs[node] += run
        self.distinct += len(run) // HASH_BYTES
        return True

    def shorten(self, holder: int, blocks: int) -> None:
        """Take so many blocks off the end of what the holder used longest ago: all of that node, when it has no more."""
        node = self.oldest(holder)
        left = len(self._runs[node]) // HASH_BYTES - blocks
        if left > 0:
            if self.holds.alone(node, holder):
                self._runs[node] = self._runs[node][: left * HASH_BYTES]
                self.distinct -= blocks
                self.blocks[holder] -= blocks
                return
            node = self.split(node, left)
        self.drop(node, holder)

    def drop(self, node: int, holder: int) -> None:
        """The holder holds the node no more; without any, it is gone. A holder drops what it used longest ago."""
        hold = self.holds.remove(node, holder)
        self._unlink(hold)
        self._node[hold] = 0
        self._free_holds.append(hold)
        blocks = len(self._runs[node]) // HASH_BYTES
        self.blocks[holder] -= blocks
        if not self.holds.mask(node):
            self._table.remove(node)
            self._runs[node] = b""
            self._free_nodes.append(node)
            self.nodes -= 1
            self.distinct -= blocks

    # -- inside --------------------------------------------------------------------------------------------------

    def _new_node(self, run: bytes) -> int:
        if self._free_nodes:
            node = self._free_nodes.pop()
            self._runs[node] = run
        else:
            node = len(self._runs)
            self._runs.append(run)
        self.holds.add_node(node)
        self._table.add(key_at(memoryview(run).cast("q"), 0), node)
        self.nodes += 1
        self.distinct += len(run) // HASH_BYTES
        return node

    def _new_hold(self, node: int) -> int:
        if self._free_holds:
            hold = self._free_holds.pop()
            self._node[hold] = node
            return hold
        self._node.append(node)
        self._older.append(0)
        self._newer.append(0)
        self.holds.add_place()
        return len(self._node) - 1

    def _hold(self, node: int, holder: int, newer: int) -> None:
        """The holder holds the node, and used it just before `newer`."""
        hold = self._new_hold(node)
        self.holds.add(node, holder, hold)
        self._link(hold, newer)
        self.blocks[holder] += len(self._runs[node]) // HASH_BYTES

    def _link(self, hold: int, newer: int) -> None:
        older = self._older[newer]
        self._older[hold] = older
        self._newer[hold] = newer
        self._newer[older] = hold
        self._older[newer] = hold

    def _unlink(self, hold: int) -> None:
        older, newer = self._older[hold], self._newer[hold]
        self._newer[older] = newer
        self._older[newer] = older


def key_at(hashes: memoryview, position: int) -> int:
    """What `find` takes for a chain's hash at this position. Below 2^62, as compiled code counts with such numbers at once."""
    return int(hashes[position]) & KEY_MASK
