"""The bytes of a file that a user names: never more than a bound, and never from what may not end or answer.

A path may lead to anything: a directory, a pipe that nobody writes to (opening it waits for ever), a device that never ends.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from extproc.files.problems import Unusable

MAX_BYTES: Final = 2**20
"""Of any file that we are given: 1 MiB, as the API server has it for a ConfigMap."""

_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_file(path: str | Path, max_bytes: int = MAX_BYTES) -> bytes:
    """All bytes of a regular file. Raises Unusable with the path and why not; never waits for the other end of a pipe."""
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            _check(path, status.st_mode)
            if status.st_size > max_bytes:
                raise Unusable([f"{path}: larger than {max_bytes} bytes"])
            data = bytearray()
            while len(data) <= max_bytes and (piece := file.read(max_bytes + 1 - len(data))):
                data += piece
    except OSError as error:
        raise Unusable([f"{path}: {error.strerror or error}"]) from None
    except ValueError as error:  # a NUL in the path
        raise Unusable([f"{str(path)!r}: {error}"]) from None
    if len(data) > max_bytes:
        raise Unusable([f"{path}: larger than {max_bytes} bytes"])
    return bytes(data)


def _open_at_once(path: str, flags: int) -> int:
    _check(path, os.stat(path).st_mode)  # to open a device may already do something
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _check(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise Unusable([f"{path}: expected a regular file, this is {_KINDS.get(stat.S_IFMT(mode), 'something else')}"])
