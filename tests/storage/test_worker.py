from __future__ import annotations

import asyncio
import threading

import pytest

from extproc.control.store import StoreUnavailable
from extproc.storage.gate import Gate
from extproc.storage.worker import Turn, Worker
from tests.storage.clock import Clock


class Hanging:
    """Work that lasts until it is interrupted."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.interrupted = threading.Event()
        self.turns: list[Turn] = []

    def __call__(self, turn: Turn) -> str:
        self.turns.append(turn)
        self.began.set()
        self.interrupted.wait()
        return "done after all"


async def test_work_is_done_in_order_and_elsewhere() -> None:
    worker: Worker[int] = Worker("test", lambda: None)
    threads: list[str] = []

    def work(n: int) -> int:
        threads.append(threading.current_thread().name)
        return n

    answers = await asyncio.gather(*(worker.do(lambda turn, n=n: work(n), 5) for n in range(10)))  # type: ignore[misc]

    assert answers == list(range(10))
    assert set(threads) == {"test_0"}
    await worker.close(lambda: 0, 5)


async def test_what_hangs_is_interrupted_and_what_waits_behind_it_is_not_done() -> None:
    hanging = Hanging()
    worker: Worker[str] = Worker("test", hanging.interrupted.set)
    first = asyncio.create_task(worker.do(hanging, 0.05))
    await asyncio.to_thread(hanging.began.wait)
    behind = Hanging()

    with pytest.raises(StoreUnavailable, match=r"^others are waited for since 0\.01 s; nothing was done$"):
        await worker.do(behind, 0.01)
    with pytest.raises(StoreUnavailable, match=r"^no answer in 0\.05 s$"):
        await first

    assert hanging.turns[0].given_up
    assert await worker.do(lambda turn: "next", 5) == "next"
    assert not behind.began.is_set()
    await worker.close(lambda: "", 5)


async def test_a_caller_that_leaves_tears_nothing() -> None:
    hanging = Hanging()
    worker: Worker[str] = Worker("test", lambda: None)
    leaving = asyncio.create_task(worker.do(hanging, 5))
    await asyncio.to_thread(hanging.began.wait)

    leaving.cancel()
    await asyncio.wait([leaving])
    hanging.interrupted.set()

    assert await worker.do(lambda turn: "next", 5) == "next"
    assert not hanging.turns[0].given_up
    await worker.close(lambda: "", 5)


async def test_after_closing_nothing_is_done() -> None:
    worker: Worker[str] = Worker("test", lambda: None)
    closed: list[str] = []

    def close(word: str) -> str:
        closed.append(word)
        return word

    await worker.close(lambda: close("once"), 5)
    await worker.close(lambda: close("twice"), 5)

    with pytest.raises(StoreUnavailable, match=r"^the store is closed$"):
        await worker.do(lambda turn: "", 5)
    assert closed == ["once"]


async def test_closing_does_not_wait_for_ever() -> None:
    hanging = Hanging()
    worker: Worker[str] = Worker("test", hanging.interrupted.set)
    asked = asyncio.create_task(worker.do(hanging, 5))
    await asyncio.to_thread(hanging.began.wait)

    await worker.close(lambda: "", 0.01)

    hanging.interrupted.set()
    assert await asked == "done after all"
    with pytest.raises(StoreUnavailable):
        await worker.do(lambda turn: "", 5)


def test_a_gate_refuses_for_longer_and_longer_until_it_works() -> None:
    clock = Clock()
    gate = Gate(clock, lambda: 1.0)
    gate.check()
    for pause_s in (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0):
        assert str(gate.failed("it is down")) == "it is down"
        with pytest.raises(StoreUnavailable, match=rf"^it is down; tried again in {pause_s} s$"):
            gate.check()
        clock.now_s += pause_s + 1e-6
        gate.check()

    gate.failed("again")
    gate.worked()
    gate.check()
