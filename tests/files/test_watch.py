from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from extproc.files.problems import Unusable
from extproc.files.read import read_file
from extproc.files.watch import FileWatcher
from tests.fakes.clock import FakeClock


class Watched:
    """A file with a number in it, its watcher, and what the watcher says."""

    def __init__(self, path: Path, *, max_bytes: int = 100) -> None:
        self.path = path
        self.clock = FakeClock()
        self.heard: list[str] = []
        self.parsed = 0
        self.watcher = FileWatcher(
            path,
            self.parse,
            on_change=lambda value: self.heard.append(f"changed to {value}"),
            on_error=self.on_error,
            on_heal=lambda: self.heard.append("healed"),
            max_bytes=max_bytes,
            clock=self.clock,
        )

    def parse(self, data: bytes) -> int:
        self.parsed += 1
        try:
            return int(data)
        except ValueError:
            raise Unusable(["expected a number", f"got {data.decode()!r}"]) from None

    def on_error(self, problems: Sequence[str]) -> None:
        self.heard.append("; ".join(problems).replace(str(self.path), "file"))

    def error_since_s(self) -> float | None:
        return self.watcher.error_since_s

    def problems(self) -> tuple[str, ...]:
        return self.watcher.problems

    def polls(self, number: int = 1) -> list[str]:
        """What is said in so many polls, half a second apart."""
        for _ in range(number):
            self.clock.advance(0.5)
            self.watcher.poll()
        heard, self.heard = self.heard, []
        return heard


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    path = tmp_path / "file"
    path.write_text("1")
    watched = Watched(path)
    assert watched.watcher.load() == 1
    return watched


def replace(path: Path, text: str) -> None:
    """As careful writers do."""
    other = path.with_suffix(".new")
    other.write_text(text)
    other.rename(path)


def test_nothing_changes(watched: Watched) -> None:
    assert watched.polls(20) == []
    assert watched.parsed == 1
    assert repr(watched.watcher) == f"<FileWatcher {watched.path}, good>"


def test_a_file_that_rests_is_not_read(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.polls(10)
    monkeypatch.setattr("builtins.open", None)

    assert watched.polls(10) == []


def test_written_in_place(watched: Watched) -> None:
    watched.polls(10)
    watched.path.write_text("22")

    assert watched.polls(10) == ["changed to 22"]


def test_renamed_over(watched: Watched) -> None:
    watched.polls(10)
    replace(watched.path, "2")

    assert watched.polls(10) == ["changed to 2"]


def test_written_twice_within_one_tick_of_the_file_systems_clock(watched: Watched) -> None:
    """Same size, same time: nothing but the content tells."""
    watched.polls(10)
    watched.path.write_text("2")
    before = os.stat(watched.path)
    assert watched.polls(2) == ["changed to 2"]
    metadata = watched.watcher._metadata
    watched.path.write_text("3")
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(watched.path)
    watched.watcher._metadata = (after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns)

    assert metadata is not None
    assert watched.polls(2) == ["changed to 3"]


def test_touched(watched: Watched) -> None:
    os.utime(watched.path, ns=(1, 1))

    assert watched.polls(10) == []
    assert watched.parsed == 1


def test_a_symbolic_link_that_is_swapped(tmp_path: Path) -> None:
    """As Kubernetes does with the files of a ConfigMap: file → ..data/file, ..data → ..<time>."""
    for version in ("1", "2"):
        (tmp_path / f"..v{version}").mkdir()
        (tmp_path / f"..v{version}" / "file").write_text(version)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "file").symlink_to("..data/file")
    watched = Watched(tmp_path / "file")
    assert watched.watcher.load() == 1
    watched.polls(10)
    (tmp_path / "..data_tmp").symlink_to("..v2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    assert watched.polls(10) == ["changed to 2"]


def test_broken_and_mended(watched: Watched) -> None:
    replace(watched.path, "two")
    assert watched.polls(10) == ["file: expected a number; file: got 'two'"]
    assert watched.error_since_s() == 1001.0
    assert watched.problems() == (
        f"{watched.path}: expected a number",
        f"{watched.path}: got 'two'",
    )
    assert repr(watched.watcher) == f"<FileWatcher {watched.path}, 2 problems>"
    replace(watched.path, "2")
    assert watched.polls(10) == ["changed to 2"]
    assert watched.error_since_s() is None
    assert watched.problems() == ()


def test_broken_and_put_back(watched: Watched) -> None:
    replace(watched.path, "two")
    watched.polls(10)
    replace(watched.path, "1")

    assert watched.polls(10) == ["healed"]
    assert watched.error_since_s() is None


def test_broken_in_another_way(watched: Watched) -> None:
    replace(watched.path, "two")
    watched.polls(10)
    replace(watched.path, "zwei")

    assert watched.polls(10) == ["file: expected a number; file: got 'zwei'"]
    assert watched.error_since_s() == 1001.0


def test_gone_and_back(watched: Watched) -> None:
    watched.path.unlink()
    assert watched.polls(10) == ["file: No such file or directory"]
    assert watched.error_since_s() == 1001.0
    replace(watched.path, "1")
    assert watched.polls(10) == ["healed"]
    watched.path.unlink()
    assert watched.polls(10) == ["file: No such file or directory"]
    replace(watched.path, "2")
    assert watched.polls(10) == ["changed to 2"]


def test_gone_while_broken(watched: Watched) -> None:
    replace(watched.path, "two")
    watched.polls(2)
    watched.path.unlink()
    assert watched.polls(3) == ["file: No such file or directory"]
    replace(watched.path, "two")
    assert watched.polls(3) == ["file: expected a number; file: got 'two'"]


def test_too_large(watched: Watched) -> None:
    replace(watched.path, "1" * 101)
    assert watched.polls(10) == ["file: larger than 100 bytes"]
    replace(watched.path, "0" * 99 + "7")
    assert watched.polls(10) == ["changed to 7"]


def test_no_file(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, problem in (
        ("nothing", "No such file or directory"),
        ("directory", "expected a regular file, this is a directory"),
        ("pipe", "expected a regular file, this is a pipe"),
        ("directory/nothing/at/all", "No such file or directory"),
    ):
        with pytest.raises(Unusable) as caught:
            Watched(tmp_path / name).watcher.load()
        assert caught.value.problems == [f"{tmp_path / name}: {problem}"]


def test_no_descriptors_are_left(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        with pytest.raises(Unusable):
            Watched(tmp_path).watcher.load()

    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_all_problems_of_the_first_load(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    watched = Watched(path)

    with pytest.raises(Unusable) as caught:
        watched.watcher.load()
    assert caught.value.problems == [f"{path}: expected a number", f"{path}: got 'one'"]
    assert watched.heard == []


def test_a_file_that_is_being_written_is_looked_at_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = ["2", "33"]

    def read_and_write(path: Path, max_bytes: int) -> bytes:
        data = read_file(path, max_bytes)
        if writes:
            watched.path.write_text(writes.pop(0))
        return data

    monkeypatch.setattr("extproc.files.watch.read_file", read_and_write)
    watched.path.write_text("")

    assert watched.polls(2) == []
    assert watched.polls(5) == ["changed to 33"]


def test_what_is_written_in_place_is_believed_when_it_is_whole(watched: Watched) -> None:
    """Emptied, half there, whole: at each look it is another, and only what stays is told, broken or not."""
    watched.polls(10)
    heard = []
    for half in ("", "4", "42"):
        watched.path.write_text(half)
        heard += watched.polls()

    assert heard == []
    assert watched.polls() == ["changed to 42"]
    assert watched.problems() == ()


def test_a_change_that_is_taken_back_is_none(watched: Watched) -> None:
    watched.polls(10)
    watched.path.write_text("2")
    heard = watched.polls()
    watched.path.write_text("1")

    assert heard + watched.polls(5) == []
    assert watched.parsed == 1


def test_gone_for_a_moment(watched: Watched) -> None:
    """Between an unlink and what takes its place."""
    watched.polls(10)
    watched.path.unlink()
    heard = watched.polls()
    watched.path.write_text("1")

    assert heard + watched.polls(5) == []


def test_a_file_that_never_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("1")

    def read(_: Path, __: int) -> bytes:
        replace(path, "1")
        return b"1"

    monkeypatch.setattr("extproc.files.watch.read_file", read)

    with pytest.raises(Unusable) as caught:
        Watched(path).watcher.load()
    assert caught.value.problems == [f"{path}: changed each time it was read"]


async def test_run_looks_in_a_thread_and_tells_in_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("1")
    threads: dict[str, int] = {}
    changed = asyncio.Event()
    wake: asyncio.Queue[None] = asyncio.Queue()
    slept: list[float] = []

    def parse(data: bytes) -> int:
        threads["parse"] = threading.get_ident()
        return int(data)

    def on_change(value: int) -> None:
        threads["change"] = threading.get_ident()
        changed.set()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await wake.get()

    watcher = FileWatcher(path, parse, on_change=on_change, on_error=print, sleep=sleep)
    watcher.load()
    task = asyncio.create_task(watcher.run())
    replace(path, "2")
    wake.put_nowait(None)
    wake.put_nowait(None)
    async with asyncio.timeout(5):
        await changed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert slept[:2] == [0.5, 0.25]
    assert threads["change"] == threading.get_ident() != threads["parse"]
