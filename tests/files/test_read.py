from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from extproc.files.problems import Unusable
from extproc.files.read import MAX_BYTES, read_file


def problem(path: str | Path, max_bytes: int = MAX_BYTES) -> str:
    with pytest.raises(Unusable) as caught:
        read_file(path, max_bytes)
    (found,) = caught.value.problems
    return found


def test_all_of_it_up_to_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)

    assert read_file(path, 100) == b"x" * 100
    assert read_file(str(path)) == b"x" * 100
    assert problem(path, 99) == f"{path}: larger than 99 bytes"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """It has no blocks, so it is only as large as it says."""
    path = tmp_path / "file"
    with open(path, "wb") as file:
        file.truncate(2**40)

    assert problem(path) == f"{path}: larger than 1048576 bytes"


def test_a_file_that_does_not_say_how_large_it_is() -> None:
    assert read_file("/proc/self/status").startswith(b"Name:")
    assert problem("/proc/self/status", 10) == "/proc/self/status: larger than 10 bytes"


@pytest.mark.timeout(5)
def test_what_is_no_regular_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))

        assert problem(path) == f"{path}: expected a regular file, this is a socket"
    assert problem(pipe) == f"{pipe}: expected a regular file, this is a pipe"
    assert problem(tmp_path / "link") == f"{tmp_path / 'link'}: expected a regular file, this is a pipe"
    assert problem(tmp_path) == f"{tmp_path}: expected a regular file, this is a directory"
    assert problem("/dev/zero") == "/dev/zero: expected a regular file, this is a device"


def test_what_can_not_be_opened(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    assert problem(tmp_path / "nothing") == f"{tmp_path / 'nothing'}: No such file or directory"
    assert problem(loop) == f"{loop}: Too many levels of symbolic links"
    assert problem("a\0b") == r"'a\x00b': embedded null byte"
    assert problem("") == ": No such file or directory"
