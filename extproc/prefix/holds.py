"""Who holds a node: a bit for each holder, and which hold is whose.

Most nodes have one holder, the ends of prompts; a few have all, as a system prompt that everybody uses. So the holds of a
node are a linked list in arrays, or a dict where there are many, as a thousand holders would be looked through for each
insert.
"""

from __future__ import annotations

from array import array
from typing import Final, cast

HOLD_BYTES: Final = 22
"""A hold in the arrays here and in `tree`, with their slack."""
CROWD: Final = 16
"""From so many holders on, a node's holds are in a dict."""


class Holds:
    """By node: holders, and their holds. Both are numbers; nodes and holds count from 1."""

    def __init__(self) -> None:
        self._masks: list[object] = [0]  # objects, as compiled code makes a new one each time that it stores an int
        self._first = array("i", [0])
        self._bits: list[int] = []
        self._alone: list[object] = []  # the same numbers
        self._crowds: dict[int, dict[int, int]] = {}
        self.holder = array("i", [0])
        """Of a hold."""
        self._sibling = array("i", [0])
        self.number = 0
        self._shared = 0
        self._crowded = 0

    def __len__(self) -> int:
        return self.number

    @property
    def bytes_used(self) -> int:
        """Of memory, by counting: what a mask of several holders takes, and a hold in a dict."""
        return self.number * HOLD_BYTES + self._shared * (48 + len(self._bits) // 7) + self._crowded * 120

    def add_holder(self) -> None:
        """The next number."""
        self._bits.append(1 << len(self._bits))
        self._alone.append(self._bits[-1])

    def add_place(self) -> None:
        """There may be one hold more: the next number."""
        self.holder.append(0)
        self._sibling.append(0)

    def add_node(self, node: int) -> None:
        """A node without holders: a new number, or one that lost its last."""
        if node == len(self._masks):
            self._masks.append(0)
            self._first.append(0)

    def mask(self, node: int) -> int:
        """A bit for each holder of the node."""
        return cast(int, self._masks[node])

    def has(self, node: int, holder: int) -> bool:
        """Whether it is one of them."""
        return bool(self.mask(node) & self._bits[holder])

    def alone(self, node: int, holder: int) -> bool:
        """Whether it is the only one, of a node that it holds."""
        return self.mask(node) == self._bits[holder]

    def of(self, node: int) -> list[int]:
        """The node's holds."""
        crowd = self._crowds.get(node) if self._crowds else None
        if crowd is not None:
            return list(crowd.values())
        found: list[int] = []
        hold = int(self._first[node])
        while hold:
            found.append(hold)
            hold = int(self._sibling[hold])
        return found

    def find(self, node: int, holder: int) -> int:
        """The hold of a holder that holds the node."""
        if self._crowds:
            crowd = self._crowds.get(node)
            if crowd is not None:
                return crowd[holder]
        hold = int(self._first[node])
        while self.holder[hold] != holder:
            hold = int(self._sibling[hold])
        return hold

    def add(self, node: int, holder: int, hold: int) -> None:
        """It holds the node from now on, by this hold."""
        self.holder[hold] = holder
        self.number += 1
        mask = self.mask(node)
        if not mask:
            self._masks[node] = self._alone[holder]
            self._link(node, hold)
            return
        if mask & (mask - 1) == 0:
            self._shared += 1
        self._masks[node] = mask | self._bits[holder]
        crowd = self._crowds.get(node) if self._crowds else None
        if crowd is not None:
            crowd[holder] = hold
            self._crowded += 1
            return
        self._link(node, hold)
        if mask.bit_count() >= CROWD - 1:
            holds = self.of(node)
            self._crowds[node] = {int(self.holder[each]): each for each in holds}
            self._crowded += len(holds)
            self._first[node] = 0

    def remove(self, node: int, holder: int) -> int:
        """It holds the node no more. Returns its hold, which is free."""
        self.number -= 1
        mask = self.mask(node) & ~self._bits[holder]
        crowd = self._crowds.get(node) if self._crowds else None
        if crowd is not None:
            hold = crowd.pop(holder)
            self._crowded -= 1
            if len(crowd) < CROWD // 2:
                self._dissolve(node, crowd)
        else:
            hold = self._unlink(node, holder)
        if mask and mask & (mask - 1) == 0:
            self._shared -= 1
            self._masks[node] = self._alone[self.holder[self._first[node]]]
        else:
            self._masks[node] = mask
        return hold

    def _dissolve(self, node: int, crowd: dict[int, int]) -> None:
        del self._crowds[node]
        self._crowded -= len(crowd)
        for hold in crowd.values():
            self._link(node, hold)

    def _link(self, node: int, hold: int) -> None:
        self._sibling[hold] = self._first[node]
        self._first[node] = hold

    def _unlink(self, node: int, holder: int) -> int:
        hold, before = int(self._first[node]), 0
        while self.holder[hold] != holder:
            before, hold = hold, int(self._sibling[hold])
        if before:
            self._sibling[before] = self._sibling[hold]
        else:
            self._first[node] = self._sibling[hold]
        return hold
