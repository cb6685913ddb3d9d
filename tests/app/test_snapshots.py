"""Snapshots on disk: whole or not there, and never a reason not to serve."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from extproc.app.snapshots import Snapshots
from extproc.scheduling.plugins.base import UnusableSnapshot
from tests.app.running import until


class Memory:
    """Keeps some bytes."""

    def __init__(self, known: bytes = b"") -> None:
        self.known = known
        self.fails = False

    def snapshot(self, now_s: float) -> Iterator[bytes]:
        for at in range(0, len(self.known), 3):
            yield self.known[at : at + 3]
        if self.fails:
            raise OSError(28, "No space left on device")

    def restore(self, data: bytes, now_s: float) -> Iterator[None]:
        if not data.startswith(b"good"):
            raise UnusableSnapshot("it is bad")
        self.known = data
        yield

    def began(self, endpoint: str, started_s: float) -> None:
        raise AssertionError("pages tell it, not we")


def snapshots(folder: Path, keeper: Memory, interval_s: float = 3600.0) -> Snapshots:
    return Snapshots(str(folder), interval_s, {"a/b": {"prefix": keeper}})


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


FILE = "a%2Fb.prefix.snapshot"


async def test_what_is_written_at_the_end_is_there_at_the_next_start(tmp_path: Path) -> None:
    before = snapshots(tmp_path / "new", Memory(b"good one"))
    await before.start()
    await before.close()
    assert names(tmp_path / "new") == [FILE]
    keeper = Memory()
    after = snapshots(tmp_path / "new", keeper)
    await after.start()
    assert keeper.known == b"good one"


async def test_it_is_written_every_so_often(tmp_path: Path) -> None:
    component = snapshots(tmp_path, Memory(b"good one"), interval_s=0.001)
    await component.start()
    ready = asyncio.Event()
    ready.set()
    task = asyncio.create_task(component.run(ready))
    await until(lambda: asyncio.to_thread((tmp_path / FILE).exists))
    task.cancel()
    await asyncio.wait([task])
    assert (tmp_path / FILE).read_bytes() == b"good one"


async def test_one_that_can_not_be_used_is_told_and_replaced(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"bad")
    keeper = Memory(b"good new")
    component = snapshots(tmp_path, keeper)
    with capture_logs() as logs:
        await component.start()
    assert [(line["log_level"], line["error"]) for line in logs] == [("warning", "it is bad")]
    await component.close()
    assert (tmp_path / FILE).read_bytes() == b"good new"


async def test_a_disk_that_is_full_leaves_the_one_before_and_is_told_once(tmp_path: Path) -> None:
    keeper = Memory(b"good one")
    component = snapshots(tmp_path, keeper)
    await component.start()
    await component.close()
    keeper.known, keeper.fails = b"good two", True
    with capture_logs() as logs:
        await component.close()
        await component.close()
    assert [line["event"] for line in logs] == ["snapshot can't be written"]
    assert names(tmp_path) == [FILE]
    assert (tmp_path / FILE).read_bytes() == b"good one"


@pytest.mark.parametrize("kind", ["folder", "fifo"])
async def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        (tmp_path / FILE).mkdir()
    else:
        os.mkfifo(tmp_path / FILE)
    with capture_logs() as logs:
        await snapshots(tmp_path, Memory()).start()
    assert "expected a regular file" in logs[0]["error"]
