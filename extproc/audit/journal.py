"""The chain of changes in a file, for a gateway whose state has no database: `changes.v1.jsonl`, a line for each.

    {"hash":"…64 hex digits…","change":{…}}

A line is on disk before its change is made. Processes may share the file, by a lock for each writing; their states are not one,
so revisions begin again with each of them, and the chain goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from extproc.audit.changes import FIRST, Link, UnreadableChange, chained, read_change
from extproc.audit.closing import whole_lines

_HEAD: Final = b'{"hash":"'
_MIDDLE: Final = b'","change":'
_HEX: Final = 64
_BODY_AT: Final = len(_HEAD) + _HEX + len(_MIDDLE)
_PIECE: Final = 64 * 1024


class Journal:
    """The file. Its methods do I/O: not for an event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<Journal {self.path}>"

    def append(self, bodies: Sequence[bytes]) -> None:
        """Add records, all or none; they are on disk when this returns.

        Raises OSError, and ValueError when the file's last line is none of a chain.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            whole_lines(fd)  # of a change that was never made
            size = os.fstat(fd).st_size
            previous = self._last(fd, size)
            data = bytearray()
            for body in bodies:
                previous = chained(previous, body)
                data += _HEAD + previous.hex().encode() + _MIDDLE + body + b"}\n"
            try:
                written = 0
                while written < len(data):
                    written += os.write(fd, memoryview(data)[written:])
                os.fsync(fd)
                if not size:
                    _sync_name(self.path)
            except OSError:
                with contextlib.suppress(OSError):  # the next one cuts it off
                    os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)

    def _last(self, fd: int, size: int) -> bytes:
        """The hash of the last line."""
        if not size:
            return FIRST
        tail = b""
        at = size
        while at and b"\n" not in tail[:-1]:
            start = max(0, at - _PIECE)
            tail = os.pread(fd, at - start, start) + tail
            at = start
        line = tail[:-1].rpartition(b"\n")[2]
        link = link_of(line)
        if link is None:
            raise ValueError("its last line is no record of a change")
        return link.hash

    def links(self) -> Iterator[Link]:
        """All records, oldest first. What can't be read is one with the number 0; a last line that a crash has torn belongs
        to a change that was never made, and is left out. Raises OSError.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            for line in file:
                if line.endswith(b"\n"):
                    yield link_of(line[:-1]) or Link(0, line, b"")

    def links_back(self, before: int | None = None) -> Iterator[tuple[int, Link]]:
        """Records newest first, each with the place where its line begins: of those that begin before `before`, which is such a
        place. What can't be read is passed over. Raises OSError.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            size = file.seek(0, os.SEEK_END)
            at = size if before is None else max(0, min(size, before))
            tail = b""  # the end of a line whose beginning is still to come
            while at:
                start = max(0, at - _PIECE)
                file.seek(start)
                data = file.read(at - start) + tail
                first = data.find(b"\n") + 1 if start else 0
                if start and not first:
                    first = len(data)
                yield from _lines_back(data, first, start)
                tail, at = data[:first], start

    def torn(self) -> bool:
        """Whether the last line is. Raises OSError."""
        try:
            with self.path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.EINVAL:  # empty
                return False
            raise


def _lines_back(data: bytes, first: int, start: int) -> Iterator[tuple[int, Link]]:
    """The records in the lines from `first` on, the last one first; `data` stands at `start` in the file."""
    end = len(data)
    while end > first:
        begin = max(first, data.rfind(b"\n", first, end - 1) + 1)
        if data.endswith(b"\n", begin, end):  # else it is torn
            link = link_of(data[begin : end - 1])
            if link is not None:
                yield start + begin, link
        end = begin


def _sync_name(path: Path) -> None:
    """A new file is there after a crash when its folder is on disk too."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def link_of(line: bytes) -> Link | None:
    """The record in a line without its newline; None when it is none."""
    if not (line.startswith(_HEAD) and line[len(_HEAD) + _HEX : _BODY_AT] == _MIDDLE and line.endswith(b"}")):
        return None
    body = line[_BODY_AT:-1]
    try:
        return Link(read_change(body).number, body, bytes.fromhex(line[len(_HEAD) : len(_HEAD) + _HEX].decode("ascii")))
    except (UnreadableChange, ValueError):
        return None
