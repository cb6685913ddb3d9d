"""Stores to test. `stores` runs a test over each kind: what it makes are replicas that share one state.

PostgreSQL is a real server (`scripts/install-postgres`). Where it is not installed its tests are skipped, but not in CI.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from extproc.control.store import Store
from extproc.storage.keep import Keep
from extproc.storage.memory import MemoryStore
from extproc.storage.open import open_store
from tests.storage.replicas import Replicas
from tests.storage.server import PostgresServer, a_server

KINDS = ("memory", "sqlite", "postgres")


@pytest.fixture(params=KINDS)
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Replicas]:
    make: Callable[[Keep], Store] = request.getfixturevalue(f"{request.param}_store")
    replicas = Replicas(make)
    yield replicas
    await replicas.close()


@pytest.fixture
def memory_store() -> Callable[[Keep], Store]:
    """One process, so its replicas are one store."""
    made: list[MemoryStore] = []

    def make(keep: Keep) -> Store:
        made[:] = made or [MemoryStore(keep)]
        return made[0]

    return make


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Callable[[Keep], Store]:
    return lambda keep: open_store(f"sqlite:///{tmp_path}/state.db", keep)


@pytest.fixture
def postgres_store(postgres: PostgresServer) -> Callable[[Keep], Store]:
    url = postgres.url(postgres.new_schema())
    return lambda keep: open_store(url, keep)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    yield from a_server()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a new database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(server.new_schema())
