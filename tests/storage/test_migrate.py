"""The schema: made under a lock, held to what the code reads, and refused when it is a newer one."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine

from extproc.control.store import SchemaTooNew, State
from extproc.storage.migrate import MIGRATIONS, migrate
from extproc.storage.open import open_store
from extproc.storage.postgres import Postgres
from extproc.storage.sqlite import Sqlite
from extproc.storage.tables import METADATA, VERSION_TABLE
from tests.storage.replicas import commit, created

STEPS = sorted(path.stem for path in (MIGRATIONS / "versions").glob("v*.py"))

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table("extproc_plans", sa.Column("name", sa.Text(), primary_key=True))
    {fails}
"""


@pytest.fixture
def newer(tmp_path: Path) -> Callable[..., Path]:
    """The steps of a release to come."""

    def make(fails: str = "") -> Path:
        folder = tmp_path / "50% newer"
        shutil.copytree(MIGRATIONS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions/v0004_plans.py").write_text(NEXT.format(fails=fails))
        return folder

    return make


def engine_of(url: str) -> Engine:
    return (Sqlite(Path(url.removeprefix("sqlite:///"))) if url.startswith("sqlite") else Postgres(url)).engine()


def upgrade(url: str, folder: Path) -> None:
    engine = engine_of(url)
    try:
        with engine.connect() as connection, connection.begin():
            migrate(connection, "test", folder)
    finally:
        engine.dispose()


def test_steps_are_numbered_without_gaps() -> None:
    assert [re.match(r"v(\d{4})_[a-z_]+$", name)[1] for name in STEPS] == [  # type: ignore[index]
        f"{number:04}" for number in range(1, len(STEPS) + 1)
    ]


async def test_the_steps_make_the_tables_that_the_code_knows(url: str) -> None:
    store = open_store(url)
    await store.open()
    await store.close()

    engine = engine_of(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, METADATA) == []
        indexes = {index.name for table in METADATA.tables.values() for index in table.indexes}
        assert len(indexes) == 3
    engine.dispose()


async def test_opening_again_changes_nothing(url: str) -> None:
    for number in range(3):
        store = open_store(url)
        await store.open()
        assert (await store.load()).number == number
        await commit(store, number, created("a"))
        await store.close()


async def test_a_newer_schema_is_refused_and_both_versions_are_named(url: str, newer: Callable[..., Path]) -> None:
    store = open_store(url)
    await store.open()
    upgrade(url, newer())

    assert await commit(store, 0, created("a")) == 1, "who is running goes on: a step only adds"
    await store.close()
    with pytest.raises(
        SchemaTooNew, match=r"its schema has version 0004, and this release of extproc knows versions up to 0003; run the newer"
    ):
        await store_again(url)


async def store_again(url: str) -> None:
    store = open_store(url)
    try:
        await store.open()
    finally:
        await store.close()


async def test_a_schema_of_today_is_brought_to_the_next(url: str, newer: Callable[..., Path]) -> None:
    store = open_store(url)
    await store.open()
    await commit(store, 0, created("a"))
    await store.close()
    folder = newer()

    upgrade(url, folder)
    upgrade(url, folder)

    engine = engine_of(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM extproc_plans").scalar_one() == 0
        assert connection.exec_driver_sql("SELECT number FROM extproc_state").scalar_one() == 1
    engine.dispose()


async def test_a_step_that_fails_half_way_leaves_nothing(url: str, newer: Callable[..., Path]) -> None:
    if url.startswith("sqlite:///"):
        open_store(url)  # makes the file
    with pytest.raises(RuntimeError, match="half way"):
        upgrade(url, newer('raise RuntimeError("half way")'))

    store = open_store(url)
    await store.open()  # not too new, and not there already
    assert await store.load() == State(0, {})
    await store.close()


async def test_tables_of_others_in_the_same_database_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE endpoints (endpoint_id TEXT)")
        other.execute("CREATE TABLE alembic_version (version_num TEXT)")
        other.execute("INSERT INTO alembic_version VALUES ('b7c8d9e0f1a2')")
    other.close()

    store = open_store(f"sqlite:///{path}")
    await store.open()
    assert await commit(store, 0, created("a")) == 1
    await store.close()
