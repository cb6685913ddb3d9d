from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress

import pytest

from extproc.credentials import Reference, Secret
from extproc.errors import SecretMissing
from extproc.secrets import Found, SecretStore, Unreadable
from tests.fakes.clock import FakeClock

A, B = Reference("ai", "a"), Reference("ai", "b")


class Memory:
    """A source whose secrets stand in a dict."""

    def __init__(self, name: str = "memory", **found: Found) -> None:
        self.name = name
        self.found: dict[Reference, Found] = {Reference("ai", key): value for key, value in found.items()}
        self.asked: list[set[Reference]] = []

    def place(self, reference: Reference) -> str:
        return f"{self.name} {reference.key}"

    async def read(self, references: Collection[Reference]) -> Mapping[Reference, Found]:
        self.asked.append(set(references))
        return {reference: self.found.get(reference) for reference in references}


def missing(store: SecretStore, reference: Reference) -> str:
    with pytest.raises(SecretMissing) as error:
        store.get(reference)
    return error.value.message


async def test_what_is_wanted_is_read_and_nothing_else() -> None:
    source = Memory(a=Secret("sk-a"), b=Secret("sk-b"))
    store = SecretStore([source])
    store.want([A])
    await store.refresh()
    assert store.get(A) == Secret("sk-a")
    assert source.asked == [{A}]
    assert missing(store, B) == "secret {{secrets/ai/b}}: not read yet"
    assert repr(store) == "<SecretStore 1 wanted, 1 known, 0 missing>"


async def test_the_first_source_that_has_it_is_believed() -> None:
    first, second = Memory("first", a=Secret("sk-1")), Memory("second", a=Secret("sk-2"), b=Secret("sk-3"))
    store = SecretStore([first, second])
    assert await store.check([A, B]) == {}
    assert (store.get(A), store.get(B)) == (Secret("sk-1"), Secret("sk-3"))
    assert second.asked == [{B}]


async def test_a_missing_one_is_told_with_the_places() -> None:
    store = SecretStore([Memory("first"), Memory("second")])
    assert await store.check([A]) == {A: "not found; looked for first a, second a"}
    assert missing(store, A) == "secret {{secrets/ai/a}}: not found; looked for first a, second a"
    assert await SecretStore([]).check([A]) == {A: "no source of secrets is configured"}


async def test_one_that_vanishes_is_gone_at_once() -> None:
    source = Memory(a=Secret("sk-a"))
    store = SecretStore([source])
    store.want([A])
    await store.refresh()
    source.found.clear()
    await store.refresh()
    assert missing(store, A) == "secret {{secrets/ai/a}}: not found; looked for memory a"
    assert store.troubles() == {A: "not found; looked for memory a"}


async def test_one_that_cannot_be_read_for_a_while_is_used_on() -> None:
    clock = FakeClock()
    source = Memory(a=Secret("sk-a"))
    store = SecretStore([source], keep_s=60, clock=clock)
    store.want([A])
    await store.refresh()
    source.found[A] = Unreadable("away")
    clock.advance(59)
    await store.refresh()
    assert store.get(A) == Secret("sk-a")
    assert store.troubles() == {A: "memory a: away"}
    clock.advance(2)
    assert missing(store, A) == "secret {{secrets/ai/a}}: memory a: away"
    source.found[A] = Secret("sk-new")
    await store.refresh()
    assert store.get(A) == Secret("sk-new")
    assert store.troubles() == {}


async def test_what_nothing_refers_to_is_forgotten() -> None:
    store = SecretStore([Memory(a=Secret("sk-a"), b=Secret("sk-b"))])
    store.want([A, B])
    await store.refresh()
    store.want([B])
    assert missing(store, A) == "secret {{secrets/ai/a}}: not read yet"
    assert store.get(B) == Secret("sk-b")


async def test_what_was_checked_outlives_a_change_that_does_not_know_of_it_yet() -> None:
    """An endpoint is deleted between the check of another and its storing."""
    clock = FakeClock()
    store = SecretStore([Memory(a=Secret("sk-a"))], clock=clock)
    assert await store.check([A]) == {}
    store.want([])
    assert store.get(A) == Secret("sk-a")
    clock.advance(31)
    await store.refresh()
    assert missing(store, A) == "secret {{secrets/ai/a}}: not read yet", "nobody has stored it"


async def test_no_message_has_a_value() -> None:
    store = SecretStore([Memory(a=Secret("sk-verysecret"))])
    store.want([A, B])
    await store.refresh()
    assert "verysecret" not in f"{store!r} {store.troubles()} {missing(store, B)} {store.get(A)}"


class Rounds:
    """Runs a store; each pause ends when the test says so."""

    def __init__(self, store: SecretStore, pauses: asyncio.Queue[float], go: asyncio.Semaphore) -> None:
        self.pauses = pauses
        self.go = go
        self.task = asyncio.create_task(store.run())

    async def close(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


def run(source: Memory, *wanted: Reference) -> tuple[SecretStore, Rounds]:
    pauses: asyncio.Queue[float] = asyncio.Queue()
    go = asyncio.Semaphore(0)

    async def sleep(pause_s: float) -> None:
        pauses.put_nowait(pause_s)
        await go.acquire()

    store = SecretStore([source], fresh_s=30, sleep=sleep)
    store.want(wanted)
    return store, Rounds(store, pauses, go)


async def test_rounds_come_as_often_as_needed() -> None:
    source = Memory()
    store, rounds = run(source, A)
    assert await rounds.pauses.get() == 2.0, "something is missing"
    source.found[A] = Secret("sk-a")
    rounds.go.release()
    assert await rounds.pauses.get() == 30.0
    assert store.get(A) == Secret("sk-a")
    source.found[A] = Secret("sk-new")
    rounds.go.release()
    await rounds.pauses.get()
    assert store.get(A) == Secret("sk-new")
    await rounds.close()


async def test_a_new_reference_is_read_at_once() -> None:
    source = Memory(a=Secret("sk-a"), b=Secret("sk-b"))
    store, rounds = run(source, A)
    await rounds.pauses.get()
    store.want([A, B])
    await rounds.pauses.get()
    assert store.get(B) == Secret("sk-b")
    await rounds.close()


async def test_nothing_goes_on_after_the_end() -> None:
    _, rounds = run(Memory(), A)
    await rounds.pauses.get()
    await rounds.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
