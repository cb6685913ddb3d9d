"""What always holds inside an index."""

from __future__ import annotations

from extproc.prefix.hashing import HASH_BYTES
from extproc.prefix.index import PrefixIndex
from extproc.prefix.tree import key_at


def check(index: PrefixIndex) -> None:
    tree = index._tree
    live = [node for node, run in enumerate(tree._runs) if run]
    sizes = {node: len(tree._runs[node]) // HASH_BYTES for node in live}
    assert tree.nodes == len(live)
    assert tree.distinct == sum(sizes.values())
    assert tree.shared == sum(tree._masks[node].bit_count() > 1 for node in live)
    assert tree.holds == sum(tree._masks[node].bit_count() for node in live)
    for node in live:
        assert tree.find(key_at(memoryview(tree._runs[node]).cast("q"), 0)) == node
        mask, hold = 0, tree._first[node]
        while hold:
            assert tree._node[hold] == node
            mask |= 1 << tree._holder[hold]
            hold = tree._sibling[hold]
        assert mask == tree._masks[node] != 0
    for holder, end in enumerate(tree._ends):
        held, hold = 0, tree._newer[end]
        while hold != end:
            assert tree._older[tree._newer[hold]] == hold
            assert tree._holder[hold] == holder
            held += sizes[tree._node[hold]]
            hold = tree._newer[hold]
        assert held == tree.blocks[holder]
