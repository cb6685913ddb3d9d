"""Nobody waits for the reader of the log: what doesn't fit is dropped, counted and said."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from extproc.observability.log_writer import LogWriter


class Pipe:
    """A pipe that is full, and a reader who comes when the test says so."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.writing, False)
        self.stuffing = 0
        try:
            while True:
                self.stuffing += os.write(self.writing, b"." * 4096)
        except BlockingIOError:
            pass
        os.set_blocking(self.writing, True)

    def read(self, until: bytes) -> bytes:
        """What was written, until it ends like that."""
        seen = b""
        while not seen.endswith(until):
            seen += os.read(self.reading, 2**16)
        return seen.lstrip(b".")

    def close(self) -> None:
        os.close(self.reading)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def notice(lines: int) -> bytes:
    return b"%d were dropped\n" % lines


def test_lines_go_out_in_order() -> None:
    reading, writing = os.pipe()
    writer = LogWriter(writing, notice)
    for number in range(1000):
        writer.put(b"line %d\n" % number)
    assert writer.close(5)
    assert os.read(reading, 2**16) == b"".join(b"line %d\n" % number for number in range(1000))
    assert writer.dropped == 0


def test_a_stalled_reader_holds_up_nobody(pipe: Pipe) -> None:
    writer = LogWriter(pipe.writing, notice, max_lines=10)
    for number in range(10_000):
        writer.put(b"line %d\n" % number)  # would be for ever
    assert writer.dropped >= 10_000 - 10 - 10  # one batch is with the thread


def test_the_end_does_not_wait_for_a_stalled_reader(pipe: Pipe) -> None:
    writer = LogWriter(pipe.writing, notice)
    writer.put(b"line\n")
    assert writer.close(0.01) is False


def test_a_reader_who_is_back_is_told(pipe: Pipe) -> None:
    """Where the lines are missing when others come behind them; else when all that fitted is read."""
    writer = LogWriter(pipe.writing, notice, max_lines=3)
    while not writer.dropped:
        writer.put(b"line\n")
    lost = writer.dropped
    seen = pipe.read(b"dropped\n")
    assert seen.endswith(b"line\n" + notice(lost))
    writer.put(b"next\n")
    assert pipe.read(b"next\n") == b"next\n"
    assert writer.close(5)


def test_bytes_are_bounded_too(pipe: Pipe) -> None:
    writer = LogWriter(pipe.writing, notice, max_bytes=100)
    writer.put(b"x" * 101)
    assert writer.dropped == 1


def test_a_reader_who_left() -> None:
    """Its lines are lost, and nothing else."""
    reading, writing = os.pipe()
    os.close(reading)
    writer = LogWriter(writing, notice)
    writer.put(b"line\n")
    assert writer.close(5)
    assert writer.dropped == 1


def test_a_descriptor_that_somebody_made_non_blocking(pipe: Pipe) -> None:
    os.set_blocking(pipe.writing, False)
    writer = LogWriter(pipe.writing, notice)
    writer.put(b"line\n")
    assert writer.close(0.01) is False
    assert pipe.read(b"line\n") == b"line\n"
    assert writer.close(5)


def test_writers_from_many_threads() -> None:
    reading, writing = os.pipe()
    writer = LogWriter(writing, notice)

    def write() -> None:
        for _ in range(500):
            writer.put(b"line\n")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.close(5)
    assert os.read(reading, 2**16) == b"line\n" * 2000
