"""Lines between who decides and the thread that writes them: bounded by their length, without a lock.

They come several at a time, as text, as they become bytes all at once; nearly all of it is ASCII, so a character is a byte.

One thread adds and one takes; each number is written by one of them, and a deque's ends may be used by two at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Waiting:
    """`add` and `gather` belong to one thread, `sleep` and `take` to another."""

    __slots__ = ("_asleep", "_lines", "_most_bytes", "_put", "_taken", "_wake", "added", "full", "sources")

    def __init__(self, most_bytes: int, wake: Callable[[], object] = lambda: None) -> None:
        """`wake` is called when a line comes while the taker sleeps."""
        self.added = 0
        self.full = 0
        """Dropped, as too much waited."""
        self.sources: list[Callable[[], None]] = []
        """Who keeps some lines back, to make many at once: each adds them when it is called."""
        self._most_bytes = most_bytes
        self._wake = wake
        self._asleep = True
        self._lines: deque[tuple[str, int]] = deque()
        self._put = 0
        self._taken = 0
        """Bytes that were ever handed over, and are written or lost: each has one who writes it."""

    def add(self, lines: str, count: int = 1) -> None:
        """Hand over so many lines, each with its newline; all of them or, where they are too much, none. Never waits."""
        size = len(lines)
        if self._put - self._taken + size > self._most_bytes:
            self.full += count
            return
        self.added += count
        self._put += size
        self._lines.append((lines, count))
        if self._asleep:
            self._asleep = False
            self._wake()

    def gather(self) -> None:
        """Have all sources add what they kept back."""
        for source in self.sources:
            source()

    @property
    def size_bytes(self) -> int:
        """Of lines that are not written yet."""
        return self._put - self._taken

    def sleep(self) -> None:
        """From now on `wake` is called for a line that comes; said before the last look at what is there."""
        self._asleep = True

    def take(self, most_bytes: int) -> tuple[list[str], int]:
        """What waited longest, as it was added, about so many bytes of it, and how many lines that is. It still counts as
        waiting until `done`."""
        waiting, taken = self._lines, []
        size = lines = 0
        while waiting and size < most_bytes:
            text, count = waiting.popleft()
            taken.append(text)
            size += len(text)
            lines += count
        return taken, lines

    def done(self, size: int) -> None:
        """So many bytes of what was taken are written, or lost."""
        self._taken += size
