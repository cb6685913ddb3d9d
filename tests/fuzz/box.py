"""What a fuzzing process is doing, in memory that outlives it: the process may hang or die in C, where no handler runs."""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_COUNTS: Final = struct.Struct("<QQ")
"""Executions that have begun, and the slowest one's nanoseconds."""
_SIZES: Final = struct.Struct("<II")
"""Of the input under way, and of the slowest."""
_KEPT: Final = struct.Struct("<Q")
_INPUT: Final = 64
_SLOWEST: Final = _INPUT + 2**16
_BYTES: Final = _SLOWEST + 2**16


class Box:
    """A file in shared memory: a worker writes, its watcher reads."""

    def __init__(self, path: Path, *, new: bool = False) -> None:
        if new:
            path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)

    @property
    def executions(self) -> int:
        """How many have begun."""
        return int(_COUNTS.unpack_from(self._map)[0])

    @property
    def slowest(self) -> tuple[float, bytes]:
        """Seconds of CPU, and the input."""
        size = _SIZES.unpack_from(self._map, 16)[1]
        return float(_COUNTS.unpack_from(self._map)[1]) / 1e9, self._map[_SLOWEST : _SLOWEST + size]

    @property
    def input(self) -> bytes:
        """The one under way, or the last."""
        size = _SIZES.unpack_from(self._map, 16)[0]
        return self._map[_INPUT : _INPUT + size]

    @property
    def kept(self) -> int:
        """Inputs that reached something new."""
        return int(_KEPT.unpack_from(self._map, 24)[0])

    @kept.setter
    def kept(self, number: int) -> None:
        _KEPT.pack_into(self._map, 24, number)

    def watched(self, run: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """`run`, with each input written down before it. Inputs have at most 64 KiB."""
        memory, counts, sizes = self._map, _COUNTS.pack_into, _SIZES.pack_into
        clock = time.thread_time_ns
        executions = slowest = slowest_size = 0

        def execute(data: bytes) -> None:
            nonlocal executions, slowest, slowest_size
            executions += 1
            size = len(data)
            memory[_INPUT : _INPUT + size] = data
            counts(memory, 0, executions, slowest)
            sizes(memory, 16, size, slowest_size)
            began = clock()
            run(data)
            took = clock() - began
            if took > slowest:
                slowest, slowest_size = took, size
                memory[_SLOWEST : _SLOWEST + size] = data

        return execute
