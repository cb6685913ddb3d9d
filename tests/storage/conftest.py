"""Stores to test. `stores` runs a test over each kind: what it makes are replicas that share one state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from extproc.control.store import RevisionStore
from extproc.storage.keep import Keep
from extproc.storage.memory import MemoryStore
from tests.storage.replicas import Replicas

KINDS = ("memory",)


@pytest.fixture(params=KINDS)
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Replicas]:
    make: Callable[[Keep], RevisionStore] = request.getfixturevalue(f"{request.param}_store")
    replicas = Replicas(make)
    yield replicas
    await replicas.close()


@pytest.fixture
def memory_store() -> Callable[[Keep], RevisionStore]:
    """One process, so its replicas are one store."""
    made: list[MemoryStore] = []

    def make(keep: Keep) -> RevisionStore:
        made[:] = made or [MemoryStore(keep)]
        return made[0]

    return make
