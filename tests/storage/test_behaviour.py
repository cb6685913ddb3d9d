"""What every store does."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from extproc.control.store import Change, Forgotten, Revision, RevisionStore, State, Superseded
from extproc.storage.keep import Keep
from tests.storage.replicas import AT_MS, Replicas, commit, created, deleted


async def test_a_new_store_is_empty(stores: Replicas) -> None:
    store = await stores.one()

    assert await store.load() == State(0, {})
    assert await store.since(0) == []
    assert await store.history("chat") == []


async def test_what_was_committed_is_there_for_every_replica(stores: Replicas) -> None:
    first, second = await stores.two()
    document = '{"name": "chat", "of": "日本 \\u0000"}'.encode() + bytes(range(256))

    number = await first.commit(0, [Change("chat", document, "create")], "ada@example.com", "a first one – 初", AT_MS)

    assert number == 1
    revision = Revision(1, Change("chat", document, "create"), "ada@example.com", "a first one – 初", AT_MS)
    for store in (first, second):
        assert await store.load() == State(1, {"chat": document})
        assert await store.since(0) == [revision]
        assert await store.history("chat") == [revision]


async def test_each_change_takes_a_number_and_all_of_a_commit_are_stored(stores: Replicas) -> None:
    store = await stores.one()
    assert await commit(store, 0, created("a"), created("b"), created("c")) == 3

    assert await commit(store, 3, Change("b", b"2", "update"), deleted("c")) == 5

    assert await store.load() == State(5, {"a": b"{}", "b": b"2"})
    assert [(each.number, each.change.endpoint, each.change.kind) for each in await store.since(2)] == [
        (3, "c", "create"),
        (4, "b", "update"),
        (5, "c", "delete"),
    ]


async def test_one_endpoint_twice_in_a_commit_ends_as_the_last_says(stores: Replicas) -> None:
    store = await stores.one()

    await commit(store, 0, created("a", b"1"), deleted("a"), created("a", b"3"), created("b"), deleted("b"))

    assert await store.load() == State(5, {"a": b"3"})
    assert [each.change.document for each in await store.history("a")] == [b"3", None, b"1"]


async def test_a_commit_on_an_older_state_stores_nothing(stores: Replicas) -> None:
    first, second = await stores.two()
    await commit(first, 0, created("a"))

    for expected in (0, 2):
        with pytest.raises(Superseded) as caught:
            await commit(second, expected, created("b"))
        assert caught.value.current == 1

    assert await first.load() == State(1, {"a": b"{}"})
    assert await commit(second, 1, created("b")) == 2


async def test_no_changes_change_nothing(stores: Replicas) -> None:
    store = await stores.one()
    await commit(store, 0, created("a"))

    assert await commit(store, 1) == 1
    with pytest.raises(Superseded):
        await commit(store, 0)
    assert len(await store.since(0)) == 1


async def test_deleting_keeps_the_history_and_a_name_may_come_again(stores: Replicas) -> None:
    store = await stores.one()
    await commit(store, 0, created("a", b"1"))
    await commit(store, 1, deleted("a"), reason="no longer needed")
    await commit(store, 2, created("a", b"3"))

    assert await store.load() == State(3, {"a": b"3"})
    assert [(each.number, each.change.document, each.reason) for each in await store.history("a")] == [
        (3, b"3", ""),
        (2, None, "no longer needed"),
        (1, b"1", ""),
    ]


async def test_history_in_pages(stores: Replicas) -> None:
    store = await stores.one()
    await commit(store, 0, *(created(name) for _ in range(5) for name in ("a", "b")))

    assert [each.number for each in await store.history("a", limit=2)] == [9, 7]
    assert [each.number for each in await store.history("a", before=7, limit=2)] == [5, 3]
    assert [each.number for each in await store.history("a", before=3)] == [1]
    assert await store.history("a", limit=0) == []
    assert await store.history("a", limit=-1) == []


async def test_of_many_at_once_each_takes_its_own_number(stores: Replicas) -> None:
    replicas = await stores.two()

    async def insist(store: RevisionStore, name: str) -> int:
        expected = 0
        while True:
            try:
                return await commit(store, expected, created(name), created(name + "'"))
            except Superseded as error:
                expected = error.current

    numbers = await asyncio.gather(*(insist(replicas[n % 2], f"e{n}") for n in range(20)))

    assert sorted(numbers) == list(range(2, 41, 2))
    state = await replicas[0].load()
    assert (state.number, len(state.documents)) == (40, 40)
    revisions = await replicas[1].since(0)
    assert [each.number for each in revisions] == list(range(1, 41))
    assert all(later.change.endpoint == earlier.change.endpoint + "'" for earlier, later in list(pairwise(revisions))[::2])


async def test_history_ends_somewhere_and_says_so(stores: Replicas) -> None:
    store = await stores.one(Keep(revisions=3))
    await commit(store, 0, *(created("a", b"%d" % n) for n in range(1, 6)), created("b"))

    assert [each.number for each in await store.history("a")] == [5, 4, 3]
    assert [each.number for each in await store.history("b")] == [6]
    assert [each.number for each in await store.since(2)] == [3, 4, 5, 6]
    with pytest.raises(Forgotten) as caught:
        await store.since(1)
    assert caught.value.number == 1
    assert await store.load() == State(6, {"a": b"5", "b": b"{}"})


async def test_of_the_deleted_the_last_ones_keep_their_history(stores: Replicas) -> None:
    store = await stores.one(Keep(deleted=2))
    await commit(store, 0, *(created(name) for name in "abcd"))
    await commit(store, 4, deleted("b"))
    await commit(store, 5, created("b"), deleted("a"), deleted("c"), deleted("b"))

    assert await store.history("a") == []
    assert [each.number for each in await store.history("b")] == [9, 6, 5, 2]
    assert [each.number for each in await store.history("c")] == [8, 3]
    assert [each.number for each in await store.history("d")] == [4]
    assert [each.number for each in await store.since(7)] == [8, 9]
    with pytest.raises(Forgotten):
        await store.since(6)


@pytest.mark.parametrize(
    ("change", "actor", "reason", "at_ms", "field"),
    [
        (created("a\0"), "ada", "", 1, "endpoint"),
        (Change("a", b"", "\ud800"), "ada", "", 1, "kind"),
        (created("a"), "a\0", "", 1, "actor"),
        (created("a"), "ada", "\udfff", 1, "reason"),
        (created("a"), "ada", "", -1, "at_ms"),
        (created("a"), "ada", "", 2**63, "at_ms"),
    ],
)
async def test_what_not_every_database_holds_none_takes(
    stores: Replicas, change: Change, actor: str, reason: str, at_ms: int, field: str
) -> None:
    store = await stores.one()

    with pytest.raises(ValueError, match=f"^{field}: "):
        await store.commit(0, [change], actor, reason, at_ms)

    assert await store.load() == State(0, {})


async def test_who_watches_hears_the_number_at_once_and_of_each_commit(stores: Replicas) -> None:
    first, second = await stores.two()
    await commit(first, 0, created("a"))
    heard: asyncio.Queue[int] = asyncio.Queue()
    watching = asyncio.create_task(second.watch(heard.put_nowait))
    try:
        assert await heard.get() == 1

        for number in range(2, 6):
            await commit(first, number - 1, created("a"))
            async with asyncio.timeout(1):
                while await heard.get() != number:
                    pass
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    assert watching.cancelled()


async def test_closing_twice(stores: Replicas) -> None:
    store = await stores.one()
    await commit(store, 0, created("a"))

    await store.close()
    await store.close()

    assert await (await stores.one()).load() == State(1, {"a": b"{}"})


async def test_a_commit_under_way_is_waited_for_by_close(stores: Replicas) -> None:
    store = await stores.one()
    committing = asyncio.create_task(commit(store, 0, created("a")))
    await asyncio.sleep(0)  # it has begun

    await store.close()

    assert await committing == 1
