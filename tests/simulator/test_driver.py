"""The engine in real time: nominal times are exact however late a timer is, and idle costs nothing."""

from __future__ import annotations

import asyncio

import pytest

from extproc.simulator.driver import Driver
from extproc.simulator.engine import Emission, Engine, EngineConfig, Sequence
from extproc.simulator.metrics import SimMetrics
from tests.fakes.clock import FakeClock


class Bench:
    def __init__(self, step_s: float = 0.001) -> None:
        self.engine = Engine(EngineConfig(step_s=step_s, step_per_sequence_s=0.0, prefill_tokens_per_s=1e9))
        metrics = SimMetrics(self.engine, "m", loras=False, wall_clock=FakeClock())
        self.driver = Driver(self.engine, metrics, asyncio.get_running_loop().time)
        self.seen: list[Emission] = []
        self.left = 0
        self.done = asyncio.Event()

    def submit(self, *sequences: Sequence) -> None:
        self.left += len(sequences)
        for sequence in sequences:
            self.driver.submit(sequence, self.receive)

    def receive(self, emission: Emission) -> None:
        self.seen.append(emission)
        self.left -= emission.finished
        if not self.left:
            self.done.set()


async def test_tokens_come_as_steps_end_and_then_nothing_ticks() -> None:
    bench, one = Bench(), Sequence(4, 5)
    idle = [bench.driver.idle]
    bench.submit(one)
    idle.append(bench.driver.idle)
    await asyncio.wait_for(bench.done.wait(), 2)
    assert [e.number for e in bench.seen] == [1, 2, 3, 4, 5]
    assert one.last_token_s - one.first_token_s == pytest.approx(0.004, abs=1e-6)
    assert [*idle, bench.driver.idle] == [True, False, True]


async def test_what_is_submitted_together_starts_together() -> None:
    bench = Bench()
    pair = Sequence(4, 1), Sequence(4, 1)
    bench.submit(*pair)
    await asyncio.wait_for(bench.done.wait(), 2)
    assert pair[0].first_token_s == pair[1].first_token_s


async def test_a_late_timer_does_not_stretch_the_steps() -> None:
    bench, one, late = Bench(), Sequence(4, 3), Sequence(4, 1)
    bench.submit(one)
    bench.left += 1  # the late one

    def block() -> None:
        begun = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < begun + 0.02:
            pass
        bench.driver.submit(late, bench.receive)  # arrives 20 ms late on the clock, at the end of the step in the engine's time

    asyncio.get_running_loop().call_later(0.0, block)
    await asyncio.wait_for(bench.done.wait(), 2)
    assert one.last_token_s - one.first_token_s == pytest.approx(0.002, abs=1e-6)
    assert late.scheduled_s >= late.arrived_s
    assert all(e.since_s >= 0 for e in bench.seen)


async def test_steps_that_take_no_time_still_leave_room_for_others() -> None:
    bench = Bench(step_s=0.0)
    bench.submit(Sequence(4, 200))
    turns = 0
    while not bench.done.is_set():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 200


async def test_an_aborted_sequence_is_not_heard_of_again() -> None:
    bench, gone, stays = Bench(), Sequence(4, 50), Sequence(4, 3)
    bench.driver.submit(gone, bench.receive)
    bench.submit(stays)
    bench.driver.abort(gone)
    bench.driver.abort(gone)
    await asyncio.wait_for(bench.done.wait(), 2)
    assert {e.sequence for e in bench.seen} == {stays}


async def test_stopping_aborts_everything() -> None:
    bench, one = Bench(), Sequence(4, 50)
    bench.submit(one)
    bench.driver.stop()
    assert (one.state, bench.driver.idle, bench.engine.has_work) == ("aborted", True, False)
    await asyncio.sleep(0.005)
    assert bench.seen == []
    bench.driver.stop()


async def test_what_comes_after_the_stop_is_still_served() -> None:
    """A connection that was accepted before a server stops may bring its request after it, in the middle of a step."""
    bench, before, after = Bench(), Sequence(4, 50), Sequence(4, 2)
    began = asyncio.Event()
    bench.driver.submit(before, lambda _: began.set())
    await asyncio.wait_for(began.wait(), 2)
    bench.driver.stop()
    assert bench.driver.idle
    bench.submit(after)
    await asyncio.wait_for(bench.done.wait(), 2)
    assert (before.state, [e.number for e in bench.seen]) == ("aborted", [1, 2])
