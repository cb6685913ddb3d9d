"""Decisions on their way to the disk: lines are handed over where requests are decided, and written by a thread, many at once.

What waits is bounded by its bytes; what comes while that is full, or while the disk is, is dropped and counted. A crash of the
process loses what waits and what the sources of `Waiting` keep back, half a second as a rule. A line that was half written when
the disk was full is taken back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from extproc.audit.closing import close_as, whole_lines
from extproc.audit.files import OPEN, PACKED, Retention, decision_files, file_name, locked, outlived
from extproc.audit.waiting import Waiting

_AT_ONCE_BYTES: Final = 2**20


class Limits(NamedTuple):
    """What the writer takes and leaves."""

    waiting_bytes: int = 8 * 2**20
    """Of lines that wait to be written; more are dropped."""
    file_bytes: int = 64 * 2**20
    """A file of that size is closed."""
    file_age_s: float = 3600.0
    """So is one of that age."""
    keep: Retention = Retention(30 * 86400.0, 10 * 2**30)
    pause_s: float = 0.25
    """From the first line that waits to its writing, so that many are written at once."""


class Counts:
    """What became of lines, written by the thread."""

    __slots__ = ("bytes", "closed", "deleted", "failed", "torn", "written")

    def __init__(self) -> None:
        self.written = 0
        self.bytes = 0
        self.failed = 0
        """Dropped, as the disk did not take them."""
        self.closed = 0
        """Files."""
        self.deleted = 0
        """Files, by age or size."""
        self.torn = 0
        """Lines that a process before had begun when it was killed."""


class DecisionWriter:
    """One per process. Lines are handed over to `waiting`; the rest is the writer's."""

    def __init__(
        self,
        folder: Path,
        writer: str,
        suffix: str,
        limits: Limits = Limits(),
        *,
        tell: Callable[[str], None] = lambda problem: None,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`writer` is the process as file names have it, `suffix` what a closed file is: PACKED or PARQUET. `tell` hears of a
        problem once when it begins, and `''` when it is over; it is called by the thread.
        """
        self.counts = Counts()
        self.problem = ""
        """Why lines are dropped now; '' while they are written."""
        self._folder = folder
        self._writer = writer
        self._suffix = suffix
        self._limits = limits
        self._tell = tell
        self._wall_clock = wall_clock
        self._clock = clock
        self._wake = threading.Event()
        self.waiting = Waiting(limits.waiting_bytes, self._wake.set)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._fd = -1
        self._path: Path | None = None
        self._size = 0
        self._begun_s = 0.0

    def __repr__(self) -> str:
        return f"<DecisionWriter {self._folder} {self.counts.written} written {self.problem}>"

    # -- beginning and ending --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to write. Raises OSError when the folder can't be made or written to."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._folder))
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, close the file, and end the thread. May be called twice."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    # -- the thread ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._guarded(self._let_go)
        self._guarded(self._adopt)
        while not self._stopping.is_set():
            if self._wake.wait(self._until_old()):
                self._stopping.wait(self._limits.pause_s)
            self._wake.clear()
            self.waiting.sleep()
            self._write_all()
            if self._fd >= 0 and (self._size >= self._limits.file_bytes or self._until_old() <= 0):
                self._guarded(self._close)
        self._write_all()
        self._guarded(self._close)

    def _until_old(self) -> float:
        if self._fd < 0:
            return self._limits.file_age_s
        return max(0.0, self._begun_s + self._limits.file_age_s - self._clock())

    def _write_all(self) -> None:
        waiting = self.waiting
        while True:
            taken, count = waiting.take(_AT_ONCE_BYTES)
            if not taken:
                return
            text = "".join(taken)
            data = text.encode()
            try:
                self._write(data)
            except OSError as error:
                self.counts.failed += count
                self._failed(error)
            else:
                self.counts.written += count
                self.counts.bytes += len(data)
                self._worked()
            waiting.done(len(text))
            if self._size >= self._limits.file_bytes:
                self._guarded(self._close)

    def _write(self, data: bytes) -> None:
        """All of it or nothing. Raises OSError."""
        if self._fd < 0:
            self._open()
        view = memoryview(data)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, view[written:])
        except OSError:
            if written:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def _open(self) -> None:
        now_s = self._wall_clock()
        path = self._folder / file_name(now_s, self._writer)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        fcntl.flock(fd, fcntl.LOCK_EX)
        self._fd, self._path, self._size, self._begun_s = fd, path, 0, self._clock()

    def _close(self) -> None:
        """The file that is open becomes a closed one; and those that have had their time go. Raises OSError."""
        path = self._path
        if self._fd >= 0 and path is not None:
            try:
                self._shut(path)
            finally:
                os.close(self._fd)  # one that could not be closed is tried again with the next
                self._fd, self._path, self._size = -1, None, 0
        self._let_go()
        self._adopt()

    def _shut(self, path: Path) -> None:
        """Raises OSError. A file whose lines somebody has damaged can't become a table, and is packed as it is."""
        try:
            close_as(path, self._suffix)
        except ValueError:
            close_as(path, PACKED)
        self.counts.closed += 1

    def _adopt(self) -> None:
        """Close what processes before us have left open, by a crash or a full disk. Raises OSError."""
        for file in decision_files(self._folder):
            if file.suffix != OPEN:
                with contextlib.suppress(FileNotFoundError):  # the open one that this was made of, when a crash came between
                    file.closed_as(OPEN).unlink()
                continue
            with locked(file.path) as fd:
                if fd is not None:
                    self.counts.torn += bool(whole_lines(fd))
                    self._shut(file.path)

    def _let_go(self) -> None:
        """Files that have had their time go, of whomever they are, but for those that are written now."""
        sized = []
        for file in decision_files(self._folder):
            with contextlib.suppress(FileNotFoundError):
                if file.suffix == OPEN:
                    with locked(file.path) as fd:
                        if fd is None:
                            continue
                sized.append((file, file.path.stat().st_size))
        for file in outlived(sized, self._wall_clock(), self._limits.keep):
            with contextlib.suppress(FileNotFoundError):
                file.path.unlink()
                self.counts.deleted += 1

    def _guarded(self, work: Callable[[], None]) -> None:
        """What a disk, or a file that somebody has damaged, does not allow is told, and lines are written on."""
        try:
            work()
        except (OSError, ValueError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        words = getattr(error, "strerror", None) or str(error)
        if not self.problem:
            self._tell(words)
        self.problem = words

    def _worked(self) -> None:
        if self.problem:
            self.problem = ""
            self._tell("")
