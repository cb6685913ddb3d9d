from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from extproc.control.store import State, StoreUnavailable
from extproc.storage.dialect import Limits
from extproc.storage.open import open_store
from extproc.storage.sql import SqlStore
from extproc.storage.sqlite import Sqlite
from tests.storage.clock import Clock
from tests.storage.replicas import commit, created

BRIEF = Limits(connect_s=2.0, statement_s=0.2)


def on(path: Path, clock: Clock) -> SqlStore:
    path.touch()
    return SqlStore(Sqlite(path, limits=BRIEF), limits=BRIEF, clock=clock, draw=lambda: 1.0)


def remove(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink()


async def test_commits_are_synced_to_a_log_and_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = open_store(f"sqlite:///{path}")
    await store.open()

    assert {stat.S_IMODE(os.stat(f"{path}{end}").st_mode) for end in ("", "-wal", "-shm")} == {0o600}
    await store.close()
    connection = Sqlite(path).engine().raw_connection()
    try:
        cursor = connection.cursor()
        assert cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert cursor.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    finally:
        connection.detach()
        connection.close()


async def test_a_lock_that_another_process_keeps_is_no_endless_wait(tmp_path: Path) -> None:
    clock = Clock()
    store = on(tmp_path / "state.db", clock)
    await store.open()
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match=rf"^sqlite:///{tmp_path}/state.db: database is locked$"):
        await commit(store, 0, created("a"))
    with pytest.raises(StoreUnavailable, match=r"database is locked; tried again in 0\.1 s$"):
        await store.load()

    other.execute("ROLLBACK")
    other.close()
    clock.now_s += 0.2
    assert await store.load() == State(0, {})  # who only reads would not have waited
    assert await commit(store, 0, created("a")) == 1
    await store.close()


@pytest.mark.parametrize("happens", ["removed", "replaced"])
async def test_a_file_that_is_another_one_now_gets_no_commit(tmp_path: Path, happens: str) -> None:
    path, clock = tmp_path / "state.db", Clock()
    store = on(path, clock)
    await store.open()
    await commit(store, 0, created("a"))
    if happens == "replaced":
        shutil.copy(path, tmp_path / "copy.db")  # without the log, which has the tables
    remove(path)
    if happens == "replaced":
        (tmp_path / "copy.db").rename(path)

    with pytest.raises(StoreUnavailable, match="no such table" if happens == "replaced" else "unable to open"):
        await commit(store, 1, created("b"))
    assert path.exists() == (happens == "replaced")
    await store.close()


async def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("servingEndpoints: [chat]\n" * 100)
    store = open_store(f"sqlite:///{path}")

    with pytest.raises(StoreUnavailable, match=rf"^sqlite:///{path}: file is not a database$"):
        await store.open()
    await store.close()


async def test_of_many_that_make_the_schema_at_once_all_find_it(tmp_path: Path) -> None:
    stores = [open_store(f"sqlite:///{tmp_path}/state.db") for _ in range(8)]

    await asyncio.gather(*(store.open() for store in stores))

    assert [await store.load() for store in stores] == [State(0, {})] * 8
    for store in stores:
        await store.close()


async def test_two_on_one_file_converge(tmp_path: Path) -> None:
    first, second = (open_store(f"sqlite:///{tmp_path}/state.db") for _ in range(2))
    await first.open()
    await second.open()
    heard: asyncio.Queue[int] = asyncio.Queue()
    watching = asyncio.create_task(second.watch(heard.put_nowait))
    assert await heard.get() == 0

    await commit(first, 0, created("a"))
    assert await heard.get() == 1
    watching.cancel()
    await asyncio.wait([watching])
    await first.close()
    await second.close()


async def test_watching_ends_when_the_state_goes_back(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = on(path, Clock())
    await store.open()
    await commit(store, 0, created("a"), created("b"))
    heard: asyncio.Queue[int] = asyncio.Queue()
    watching = asyncio.create_task(store.watch(heard.put_nowait))
    assert await heard.get() == 2

    with sqlite3.connect(path) as backup:
        backup.execute("UPDATE extproc_state SET number = 1")
    backup.close()

    with pytest.raises(StoreUnavailable, match=rf"^sqlite:///{path}: its state went back from revision 2 to 1$"):
        await watching
    watching = asyncio.create_task(store.watch(heard.put_nowait))
    assert await heard.get() == 1
    watching.cancel()
    await asyncio.wait([watching])
    await store.close()


async def test_watching_ends_when_the_file_is_gone(tmp_path: Path) -> None:
    store = on(tmp_path / "state.db", Clock())
    await store.open()
    heard: asyncio.Queue[int] = asyncio.Queue()
    watching = asyncio.create_task(store.watch(heard.put_nowait))
    assert await heard.get() == 0

    remove(tmp_path / "state.db")

    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        await watching
    await store.close()
