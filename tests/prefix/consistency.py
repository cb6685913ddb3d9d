"""What always holds inside an index."""

from __future__ import annotations

from extproc.prefix.hashing import HASH_BYTES
from extproc.prefix.holds import CROWD
from extproc.prefix.index import PrefixIndex
from extproc.prefix.tree import key_at


def check(index: PrefixIndex) -> None:
    tree = index._tree
    holds = tree.holds
    live = [node for node, run in enumerate(tree._runs) if run]
    sizes = {node: len(tree._runs[node]) // HASH_BYTES for node in live}
    masks = [tree.mask(node) for node in live]
    assert tree.nodes == len(live)
    assert tree.distinct == sum(sizes.values())
    assert len(holds) == sum(mask.bit_count() for mask in masks)
    assert holds._shared == sum(mask.bit_count() > 1 for mask in masks)
    assert holds._crowded == sum(len(crowd) for crowd in holds._crowds.values())
    assert all(len(crowd) >= CROWD // 2 for crowd in holds._crowds.values())
    for node in live:
        assert tree.find(key_at(memoryview(tree._runs[node]).cast("q"), 0)) == node
        of = holds.of(node)
        assert all(tree._node[hold] == node for hold in of)
        assert sum(1 << holds.holder[hold] for hold in of) == tree.mask(node) != 0
        assert all(holds.find(node, holds.holder[hold]) == hold for hold in of)
    for holder, end in enumerate(tree._ends):
        held, hold = 0, tree._newer[end]
        while hold != end:
            assert tree._older[tree._newer[hold]] == hold
            assert holds.holder[hold] == holder
            held += sizes[tree._node[hold]]
            hold = tree._newer[hold]
        assert held == tree.blocks[holder]
