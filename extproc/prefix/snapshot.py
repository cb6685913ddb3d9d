"""The index as bytes that a restart can read, and a replica that begins.

    magic 8 ┃ version u32 ┃ written at f64 ┃ label u16 + text ┃ endpoints … ┃ XXH3 of all before, 16 bytes
    endpoint: key u16 + text ┃ capacity i64 (−1: none) ┃ began f64 (NaN: unknown) ┃ runs u32 ┃ blocks of each u32 … ┃ hashes

Little-endian. An endpoint's runs are in the order of its LRU list, used longest ago first, so that putting them in again
gives the same list; 8 bytes a block and 4 a run, however large the index is in memory. The label says of what the hashes
were made (block size, bytes per token): hashes of another kind would never match and only fill the index.

The file is ours, but a disk may lie and a version change: nothing is believed before the checksum is, and lengths never
are. What is in it names prompts by hashes only.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import xxhash

from extproc.prefix.hashing import HASH_BYTES

MAGIC: Final = b"extprefx"
VERSION: Final = 4
"""Goes up when hashes are made in another way (2: those behind the first 64 blocks of a prompt, 3: these as well, 4: by one sum
of each block). One of another version is refused, and its blocks are learned anew as prompts come."""
_HEAD: Final = struct.Struct("<8sIdH")
_LENGTH: Final = struct.Struct("<H")
_FACTS: Final = struct.Struct("<qdI")
_SUM_BYTES: Final = 16
LONGEST_TEXT: Final = 0xFFFF


class SnapshotError(ValueError):
    """These bytes are no snapshot that may be used; the message says why."""


class Held(NamedTuple):
    """What an endpoint holds."""

    key: str
    capacity: int | None
    """In blocks, None when nobody said."""
    began_s: float | None
    """When its process began, None when nobody said."""
    runs: list[bytes]
    """Hashes of blocks, used longest ago first."""


class SnapshotWriter:
    """Gives the bytes of a snapshot piece by piece, so that a large one need not be written at once: `head`, `held` each,
    `end`."""

    def __init__(self) -> None:
        self._sum = xxhash.xxh3_128()

    def head(self, label: str, now_s: float) -> bytes:
        """`now_s` is of the clock on the wall, as it outlives the process."""
        text = _text(label)
        return self._summed(_HEAD.pack(MAGIC, VERSION, now_s, len(text)) + text)

    def held(self, held: Held) -> bytes:
        """One endpoint."""
        key, runs = _text(held.key), held.runs
        facts = _FACTS.pack(
            -1 if held.capacity is None else held.capacity, math.nan if held.began_s is None else held.began_s, len(runs)
        )
        lengths = struct.pack(f"<{len(runs)}I", *[len(run) // HASH_BYTES for run in runs])
        return self._summed(b"".join([_LENGTH.pack(len(key)), key, facts, lengths, *runs]))

    def end(self) -> bytes:
        """The checksum."""
        return self._sum.digest()

    def _summed(self, piece: bytes) -> bytes:
        self._sum.update(piece)
        return piece


def read_snapshot(data: bytes, label: str, now_s: float, *, max_age_s: float) -> Iterator[Held]:
    """The endpoints of a snapshot; each is made when it is asked for. Raises SnapshotError, for the checksum and the head
    before the first.

    Refused is what has another label or version, is older than `max_age_s`, or is not whole. The caller bounds `data`.
    """
    if len(data) < _HEAD.size + _SUM_BYTES or not data.startswith(MAGIC):
        raise SnapshotError(f"{len(data)} bytes are no snapshot of a prefix index")
    body = data[:-_SUM_BYTES]
    _magic, version, written_s, length = _HEAD.unpack_from(data)
    if version != VERSION:
        raise SnapshotError(f"snapshot has version {version}, expected {VERSION}")
    if xxhash.xxh3_128_digest(body) != data[-_SUM_BYTES:]:
        raise SnapshotError("snapshot is damaged: its checksum is another")
    if not now_s - written_s <= max_age_s:
        raise SnapshotError(f"snapshot is {now_s - written_s:.0f} s old, expected at most {max_age_s:.0f} s")
    reader = _Reader(body, _HEAD.size)
    written_with = reader.text(length)
    if written_with != label:
        raise SnapshotError(f"snapshot was written for {written_with[:100]!r}, expected {label[:100]!r}")
    return _endpoints(reader)


def _endpoints(reader: _Reader) -> Iterator[Held]:
    while reader.more:
        yield reader.held()


class _Reader:
    """Takes from the front, and no more than there is."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._data):
            raise SnapshotError(f"snapshot ends after {len(self._data)} bytes, expected {end}")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def text(self, size: int) -> str:
        return self.take(size).decode("utf-8", "replace")

    def held(self) -> Held:
        (size,) = _LENGTH.unpack(self.take(_LENGTH.size))
        key = self.text(size)
        capacity, began_s, count = _FACTS.unpack(self.take(_FACTS.size))
        lengths = self.take(4 * count)
        runs = [self.take(length * HASH_BYTES) for (length,) in struct.iter_unpack("<I", lengths) if length]
        return Held(key, None if capacity < 0 else capacity, None if math.isnan(began_s) else began_s, runs)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:LONGEST_TEXT]
