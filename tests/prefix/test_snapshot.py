"""Snapshots: round trips, and bytes that are none."""

from __future__ import annotations

import struct

import hypothesis.strategies as st
import pytest
import xxhash
from hypothesis import given, settings

from extproc.domain import Endpoint
from extproc.prefix.hashing import chain
from extproc.prefix.index import PrefixIndex
from extproc.prefix.snapshot import MAGIC, Held, SnapshotError, SnapshotWriter, read_snapshot
from tests.prefix.consistency import check

LABEL = "64 tokens of 4.0 bytes"
ENDPOINTS = [Endpoint("10.0.0.1", port) for port in range(8000, 8003)]
KEYS = [endpoint.key for endpoint in ENDPOINTS]


def hashes(prompt: str) -> bytes:
    return chain(prompt.encode(), 7, 1, 1000)


def written(index: PrefixIndex, now_s: float = 1000.0) -> bytes:
    writer = SnapshotWriter()
    return b"".join([writer.head(LABEL, now_s), *[writer.held(index.held(key)) for key in index.endpoints], writer.end()])


def read(data: bytes, **options: int) -> PrefixIndex:
    index = PrefixIndex(**options)
    for held in read_snapshot(data, LABEL, 1060.0, max_age_s=60):
        index.restore(held)
    return index


prompts = st.text("ab", max_size=20)
inserts = st.lists(st.tuples(st.sampled_from(KEYS), prompts.map(hashes)), max_size=30)


@settings(deadline=None)
@given(inserts=inserts, later=inserts, capacity=st.integers(1, 30), asked=st.lists(prompts.map(hashes), max_size=10))
def test_a_restart_changes_nothing(
    inserts: list[tuple[str, bytes]], later: list[tuple[str, bytes]], capacity: int, asked: list[bytes]
) -> None:
    index = PrefixIndex()
    for key in KEYS:
        index.set_capacity(key, capacity)
    for key, prompt in inserts:
        index.insert(key, prompt)
    again = read(written(index))
    check(again)
    for key in KEYS:  # said by pages
        again.set_capacity(key, capacity)
    for key, prompt in [("", b""), *later]:  # the order in which blocks leave is the same too
        if key:
            index.insert(key, prompt)
            again.insert(key, prompt)
        for prompt in asked:
            assert again.match(prompt, ENDPOINTS) == index.match(prompt, ENDPOINTS)
    assert again.size == index.size


def test_capacity_and_start_are_kept() -> None:
    index = PrefixIndex()
    index.set_capacity("a:1", 3)
    index.began("a:1", 5.5)
    index.insert("a:1", hashes("aaaa"))
    index.insert("b:1", hashes("ab"))
    again = read(written(index))
    assert again.held("a:1") == index.held("a:1") == Held("a:1", 3, 5.5, [hashes("aaa")[8:], hashes("a")])
    assert again.held("b:1") == Held("b:1", None, None, [hashes("ab")[8:], hashes("a")])
    assert again.began("a:1", 6.5)
    assert again.matched(hashes("a"), "a:1") == 0


def test_what_is_known_by_now_is_believed_and_not_the_snapshot() -> None:
    index = PrefixIndex()
    for key in ("a:1", "b:1"):
        index.began(key, 5.0)
        index.insert(key, hashes("ab"))
    data = written(index)
    again = PrefixIndex()
    again.began("a:1", 6.0)
    again.insert("b:1", hashes("b"))
    for held in read_snapshot(data, LABEL, 1000.0, max_age_s=60):
        again.restore(held)
    assert [again.matched(hashes("ab"), key) for key in ("a:1", "b:1")] == [0, 0]


def test_a_snapshot_is_taken_within_the_bound() -> None:
    index = PrefixIndex()
    for at in range(500):
        index.insert(KEYS[at % 3], chain(b"%d" % at, 1, 1, 9))
    small = read(written(index), max_bytes=5000)
    assert 0 < small.bytes_used <= 5000
    check(small)


@pytest.mark.parametrize(
    ("label", "now_s", "said"),
    [
        ("16 tokens", 1000.0, "snapshot was written for '64 tokens of 4.0 bytes', expected '16 tokens'"),
        (LABEL, 1061.0, "snapshot is 61 s old, expected at most 60 s"),
    ],
)
def test_one_of_another_kind_or_too_old(label: str, now_s: float, said: str) -> None:
    with pytest.raises(SnapshotError, match=said):
        read_snapshot(written(PrefixIndex()), label, now_s, max_age_s=60)


def test_another_version() -> None:
    data = bytearray(written(PrefixIndex()))
    data[8] = 9
    with pytest.raises(SnapshotError, match="snapshot has version 9, expected 4"):
        read(bytes(data))


def sealed(body: bytes) -> bytes:
    return body + xxhash.xxh3_128_digest(body)


@given(data=st.binary(max_size=200))
def test_garbage(data: bytes) -> None:
    for garbage in (data, MAGIC + data):
        with pytest.raises(SnapshotError):
            read(garbage)


@given(body=st.binary(max_size=200))
def test_garbage_with_a_right_checksum(body: bytes) -> None:
    head = SnapshotWriter().head(LABEL, 1000.0)
    try:
        index = read(sealed(head + body))
    except SnapshotError:
        return
    check(index)


@settings(deadline=None)
@given(inserts=inserts, data=st.data())
def test_one_byte_that_is_another_or_is_missing(inserts: list[tuple[str, bytes]], data: st.DataObject) -> None:
    index = PrefixIndex()
    for key, prompt in inserts:
        index.insert(key, prompt)
    whole = written(index)
    at = data.draw(st.integers(0, len(whole) - 1))
    for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]):
        with pytest.raises(SnapshotError):
            read(damaged)


def test_a_length_is_not_believed() -> None:
    head = SnapshotWriter().head(LABEL, 1000.0)
    body = head + struct.pack("<H", 1) + b"a" + struct.pack("<qdI", -1, 0.0, 4_000_000_000)
    with pytest.raises(SnapshotError, match="snapshot ends after"):
        read(sealed(body))
