"""kill -9 during 50 concurrent commits, again and again: nothing acknowledged is lost, and no half of a commit is there."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from extproc.control.store import Revision, State
from extproc.storage.open import open_store
from tests.storage.killing import Replica
from tests.storage.server import PostgresServer


async def stored(url: str) -> tuple[State, list[Revision]]:
    store = open_store(url)
    await store.open()
    try:
        return await store.load(), list(await store.since(0))
    finally:
        await store.close()


def check_whole(state: State, revisions: list[Revision], acked: list[str]) -> None:
    assert [each.number for each in revisions] == list(range(1, state.number + 1))
    commits: dict[str, list[Revision]] = defaultdict(list)
    for each in revisions:
        commits[each.reason].append(each)
    for name, parts in commits.items():
        (document,) = {each.change.document for each in parts}
        assert document == f"{name} of {len(parts)}".encode(), "half of a commit"
        assert [each.number for each in parts] == list(range(parts[0].number, parts[0].number + len(parts)))
    assert set(acked) <= {f"{parts[-1].number} {name}" for name, parts in commits.items()}
    assert state.documents == {each.change.endpoint: each.change.document for each in revisions}


async def kill_again_and_again(url: str, rounds: int) -> None:
    acked: list[str] = []
    for turn in range(rounds):
        with Replica("committer", url, f"r{turn}") as replica:
            acked += replica.killed(5 + 10 * turn)
        state, revisions = await stored(url)
        check_whole(state, revisions, acked)
    assert len(acked) >= sum(5 + 10 * turn for turn in range(rounds))


async def test_sqlite(tmp_path: Path) -> None:
    await kill_again_and_again(f"sqlite:///{tmp_path}/state.db", 3)


async def test_postgres(postgres: PostgresServer) -> None:
    await kill_again_and_again(postgres.url(postgres.new_schema()), 2)


async def test_a_crash_of_the_server_loses_nothing_and_the_store_comes_back(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.new_schema())
    with Replica("committer", url, "r") as replica:
        acked = replica.acknowledged(30)
        postgres.stop("immediate")
        postgres.start()
        known = (await stored(url))[0].number

        while int(acked[-1].split()[0]) <= known:
            acked += replica.acknowledged(1)  # what it wrote before the crash; then what it commits after that
        acked += replica.killed(10)

    check_whole(*await stored(url), acked)
