"""The files of decisions in a folder: their names, who writes which, and which go when they are too old or too many.

    decisions.v1.20261129T091500.123456Z.HOST-PID.jsonl         open: whoever writes it holds a lock on it
    decisions.v1.20261129T091500.123456Z.HOST-PID.jsonl.zst     closed; or .parquet

Names sort by the time at which a file was begun. Several processes may share a folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from extproc.audit.row import VERSION

OPEN: Final = ".jsonl"
PACKED: Final = ".jsonl.zst"
PARQUET: Final = ".parquet"
CHANGES: Final = f"changes.v{VERSION}.jsonl"
_NAME: Final = re.compile(r"decisions\.v(\d+)\.(\d{8}T\d{6}\.\d{6}Z)\.([A-Za-z0-9_-]+)(\.jsonl|\.jsonl\.zst|\.parquet)")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")


class DecisionFile(NamedTuple):
    """One file; sorts by when it was begun."""

    begun: str
    """`20261129T091500.123456Z`."""
    writer: str
    suffix: str
    path: Path

    @property
    def begun_s(self) -> float:
        """Seconds since the epoch."""
        return datetime.strptime(self.begun, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).timestamp()

    def closed_as(self, suffix: str) -> Path:
        """The same under the name that it has once it is closed."""
        return self.path.with_name(self.path.name.removesuffix(self.suffix) + suffix)


def writer_name(host: str, pid: int) -> str:
    """A process, as file names have it."""
    return f"{_UNSAFE.sub('-', host)[:64] or 'host'}-{pid}"


def file_name(begun_s: float, writer: str) -> str:
    """Of a file that is begun now."""
    begun = datetime.fromtimestamp(begun_s, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"decisions.v{VERSION}.{begun}.{writer}{OPEN}"


def decision_files(folder: Path) -> list[DecisionFile]:
    """Those of the folder, oldest first, each once: a closed file stands for the open one that it was made of."""
    found: dict[tuple[str, str], DecisionFile] = {}
    for name in sorted(os.listdir(folder)):
        match = _NAME.fullmatch(name)
        if match is None or int(match[1]) != VERSION:
            continue
        file = DecisionFile(match[2], match[3], match[4], folder / name)
        other = found.get((file.begun, file.writer))
        if other is None or other.suffix == OPEN:
            found[file.begun, file.writer] = file
    return sorted(found.values())


def unknown_versions(folder: Path) -> list[str]:
    """Files of decisions that a newer release wrote."""
    return [name for name in sorted(os.listdir(folder)) if (m := _NAME.fullmatch(name)) is not None and int(m[1]) != VERSION]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """The descriptor of a file that nobody else has locked, None when somebody has, or when it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield fd if path.exists() else None
    finally:
        os.close(fd)


class Retention(NamedTuple):
    """How long closed files stay."""

    age_s: float
    """By when a file was begun; 0: any age."""
    size_bytes: int
    """Of all closed files together; 0: any."""


def outlived(files: list[tuple[DecisionFile, int]], now_s: float, keep: Retention) -> list[DecisionFile]:
    """Which closed files go, given all of them with their sizes, oldest first."""
    gone = []
    total = sum(size for _, size in files)
    for file, size in files:
        too_old = keep.age_s > 0 and file.begun_s < now_s - keep.age_s
        too_many = keep.size_bytes > 0 and total > keep.size_bytes
        if not too_old and not too_many:
            break
        gone.append(file)
        total -= size
    return gone
