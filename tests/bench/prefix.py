"""The approximate prefix cache: a prompt, its hashes, whom to send it to, and what is remembered of it.

Prompts are of two sizes: 4 KB, and 400 KB, which is 100,000 tokens. 30 groups share the first 6 KB with everybody and the next
25 KB with each other. The worst case is no traffic: each endpoint holds another length of one and the same prompt.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from extproc.domain import Endpoint
from extproc.prefix.hashing import HASH_BYTES, chain
from extproc.prefix.index import PrefixIndex
from extproc.prefix.prompt import prompts_of
from tests.bench.core import measure_us
from tests.bench.table import Row

_LARGE, _SMALL = 400_000, 4096
_BLOCK = 256
_MOST = 10_000
_ENTRIES = 10_000_000
_BOUND = 1 << 40


def _words(draw: random.Random, size: int) -> bytes:
    """Text, of which no two blocks are alike."""
    return draw.randbytes(size // 2).hex().encode()


def _endpoints(number: int) -> list[Endpoint]:
    return [Endpoint(f"10.0.{at // 250}.{at % 250 + 1}", 8000) for at in range(number)]


def prefix_rows() -> list[Row]:
    """All of them, bars as the project set them for the compiled package."""
    return [*_hash_rows(), *_index_rows(), *_memory_rows()]


def _hash_rows() -> list[Row]:
    draw = random.Random(1)
    text = _words(draw, _LARGE)
    turns = [text[at : at + 4000].decode() for at in range(0, _LARGE, 4000)]
    payload = {"messages": [{"role": ("user", "assistant")[at % 2], "content": turn} for at, turn in enumerate(turns)]}
    short = {"messages": [{"role": "user", "content": text[:_SMALL].decode()}]}
    rows = []
    for block, least in ((_BLOCK, 500.0), (64, None)):
        us = measure_us(partial(chain, text, 1, block, _MOST), 30)
        rows.append(Row(f"400 KB hashed in blocks of {block} bytes", _LARGE / us, "MB/s", least=least))
    return [
        *rows,
        Row("the prompt of 400 KB, 100 messages", measure_us(lambda: prompts_of(payload), 100), "µs"),
        Row(
            "the prompt of 4 KB and its hashes",
            measure_us(lambda: chain(prompts_of(short)[0].data, 1, _BLOCK, _MOST), 2000),
            "µs",
        ),
    ]


class _Traffic:
    """An index that has seen some, and chains to ask it about."""

    def __init__(self, endpoints: int, size: int) -> None:
        self._draw = random.Random(2)
        self.endpoints = _endpoints(endpoints)
        self.index = PrefixIndex(max_bytes=_BOUND)
        everybody, tail = _words(self._draw, 1024 if size < _LARGE else 6400), size - 32_000
        groups = [_words(self._draw, 25_600 if size == _LARGE else 1024) for _ in range(30)]
        self.chains = [
            chain(everybody + groups[at % 30] + _words(self._draw, max(tail, 2048)), 1, _BLOCK, _MOST) for at in range(90)
        ]
        for hashes in self.chains:
            for endpoint in self._draw.sample(self.endpoints, max(2, endpoints // 10)):
                self.index.insert(endpoint.key, hashes)
        self._turn = 0

    def match(self) -> None:
        self._turn += 1
        self.index.match(self.chains[self._turn % 90], self.endpoints)

    def insert(self) -> None:
        """A prompt that some endpoints have, to one that may not have it."""
        self._turn += 1
        self.index.insert(self.endpoints[self._turn % len(self.endpoints)].key, self.chains[self._turn * 7 % 90])


def _worst(endpoints: int) -> Callable[[], object]:
    draw = random.Random(3)
    index, everyone = PrefixIndex(max_bytes=_BOUND), _endpoints(endpoints)
    hashes = chain(_words(draw, _LARGE), 1, _BLOCK, _MOST)
    for endpoint in everyone:
        index.insert(endpoint.key, hashes[: draw.randint(1, len(hashes) // HASH_BYTES) * HASH_BYTES])
    return lambda: index.match(hashes, everyone)


def _index_rows() -> list[Row]:
    rows = []
    for name, size, bars in (
        ("4 KB", _SMALL, {10: 5.0}),
        ("400 KB", _LARGE, {100: 150.0}),
    ):
        for endpoints in (10, 100, 1000):
            traffic = _Traffic(endpoints, size)
            matched = measure_us(traffic.match, 2000)
            rows.append(Row(f"{name} matched against {endpoints} endpoints", matched, "µs", bars.get(endpoints)))
            rows.append(Row(f"{name} inserted, {endpoints} endpoints", measure_us(traffic.insert, 2000), "µs"))
    for endpoints, bar in ((100, 150.0), (1000, None)):
        rows.append(
            Row(f"400 KB, {endpoints} endpoints that hold {endpoints} lengths", measure_us(_worst(endpoints), 50), "µs", bar)
        )
    return rows


def _memory_rows() -> list[Row]:
    rows = []
    for blocks, bar in ((1600, None), (16, 400.0), (4, 400.0)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            held_mb, counted_mb = pool.apply(_memory_mb, (blocks,))
        name = f"{_ENTRIES // 1_000_000} million entries, prompts of {blocks} blocks"
        rows.append(Row(name, held_mb, "MB", bar))
        rows.append(Row("  as the index counts it", counted_mb, "MB"))
    return rows


def _memory_mb(blocks: int) -> tuple[float, float]:
    """What a process grows by, and what the index says; prompts that share nothing, on 100 endpoints."""
    index = PrefixIndex(max_bytes=_BOUND, default_capacity=_ENTRIES)
    keys = [endpoint.key for endpoint in _endpoints(100)]
    gc.collect()
    before = _resident_bytes()
    for at in range(_ENTRIES // blocks):
        index.insert(keys[at % 100], os.urandom(blocks * HASH_BYTES))
    gc.collect()
    return (_resident_bytes() - before) / 1e6, index.bytes_used / 1e6


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
