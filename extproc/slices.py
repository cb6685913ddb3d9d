"""Large pages made a little at a time: a pick that comes meanwhile waits for one slice, and not for the page."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

SLICE_S: Final = 0.002
"""How long a page may hold the event loop at once."""
SHARE: Final = 0.25
"""Of a core, for all pages together: after each slice there is a pause in this proportion."""


class Slices:
    """Turns at making pages. One slice is made at a time, whoever asks for what."""

    def __init__(
        self,
        slice_s: float = SLICE_S,
        share: float = SHARE,
        clock: Callable[[], float] = time.perf_counter,
        used: Callable[[], float] = time.thread_time,
    ) -> None:
        """`clock` is monotonic; `used`: how much of a core this thread has had. On a machine that is busy with other things a
        page must not wait for those three times again in its pauses.
        """
        self._slice_s, self._pause = slice_s, 1 / share - 1
        self._clock, self._used = clock, used
        self._turn = asyncio.Lock()
        self._not_before_s = 0.0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """For what is made at once; what it takes is added to the pause behind it."""
        async with self._turn:
            # At least a round of the loop, also when the process itself had to wait for its turn at the core.
            await asyncio.sleep(max(0.0, self._not_before_s - self._clock()))
            began_s = self._used()
            try:
                yield
            finally:
                self._not_before_s = self._clock() + (self._used() - began_s) * self._pause

    async def next(self, pieces: Iterator[bytes]) -> tuple[bytes, bool]:
        """As many pieces as go into a slice, and whether there may be more."""
        made = []
        async with self.turn():
            until_s = self._used() + self._slice_s
            for piece in pieces:
                made.append(piece)
                if self._used() >= until_s:
                    return b"".join(made), True
        return b"".join(made), False
