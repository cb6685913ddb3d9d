"""A folder of files that is read again when one of them changes, comes or goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from extproc.files.problems import Unusable
from extproc.files.read import read_file
from extproc.files.watch import FileWatcher

MAX_FILES: Final = 500

Value = TypeVar("Value")


class FileText(NamedTuple):
    """A file and what is in it."""

    name: str
    """Within the folder."""
    data: bytes


class FolderWatcher(FileWatcher[Value]):
    """As `FileWatcher`, for all files of a folder with one of some endings, taken together, by name.

    Folders in it are not looked into, and names that begin with a dot are nobody's: so a mounted ConfigMap, whose files are
    links into hidden folders, is read once. One file that can't be read makes the whole unusable: what was good stays.
    """

    def __init__(
        self, path: str | Path, parse: Callable[[Sequence[FileText]], Value], suffixes: Sequence[str], **words: Any
    ) -> None:
        """`parse` gets the files, sorted by name; `max_bytes` is of each. The rest is as for `FileWatcher`."""
        super().__init__(path, lambda data: parse(_unpacked(data)), **words)
        self._suffixes = tuple(suffixes)

    def _names(self) -> list[str]:
        names = sorted(name for name in os.listdir(self.path) if name.endswith(self._suffixes) and not name.startswith("."))
        if len(names) > MAX_FILES:
            raise Unusable([f"{self.path}: has {len(names)} files; expected at most {MAX_FILES}"])
        return [name for name in names if not (self.path / name).is_dir()]

    def _metadata_of(self) -> Hashable:
        found = []
        for name in self._names():
            status = os.stat(self.path / name)
            found.append((name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        return tuple(found)

    def _content(self) -> bytes:
        return b"".join([_packed(FileText(name, read_file(self.path / name, self._max_bytes))) for name in self._names()])


def _packed(file: FileText) -> bytes:
    name = os.fsencode(file.name)
    return b"%d %d\n%b%b" % (len(name), len(file.data), name, file.data)


def _unpacked(data: bytes) -> list[FileText]:
    files = []
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        name_bytes, data_bytes = map(int, data[at:end].split())
        name_end = end + 1 + name_bytes
        files.append(FileText(os.fsdecode(data[end + 1 : name_end]), data[name_end : name_end + data_bytes]))
        at = name_end + data_bytes
    return files
