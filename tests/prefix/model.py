"""The index as it is meant: an OrderedDict of hashes for each endpoint, oldest first."""

from __future__ import annotations

from collections import OrderedDict

from extproc.prefix.hashing import HASH_BYTES

DEFAULT = 40


def blocks_of(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


class Model:
    def __init__(self) -> None:
        self.held: dict[str, OrderedDict[bytes, None]] = {}
        self.capacities: dict[str, int] = {}

    def insert(self, endpoint: str, hashes: bytes) -> None:
        held = self.held.setdefault(endpoint, OrderedDict())
        for block in reversed(blocks_of(hashes)):
            held[block] = None
            held.move_to_end(block)
        self.fit(endpoint)

    def fit(self, endpoint: str) -> None:
        held = self.held.get(endpoint, OrderedDict())
        while len(held) > self.capacities.get(endpoint, DEFAULT):
            held.popitem(last=False)

    def set_capacity(self, endpoint: str, blocks: int) -> None:
        self.capacities[endpoint] = blocks
        self.fit(endpoint)

    def forget(self, endpoint: str) -> None:
        self.held.pop(endpoint, None)
        self.capacities.pop(endpoint, None)

    def matched(self, endpoint: str, hashes: bytes) -> int:
        held = self.held.get(endpoint, OrderedDict())
        count = 0
        for block in blocks_of(hashes):
            if block not in held:
                break
            count += 1
        return count
