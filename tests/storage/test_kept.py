"""Documents that are kept beside the desired state, in every store alike."""

from __future__ import annotations

import asyncio

import pytest

from extproc.control.store import Kept, Superseded
from tests.storage.replicas import Replicas


async def test_a_document_is_there_for_all_replicas_with_its_version(stores: Replicas) -> None:
    one, other = await stores.two()
    assert await one.keep("chat", 0, b"1") == 1
    assert await other.keep("chat", 1, b"2") == 2
    assert await one.keep("code", 0, b"x") == 1
    assert await one.kept() == await other.kept() == {"chat": Kept(2, b"2"), "code": Kept(1, b"x")}


async def test_who_comes_second_is_told(stores: Replicas) -> None:
    one, other = await stores.two()
    await one.keep("chat", 0, b"1")
    for expected in (0, 2):
        with pytest.raises(Superseded) as caught:
            await other.keep("chat", expected, b"2")
        assert caught.value.current == 1
    with pytest.raises(Superseded) as caught:
        await other.keep("nobody", 3, b"2")
    assert caught.value.current == 0
    assert await one.kept() == {"chat": Kept(1, b"1")}


async def test_of_two_who_begin_at_once_one_is_told(stores: Replicas) -> None:
    both = await stores.two()
    for number in range(20):
        done = await asyncio.gather(*[store.keep(f"n{number}", 0, b"x") for store in both], return_exceptions=True)
        assert sorted(isinstance(each, Superseded) for each in done) == [False, True], done


async def test_what_is_forgotten_is_gone_and_may_come_again(stores: Replicas) -> None:
    one, other = await stores.two()
    await one.keep("chat", 0, b"1")
    assert await other.keep("chat", 1, None) == 0
    assert await one.kept() == {}
    assert await one.keep("chat", 0, None) == 0
    assert await one.keep("chat", 0, b"2") == 1


async def test_it_is_no_revision(stores: Replicas) -> None:
    one = await stores.one()
    await one.keep("chat", 0, b"1")
    state = await one.load()
    assert (state.number, state.documents) == (0, {})
