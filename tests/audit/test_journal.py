"""The chain in a file."""

from __future__ import annotations

import errno
import os
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.audit.changes import verified
from extproc.audit.journal import Journal, link_of
from tests.audit.records import change, links


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "changes.v1.jsonl")


def test_records_come_back_in_their_order_and_are_chained(journal: Journal) -> None:
    journal.append([change(1).to_bytes(), change(2).to_bytes()])
    Journal(journal.path).append([change(1).to_bytes()])  # another process

    assert list(journal.links()) == links([change(1), change(2), change(1)])
    assert verified(journal.links()).faults == ()
    assert not journal.torn()


def test_one_that_is_not_there_is_empty(journal: Journal) -> None:
    assert list(journal.links()) == []
    assert not journal.torn()


def test_a_last_line_that_is_torn_is_said_and_left_out_and_the_next_takes_its_place(journal: Journal) -> None:
    journal.append([change(1).to_bytes()])
    with journal.path.open("ab") as file:
        file.write(b'{"hash":"0123')

    assert journal.torn()
    assert len(list(journal.links())) == 1

    journal.append([change(2).to_bytes()])
    assert list(journal.links()) == links([change(1), change(2)])


def test_a_long_record_is_followed_like_any_other(journal: Journal) -> None:
    long = change(1, reason="x" * 200_000)
    journal.append([long.to_bytes()])
    journal.append([change(2).to_bytes()])

    assert list(journal.links()) == links([long, change(2)])


def test_a_disk_that_takes_half_a_record_has_none(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append([change(1).to_bytes()])
    before = journal.path.read_bytes()
    write = os.write
    taken: list[int] = []

    def half(fd: int, data: memoryview) -> int:
        if taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken.append(write(fd, data[:40]))
        return taken[0]

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space left"):
        journal.append([change(2).to_bytes()])
    monkeypatch.undo()

    assert taken == [40]
    assert journal.path.read_bytes() == before


def test_what_somebody_wrote_into_it_shows(journal: Journal) -> None:
    journal.append([change(1).to_bytes(), change(2).to_bytes()])
    first, second = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(first + b"hello\n" + second)

    assert verified(journal.links()).faults


def test_nothing_is_put_behind_what_is_no_record(journal: Journal) -> None:
    journal.path.write_bytes(b"hello\n")

    with pytest.raises(ValueError, match="its last line is no record"):
        journal.append([change(1).to_bytes()])
    assert journal.path.read_bytes() == b"hello\n"


@given(st.binary(max_size=300))
def test_any_line_is_a_link_or_none(line: bytes) -> None:
    link = link_of(line)

    assert link is None or link.body in line


@given(sizes=st.lists(st.integers(0, 100_000), max_size=8), torn=st.booleans(), page=st.integers(1, 3))
def test_backwards_in_pages_they_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], torn: bool, page: int
) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "changes.v1.jsonl")
    for number, size in enumerate(sizes, 1):
        journal.append([change(number, reason="x" * size).to_bytes()])
    if torn:
        with journal.path.open("ab") as file:
            file.write(b'{"hash":"0123')
    found: list[int] = []
    before = None
    while some := list(islice(journal.links_back(before), page)):
        found += [link.number for _, link in some]
        before = some[-1][0]
    assert found == list(range(len(sizes), 0, -1))
