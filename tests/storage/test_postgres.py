from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from extproc.control.store import State, StoreUnavailable
from extproc.storage.dialect import Limits
from extproc.storage.open import open_store
from extproc.storage.postgres import Postgres
from extproc.storage.sql import SqlStore
from tests.storage.clock import Clock
from tests.storage.replicas import commit, created
from tests.storage.server import PostgresServer

BRIEF = Limits(connect_s=2.0, statement_s=0.3)


def on(url: str, clock: Clock, limits: Limits = BRIEF) -> SqlStore:
    return SqlStore(Postgres(url, limits=limits), limits=limits, clock=clock, draw=lambda: 1.0)


def backends(postgres: PostgresServer) -> list[int]:
    """The server's processes that serve stores."""
    with postgres.admin() as connection:
        rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'extproc'").fetchall()
    return [int(str(pid)) for (pid,) in rows]


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Alive, and silent."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_two_replicas_converge_within_a_second(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.new_schema())
    first, second = open_store(url), open_store(url)
    await asyncio.gather(first.open(), second.open())
    heard: asyncio.Queue[tuple[int, float]] = asyncio.Queue()
    watching = asyncio.create_task(second.watch(lambda number: heard.put_nowait((number, time.monotonic()))))
    assert (await heard.get())[0] == 0

    late_s = []
    for number in range(1, 21):
        await commit(first, number - 1, created("a"))
        acknowledged_s = time.monotonic()
        while (told := await heard.get())[0] != number:
            pass
        late_s.append(told[1] - acknowledged_s)

    assert max(late_s) < 1
    assert statistics.median(late_s) < 0.25, "notified, not found by looking"
    watching.cancel()
    await asyncio.wait([watching])
    await first.close()
    await second.close()


async def test_commits_are_durable_whatever_the_role_has_set(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.new_schema())
    for given, kept in (("off", "on"), ("remote_apply", "remote_apply")):
        engine = Postgres(f"{url}%20-csynchronous_commit%3D{given}").engine()
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == kept
        engine.dispose()


async def test_sessions_that_somebody_ended_are_made_anew(postgres: PostgresServer) -> None:
    store = on(postgres.url(postgres.new_schema()), Clock())
    await store.open()
    heard: asyncio.Queue[int] = asyncio.Queue()
    watching = asyncio.create_task(store.watch(heard.put_nowait))
    assert await heard.get() == 0

    with postgres.admin() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'extproc'")

    assert await heard.get() == 0, "told again, as something may have been missed"
    assert await commit(store, 0, created("a")) == 1
    assert await heard.get() == 1
    watching.cancel()
    await asyncio.wait([watching])
    await store.close()


async def test_watching_ends_when_the_state_goes_back(postgres: PostgresServer) -> None:
    schema = postgres.new_schema()
    store = on(postgres.url(schema), Clock())
    await store.open()
    await commit(store, 0, created("a"), created("b"))
    heard: asyncio.Queue[int] = asyncio.Queue()
    watching = asyncio.create_task(store.watch(heard.put_nowait))
    assert await heard.get() == 2

    with postgres.admin() as connection:
        connection.execute(f"UPDATE {schema}.extproc_state SET number = 1")

    with pytest.raises(StoreUnavailable, match=r"^postgresql://.*: its state went back from revision 2 to 1$"):
        await watching
    watching = asyncio.create_task(store.watch(heard.put_nowait))
    assert await heard.get() == 1
    watching.cancel()
    await asyncio.wait([watching])
    await store.close()


async def test_while_the_server_is_down_the_store_says_so_and_then_it_goes_on(postgres: PostgresServer) -> None:
    clock = Clock()
    store = on(postgres.url(postgres.new_schema()), clock)
    await store.open()
    await commit(store, 0, created("a"))
    heard: asyncio.Queue[int] = asyncio.Queue()
    watching = asyncio.create_task(store.watch(heard.put_nowait))
    assert await heard.get() == 1

    postgres.stop("fast")
    try:
        with pytest.raises(StoreUnavailable, match=r"^postgresql://postgres@/tmp/.*: "):
            await watching
        with pytest.raises(StoreUnavailable, match="connection"):
            await commit(store, 1, created("b"))
        with pytest.raises(StoreUnavailable, match=r"connection.*; tried again in 0\.1 s$"):
            await store.load()
    finally:
        postgres.start()

    watching = asyncio.create_task(store.watch(heard.put_nowait))
    assert await heard.get() == 1
    assert await commit(store, 1, created("b")) == 2, "the watch has opened the gate: no pause any more"
    assert await heard.get() == 2
    watching.cancel()
    await asyncio.wait([watching])
    await store.close()


async def test_a_server_that_is_silent_is_given_up(postgres: PostgresServer) -> None:
    clock = Clock()
    store = on(postgres.url(postgres.new_schema()), clock, Limits(connect_s=0.2, statement_s=0.3))
    await store.open()
    heard: asyncio.Queue[int] = asyncio.Queue()
    watching = asyncio.create_task(store.watch(heard.put_nowait))
    assert await heard.get() == 0

    with stopped(backends(postgres)):
        with pytest.raises(StoreUnavailable, match=r"no answer in 0\.5 s$"):
            await commit(store, 0, created("a"))
        # The postmaster answers still, so both connect anew: the store, when it is asked, and its watch by itself.
        assert await heard.get() == 0
    clock.now_s += 1
    state = await store.load()
    assert state == State(0, {})
    watching.cancel()
    await asyncio.wait([watching])
    await store.close()


async def test_a_transaction_that_hangs_elsewhere_is_no_endless_wait(postgres: PostgresServer) -> None:
    schema, clock = postgres.new_schema(), Clock()
    store = on(postgres.url(schema), clock)
    await store.open()
    with postgres.admin() as other, other.transaction():
        other.execute(f"SELECT * FROM {schema}.extproc_state FOR UPDATE")

        with pytest.raises(StoreUnavailable, match="canceling statement due to statement timeout"):
            await commit(store, 0, created("a"))

    clock.now_s += 1
    assert await commit(store, 0, created("a")) == 1
    await store.close()


async def test_a_password_is_shown_nowhere(postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    with postgres.admin() as connection:
        connection.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
    url = postgres.url().replace("postgres@", "locked:s3cr%2Ft-w0rd@")
    store = on(url, Clock())

    with pytest.raises(StoreUnavailable, match='password authentication failed for user "locked"') as caught:
        await store.open()
    with pytest.raises(StoreUnavailable) as watched:
        await store.watch(lambda number: None)

    texts = [repr(store), caplog.text, *(f"{each.value} {each.value!r} {each.value.__cause__}" for each in (caught, watched))]
    assert not [text for text in texts if "s3cr" in text]
    assert repr(store) == f"<SqlStore postgresql://locked@{postgres.home}/postgres not open>"
    await store.close()


async def test_who_may_not_make_tables_is_told(postgres: PostgresServer) -> None:
    schema = postgres.new_schema()
    with postgres.admin() as connection:
        connection.execute(f"CREATE ROLE nobody_{schema} LOGIN; GRANT USAGE ON SCHEMA {schema} TO nobody_{schema}")
    store = open_store(postgres.url(schema, f"nobody_{schema}"))

    with pytest.raises(StoreUnavailable, match=f"permission denied for schema {schema}"):
        await store.open()
    await store.close()


async def test_a_standby_refuses_commits_and_answers_reads(postgres: PostgresServer) -> None:
    schema = postgres.new_schema()
    store = open_store(postgres.url(schema))
    await store.open()
    await store.close()
    reading = on(f"{postgres.url(schema)}%20-cdefault_transaction_read_only%3Don", Clock())
    await reading.open()
    assert await reading.load() == State(0, {})
    with pytest.raises(StoreUnavailable, match="read-only transaction"):
        await commit(reading, 0, created("a"))
    await reading.close()


async def test_of_many_that_make_the_schema_at_once_all_find_it(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.new_schema())
    stores = [open_store(url) for _ in range(6)]

    await asyncio.gather(*(store.open() for store in stores))

    assert [await store.load() for store in stores] == [State(0, {})] * 6
    for store in stores:
        await store.close()
