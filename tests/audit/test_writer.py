"""The thread that writes: nothing is lost but what is counted."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from extproc.audit.files import PACKED, PARQUET, Retention, decision_files, file_name
from extproc.audit.reader import Reading, Wanted, decisions
from extproc.audit.row import line_of
from extproc.audit.writer import DecisionWriter, Limits

SOON = Limits(pause_s=0.0)
WITHIN_S = 20.0


def line(request_id: str) -> str:
    return line_of(1_790_000_000_000, request_id, "", "", 1.0)


def ids(folder: Path) -> list[str]:
    return [each["id"] for each in decisions(folder, Wanted(), Reading())]


def written(folder: Path, *lines: str, limits: Limits = SOON, suffix: str = PACKED, **words: Any) -> DecisionWriter:
    """One that was handed these, and has ended."""
    writer = DecisionWriter(folder, "host-1", suffix, limits, **words)
    writer.start()
    for each in lines:
        writer.waiting.add(each)
    writer.stop()
    return writer


@pytest.mark.parametrize("suffix", [PACKED, PARQUET])
def test_what_is_handed_over_is_there_when_it_has_ended(tmp_path: Path, suffix: str) -> None:
    names = [str(n) for n in range(1000)]

    writer = written(tmp_path / "made", *map(line, names), suffix=suffix)

    assert ids(tmp_path / "made") == names
    assert (writer.counts.written, writer.waiting.full, writer.counts.failed, writer.waiting.size_bytes) == (1000, 0, 0, 0)
    (file,) = decision_files(tmp_path / "made")
    assert file.suffix == suffix
    assert file.path.stat().st_mode & 0o027 == 0


def test_nothing_was_decided_and_nothing_is_left(tmp_path: Path) -> None:
    written(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_file_is_closed_when_it_is_large_enough(tmp_path: Path) -> None:
    lines = [line(f"{n:05}") for n in range(60_000)]
    writer = written(tmp_path, *lines, limits=SOON._replace(file_bytes=2**20, waiting_bytes=2**30))

    assert writer.counts.closed == len(decision_files(tmp_path)) > 1
    assert sorted(ids(tmp_path)) == [f"{n:05}" for n in range(60_000)]


def test_a_file_is_closed_when_it_is_old_enough(tmp_path: Path) -> None:
    closed = threading.Event()

    def now_s() -> float:
        if writer.counts.closed:
            closed.set()  # asked, for what is to be deleted now
        return 1_790_000_000.0

    writer = DecisionWriter(tmp_path, "host-1", PACKED, SOON._replace(file_age_s=0.01), wall_clock=now_s)
    writer.start()
    writer.waiting.add(line("a"))
    try:
        assert closed.wait(WITHIN_S)
    finally:
        writer.stop()

    assert ids(tmp_path) == ["a"]


def test_what_is_too_much_is_dropped_and_counted(tmp_path: Path) -> None:
    writer = DecisionWriter(tmp_path, "host-1", PACKED, SOON._replace(waiting_bytes=1000))
    size = len(line("0"))
    for _ in range(100):
        writer.waiting.add(line("0"))
    assert writer.waiting.size_bytes <= 1000
    writer.start()
    writer.stop()

    assert len(ids(tmp_path)) == writer.counts.written == 1000 // size
    assert writer.waiting.full == 100 - 1000 // size


def test_lines_that_come_together_are_counted_one_by_one(tmp_path: Path) -> None:
    writer = DecisionWriter(tmp_path, "host-1", PACKED, SOON._replace(waiting_bytes=1000))
    three = line("0") * 3
    times = 1000 // len(three) + 2
    for _ in range(times):
        writer.waiting.add(three, 3)
    writer.start()
    writer.stop()

    assert writer.waiting.full == 6
    assert len(ids(tmp_path)) == writer.counts.written == writer.waiting.added == 3 * (times - 2)


class FullDisk:
    """A disk that takes some bytes of each writing, and then none, until it is emptied."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        self.asked = threading.Event()
        self._write = os.write
        self._takes = 10
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: memoryview) -> int:
        if not self.full:
            return self._write(fd, data)
        if self._takes:
            taken, self._takes = self._takes, 0
            return self._write(fd, data[:taken])
        self.asked.set()
        self._takes = 10
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_drops_and_counts_and_leaves_no_half_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    disk = FullDisk(monkeypatch)
    writer = DecisionWriter(tmp_path, "host-1", PACKED, SOON, tell=told.append)
    writer.start()
    writer.waiting.add(line("lost") + line("as well"), 2)
    assert disk.asked.wait(WITHIN_S)
    disk.full = False
    writer.stop()  # the lost ones are accounted for
    assert writer.counts.failed == 2
    assert writer.problem == "No space left on device"

    again = written(tmp_path, line("kept"), tell=told.append)

    assert (again.counts.failed, again.problem) == (0, "")
    assert ids(tmp_path) == ["kept"]
    assert told == ["No space left on device"]


def test_it_goes_on_when_the_disk_does_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    disk = FullDisk(monkeypatch)
    over = threading.Event()

    def tell(words: str) -> None:
        told.append(words)
        if not words:
            over.set()

    writer = DecisionWriter(tmp_path, "host-1", PACKED, SOON, tell=tell)
    writer.start()
    writer.waiting.add(line("lost"))
    assert disk.asked.wait(WITHIN_S)
    disk.full = False
    while not over.wait(0.01):
        writer.waiting.add(line("kept"))
    writer.stop()

    assert told == ["No space left on device", ""]
    assert set(ids(tmp_path)) == {"kept"}
    assert writer.counts.written + writer.counts.failed == writer.waiting.added


def test_files_go_when_they_are_too_old_or_too_many(tmp_path: Path) -> None:
    now_s = 1_790_000_000.0
    for age_s in (5000, 3000, 2000, 1000):
        (tmp_path / file_name(now_s - age_s, "host-9").replace(".jsonl", ".jsonl.zst")).write_bytes(b"x" * 100)

    written(tmp_path, limits=SOON._replace(keep=Retention(4000, 250)), wall_clock=lambda: now_s)

    assert [round(now_s - file.begun_s) for file in decision_files(tmp_path)] == [2000, 1000]


def test_no_limit_keeps_all(tmp_path: Path) -> None:
    (tmp_path / file_name(1.0, "host-9").replace(".jsonl", ".jsonl.zst")).write_bytes(b"x" * 100)

    written(tmp_path, limits=SOON._replace(keep=Retention(0, 0)))

    assert len(decision_files(tmp_path)) == 1


def test_what_another_process_left_open_is_closed_without_its_torn_line(tmp_path: Path) -> None:
    left = tmp_path / file_name(1_790_000_000, "host-9")
    left.write_text(line("a") + line("b")[:-5])

    writer = written(tmp_path, wall_clock=lambda: 1_790_000_100.0)

    assert writer.counts.torn == 1
    (file,) = decision_files(tmp_path)
    assert file.suffix == PACKED
    assert ids(tmp_path) == ["a"]


def test_what_another_process_is_writing_is_left_to_it(tmp_path: Path) -> None:
    theirs = tmp_path / file_name(1_790_000_000, "host-9")
    with theirs.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write((line("theirs") + line("half")[:-5]).encode())
        file.flush()

        written(tmp_path, line("mine"), limits=SOON._replace(keep=Retention(1.0, 0)), wall_clock=lambda: 4e9)

        assert theirs.read_text().endswith(line("half")[:-5])

    assert sorted(ids(tmp_path)) == ["mine", "theirs"]


def test_a_file_that_can_be_no_table_is_packed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / file_name(1_790_000_000, "host-9")).write_text(line("a") + "no JSON\n")

    writer = written(tmp_path, suffix=PARQUET, wall_clock=lambda: 1_790_000_100.0)

    (file,) = decision_files(tmp_path)
    assert file.suffix == PACKED
    assert ids(tmp_path) == ["a"]
    assert writer.problem == ""


def test_a_folder_that_can_not_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        DecisionWriter(tmp_path / "file" / "sub", "host-1", PACKED).start()
