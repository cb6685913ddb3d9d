from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.files.folder import MAX_FILES, FileText, FolderWatcher, _packed, _unpacked
from extproc.files.problems import Unusable
from tests.fakes.clock import FakeClock


class Folder:
    """A folder of numbers, its watcher, and what that says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self.heard: list[str] = []
        self.watcher = FolderWatcher(
            path,
            self._parse,
            (".txt",),
            on_change=lambda value: self.heard.append(f"changed to {value}"),
            on_error=lambda problems: self.heard.append("; ".join(problems).replace(str(path), "folder")),
            on_heal=lambda: self.heard.append("healed"),
            max_bytes=100,
            clock=self.clock,
        )

    def _parse(self, files: Sequence[FileText]) -> dict[str, int]:
        try:
            return {file.name: int(file.data) for file in files}
        except ValueError:
            raise Unusable(["expected numbers"]) from None

    def polls(self, number: int = 10) -> list[str]:
        for _ in range(number):
            self.clock.advance(0.5)
            self.watcher.poll()
        heard, self.heard = self.heard, []
        return heard


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "b.txt").write_text("2")
    (tmp_path / "a.txt").write_text("1")
    for name in (".hidden.txt", "other.md"):
        (tmp_path / name).write_text("no number")
    (tmp_path / "inside.txt").mkdir()
    made = Folder(tmp_path)
    assert list(made.watcher.load().items()) == [("a.txt", 1), ("b.txt", 2)]
    return made


def test_files_that_change_come_and_go_are_seen(folder: Folder) -> None:
    assert folder.polls() == []
    (folder.path / "a.txt").write_text("3")
    assert folder.polls() == ["changed to {'a.txt': 3, 'b.txt': 2}"]
    (folder.path / "c.txt").write_text("4")
    assert folder.polls() == ["changed to {'a.txt': 3, 'b.txt': 2, 'c.txt': 4}"]
    (folder.path / "b.txt").rename(folder.path / "d.txt")
    assert folder.polls() == ["changed to {'a.txt': 3, 'c.txt': 4, 'd.txt': 2}"]
    for name in "acd":
        (folder.path / f"{name}.txt").unlink()
    assert folder.polls() == ["changed to {}"]


def test_what_nobody_looks_at_changes_nothing(folder: Folder) -> None:
    (folder.path / "other.md").write_text("still none")
    (folder.path / ".hidden.txt").write_text("still none")
    assert folder.polls() == []


def test_one_file_that_is_wrong_leaves_all_as_it_was(folder: Folder) -> None:
    (folder.path / "c.txt").write_text("x")
    assert folder.polls() == ["folder: expected numbers"]
    (folder.path / "c.txt").unlink()
    assert folder.polls() == ["healed"]


def test_a_folder_that_is_gone_and_back(folder: Folder) -> None:
    moved = folder.path.with_name("moved")
    folder.path.rename(moved)
    assert folder.polls() == ["folder: No such file or directory"]
    moved.rename(folder.path)
    assert folder.polls() == ["healed"]


@pytest.mark.parametrize("what", ["pipe", "huge", "loop"])
def test_what_a_file_of_it_may_be(folder: Folder, what: str) -> None:
    path = folder.path / "c.txt"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "huge":
        path.write_text("1" * 101)
    else:
        path.symlink_to(path)
    (said,) = folder.polls()
    assert said.startswith("folder/c.txt: " if what != "loop" else "folder: ")


def test_a_mounted_config_map_is_swapped(tmp_path: Path) -> None:
    """As the kubelet does it: file → ..data/file, ..data → ..<time>."""
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "a.txt").write_text(version)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.txt").symlink_to("..data/a.txt")
    folder = Folder(tmp_path)
    assert folder.watcher.load() == {"a.txt": 1}
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert folder.polls() == ["changed to {'a.txt': 2}"]


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(Unusable, match=f"has {MAX_FILES + 1} files; expected at most {MAX_FILES}"):
        Folder(tmp_path).watcher.load()


@given(st.lists(st.builds(FileText, st.text(st.characters(codec="ascii"), max_size=9), st.binary(max_size=20))))
def test_files_are_told_apart_whatever_is_in_them(files: list[FileText]) -> None:
    assert _unpacked(b"".join(map(_packed, files))) == files
