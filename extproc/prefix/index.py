"""Which endpoint holds which blocks of which prompts: what was sent to it, as far as it has room for that.

Exactly: each endpoint has an LRU list of block hashes. `insert` uses the blocks of a prompt from the last to the first, so
the first is the newest; then the oldest leave until the endpoint holds no more than its capacity. So who holds a block
holds all before it, and of a prompt that was not used for long the end leaves first, as an engine frees its blocks.
`tests/prefix` holds it against an OrderedDict for each endpoint. Beyond that there is one bound in bytes for all together:
when it is passed, whoever holds most gives up what it used longest ago.

How: `prefix.tree`. A match walks down the runs of one prompt once for all endpoints, with a bit for each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from extproc.candidates import Column
from extproc.domain import Endpoint
from extproc.prefix.alignment import Alignments
from extproc.prefix.hashing import HASH_BYTES
from extproc.prefix.snapshot import Held
from extproc.prefix.tree import Tree, key_at

DEFAULT_CAPACITY: Final = 31_250
"""Blocks of an endpoint whose page does not say how many it has (upstream's `lruCapacityPerServer`)."""
DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024
_SWEPT_AT_ONCE: Final = 32
"""Holds of endpoints that were forgotten, let go with each insert: 60 µs."""
_GIVEN_UP_AT_ONCE: Final = 32
"""Runs that the endpoint which holds most gives up before it is looked again who that is."""
_SLACK_BITS: Final = 12
_MANY_RUNS: Final = 8
"""A chain of more runs is joined where it can be: each turn of a long conversation adds one. Not where a few would be joined
now and cut again by the next prompt that begins with the first of them."""
_MOST_BLOCKS: Final = 1 << 40


class PrefixIndex:
    """One for a pool. Its writer and its readers run on one event loop. Endpoints are named by `Endpoint.key`.

    Hashes are chains of `prefix.hashing.chain`, `HASH_BYTES` for each block. Bytes that are no chain harm nobody and match
    what they may.
    """

    def __init__(self, *, max_bytes: int = DEFAULT_MAX_BYTES, default_capacity: int = DEFAULT_CAPACITY) -> None:
        """`max_bytes` bounds all there is of blocks; `default_capacity` is in blocks, of an endpoint of which nobody says."""
        self._tree = Tree()
        self._max_bytes = max_bytes
        self._default_capacity = default_capacity
        self._holders: dict[str, int] = {}
        self._capacities: dict[str, int] = {}
        self._began: dict[str, float] = {}
        self._leaving: list[int] = []
        """Holders of endpoints that were forgotten, who are still in the tree."""
        self._free: list[int] = []
        self._alignments = Alignments()
        self.evictions = 0
        """Times that the bound in bytes made somebody give up a run."""

    def __repr__(self) -> str:
        return f"<PrefixIndex endpoints={len(self._holders)} blocks={self.size} bytes={self.bytes_used}/{self._max_bytes}>"

    # -- asked ---------------------------------------------------------------------------------------------------

    def match(self, hashes: bytes, endpoints: Sequence[Endpoint]) -> Column:
        """How many leading blocks of the chain each of the endpoints holds, 0 for one that holds none.

        A new column that is aligned to `endpoints`: a list below 64 of them, an array above. Where each of them stands is kept
        for as long as the very same sequence is given, as the whole pool's `Candidates.endpoints` is from one request to the
        next.
        """
        aligned = self._alignments.of(endpoints, self._holders)
        held = aligned.mask
        column = aligned.zeros()
        if not held or not hashes:
            return column
        tree = self._tree
        keys = memoryview(hashes).cast("q")
        position, blocks = 0, len(keys)
        while position < blocks:
            node = tree.find(key_at(keys, position))
            holding = held & tree.mask(node)
            if holding != held:
                if position:
                    aligned.write(column, held & ~holding, position)
                if not holding:
                    return column
                held = holding
            position += tree.common(node, hashes, keys, position)
        aligned.write(column, held, position)
        return column

    def matched(self, hashes: bytes, endpoint: str) -> int:
        """The same for one endpoint."""
        holder = self._holders.get(endpoint, -1)
        if holder < 0:
            return 0
        keys = memoryview(hashes).cast("q")
        position, bit = 0, 1 << holder
        while position < len(keys):
            node = self._tree.find(key_at(keys, position))
            if not self._tree.mask(node) & bit:
                break
            position += self._tree.common(node, hashes, keys, position)
        return position

    @property
    def size(self) -> int:
        """Blocks held, each counted for every endpoint that holds it."""
        return sum([self._tree.blocks[holder] for holder in self._holders.values()])

    @property
    def bytes_used(self) -> int:
        """What all that is known takes of memory, never more than `max_bytes` after an insert."""
        return self._tree.bytes_used

    @property
    def endpoints(self) -> Collection[str]:
        """Those that hold, or held, something."""
        return self._holders.keys()

    def capacity(self, endpoint: str) -> int:
        """In blocks."""
        return self._capacities.get(endpoint, self._default_capacity)

    # -- written -------------------------------------------------------------------------------------------------

    def insert(self, endpoint: str, hashes: bytes) -> None:
        """A prompt with these blocks was sent to the endpoint, which is made known by that.

        Of a prompt that is longer than its capacity, only the beginning counts.
        """
        if self._leaving:
            self._sweep(_SWEPT_AT_ONCE)
        capacity = self.capacity(endpoint)
        hashes = hashes[: capacity * HASH_BYTES]
        if not hashes:
            return
        holder = self._holder(endpoint)
        self._use(holder, hashes)
        self._fit(holder, capacity)
        if self._tree.bytes_used > self._max_bytes:
            self._make_room()

    def set_capacity(self, endpoint: str, blocks: int) -> None:
        """How many blocks of ours the endpoint has room for: the KV blocks of its page, times their tokens, by our tokens a
        block.

        It may be said before anything is inserted, and each time again: it costs nothing when it is the same. What is too much
        leaves at once.
        """
        blocks = min(max(0, blocks), _MOST_BLOCKS)
        if self._capacities.get(endpoint) == blocks:
            return
        self._capacities[endpoint] = blocks
        holder = self._holders.get(endpoint, -1)
        if holder >= 0:
            self._fit(holder, self.capacity(endpoint))

    def began(self, endpoint: str, start_s: float) -> bool:
        """Its page says when its process began: another time than before means that it holds nothing. Tells whether it forgot.

        A time is kept in snapshots, so an engine that restarted while we did is found out too.
        """
        known = self._began.get(endpoint)
        forgotten = known is not None and known != start_s
        if forgotten:
            self.forget(endpoint)
        self._began[endpoint] = start_s
        return forgotten

    def forget(self, endpoint: str) -> None:
        """The endpoint restarted or is gone: it holds nothing from now on, and nobody said how much it has room for.

        Takes no time; memory is given back by and by. A request that is under way and inserted later makes the endpoint known
        again, with that alone.
        """
        holder = self._holders.pop(endpoint, -1)
        self._capacities.pop(endpoint, None)
        self._began.pop(endpoint, None)
        if holder >= 0:
            self._leaving.append(holder)
            self._alignments.clear()

    def retain(self, endpoints: Iterable[str]) -> None:
        """The pool's endpoints are these: whoever else is known is forgotten."""
        for key in {*self._holders, *self._began, *self._capacities}.difference(endpoints):
            self.forget(key)

    # -- for a restart, and for people ---------------------------------------------------------------------------

    def held(self, endpoint: str) -> Held:
        """What an endpoint holds, for `snapshot.SnapshotWriter`; an endpoint at a time, as a large one takes milliseconds."""
        holder = self._holders.get(endpoint, -1)
        runs = self._tree.runs_of(holder) if holder >= 0 else []
        return Held(endpoint, self._capacities.get(endpoint), self._began.get(endpoint), runs)

    def restore(self, held: Held) -> None:
        """Take over what `snapshot.read_snapshot` says of an endpoint, unless something is known of it already.

        Within its capacity and the bound in bytes, as with inserts. A run takes about 5 µs, so a large endpoint milliseconds.
        """
        if held.key in self._holders:
            return
        if held.capacity is not None:
            self._capacities.setdefault(held.key, held.capacity)
        if held.began_s is not None:
            self._began.setdefault(held.key, held.began_s)
        if self._began.get(held.key) != held.began_s:
            return  # its page said meanwhile that it began anew
        for run in held.runs:
            self.insert(held.key, run)

    def dump(self) -> dict[str, object]:
        """State for people, endpoints by what they hold."""
        tree = self._tree
        endpoints = [
            {
                "endpoint": key,
                "blocks": tree.blocks[holder],
                "capacity": self.capacity(key),
                "began_s": self._began.get(key),
            }
            for key, holder in sorted(self._holders.items(), key=lambda item: -tree.blocks[item[1]])
        ]
        return {
            "blocks": self.size,
            "distinct_blocks": tree.distinct,
            "runs": tree.nodes,
            "bytes": tree.bytes_used,
            "max_bytes": self._max_bytes,
            "evicted_runs": self.evictions,
            "endpoints": endpoints,
        }

    # -- inside --------------------------------------------------------------------------------------------------

    def _holder(self, endpoint: str) -> int:
        holder = self._holders.get(endpoint, -1)
        if holder < 0:
            holder = self._free.pop() if self._free else self._tree.add_holder()
            self._holders[endpoint] = holder
            self._alignments.clear()
        return holder

    def _use(self, holder: int, hashes: bytes) -> None:
        """The holder uses these blocks now, the last first."""
        tree = self._tree
        keys = memoryview(hashes).cast("q")
        position, blocks = 0, len(keys)
        path: list[int] = []
        while position < blocks:
            node = tree.find(key_at(keys, position))
            if not node:
                tree.create(hashes[position * HASH_BYTES :], holder)
                break
            common = tree.common(node, hashes, keys, position)
            if common * HASH_BYTES < len(tree.run(node)):
                tree.split(node, common)
            path.append(node)
            position += common
        for node in reversed(path):
            tree.touch(node, holder)
        if len(path) > _MANY_RUNS:
            for at in range(len(path) - 1, 0, -1):
                tree.join(path[at - 1], path[at])

    def _fit(self, holder: int, capacity: int) -> None:
        tree = self._tree
        while tree.blocks[holder] > capacity:
            tree.shorten(holder, tree.blocks[holder] - capacity)

    def _sweep(self, most: int) -> None:
        """Let go of so many holds of endpoints that were forgotten."""
        tree = self._tree
        while self._leaving and most > 0:
            holder = self._leaving[-1]
            node = tree.oldest(holder)
            if node:
                tree.drop(node, holder)
                most -= 1
            else:
                self._free.append(self._leaving.pop())

    def _make_room(self) -> None:
        """Back below the bound, and a little further, so that not every insert has to."""
        tree = self._tree
        room = self._max_bytes - (self._max_bytes >> _SLACK_BITS)
        while self._leaving and tree.bytes_used > room:
            self._sweep(_SWEPT_AT_ONCE)
        while tree.nodes and tree.bytes_used > room:
            largest = max(self._holders.values(), key=tree.blocks.__getitem__)
            for _ in range(_GIVEN_UP_AT_ONCE):
                node = tree.oldest(largest)
                if not node or tree.bytes_used <= room:
                    break
                tree.drop(node, largest)
                self.evictions += 1
