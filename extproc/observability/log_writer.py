"""Log lines on their way to standard error: whoever reads them may stall for ever, and must not hold up anything else."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

MAX_LINES: Final = 4096
MAX_BYTES: Final = 2**20
"""About 5,000 lines of usual length: what a restart of a log collector takes, without being felt as memory."""

_AT_ONCE: Final = 2**16
"""What one write takes at most, in bytes: a pipe's usual size."""


class LogWriter:
    """Takes lines without ever blocking, and writes them to a file descriptor from a thread of its own, which may block.

    What does not fit into the buffer is dropped and counted, and `notice(n)` (a line that says that `n` were dropped) stands
    where they are missing. Lines that a descriptor does not take at all count as dropped, too.
    """

    def __init__(
        self, fd: int, notice: Callable[[int], bytes], *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES
    ) -> None:
        self._fd, self._notice = fd, notice
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._lines: deque[bytes] = deque()
        self._held = 0
        """Bytes in `_lines`."""
        self._unsaid = 0
        """Dropped, and nobody was told."""
        self._writing = False
        self._changed = threading.Condition(threading.Lock())
        self.dropped = 0
        """Lines that were dropped since the start."""
        # A daemon, for a process has to be able to end while it is stuck in a write.
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<LogWriter {len(self._lines)} lines, {self._held} bytes, {self.dropped} dropped>"

    def put(self, line: bytes) -> None:
        """Take a line, with its newline. Never blocks: callable from the event loop."""
        with self._changed:
            # The room that the notice will need is kept free from the first line that is dropped on.
            notice = self._notice(self._unsaid) if self._unsaid else b""
            lines = 2 if notice else 1
            if len(self._lines) + lines > self._max_lines or self._held + len(notice) + len(line) > self._max_bytes:
                self.dropped += 1
                self._unsaid += 1
                return
            if notice:
                self._unsaid = 0
                self._append(notice)
            self._append(line)
            self._changed.notify_all()

    def close(self, timeout_s: float) -> bool:
        """Wait until everything is written, `timeout_s` at most; whether it was. Lines of later are taken and go as far as
        they come before the process ends."""
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while self._lines or self._writing or self._unsaid:
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
        return True

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        self._held += len(line)

    def _run(self) -> None:
        while True:
            pieces, count = self._next()
            lost = 0 if self._written(pieces) else count
            with self._changed:
                self._writing = False
                self.dropped += lost
                self._changed.notify_all()

    def _next(self) -> tuple[bytes, int]:
        """What to write now, and how many lines that are. Waits for it."""
        with self._changed:
            while not self._lines and not self._unsaid:
                self._changed.wait()
            if not self._lines:  # the reader is back, and nothing came since that the notice could stand before
                self._append(self._notice(self._unsaid))
                self._unsaid = 0
            pieces: list[bytes] = []
            size = 0
            while self._lines and (not pieces or size + len(self._lines[0]) <= _AT_ONCE):
                line = self._lines.popleft()
                self._held -= len(line)
                size += len(line)
                pieces.append(line)
            self._writing = True
            return b"".join(pieces), len(pieces)

    def _written(self, data: bytes) -> bool:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody who shares it has made it non-blocking
                select.select([], [self._fd], [])
            except OSError:
                return False
        return True
