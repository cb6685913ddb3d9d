"""Envoy and the model servers are killed under load, and come back: what fails is what comes meanwhile, and nothing stays."""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

from extproc.demo.processes import Child
from tests.e2e.parts import Stack, until
from tests.soak.traffic import Load

MAX_RECOVERY_S: Final = 10.0
"""From a restart to a second without a failure, on a machine that others use too."""
QUIET_S: Final = 1.0
_DEAD_S: Final = 0.5
_BETWEEN_S: Final = 3.0


class Kill(NamedTuple):
    """What one of them came to."""

    who: str
    failed: int
    """Requests, of some hundred a second, until all was well again."""
    idle_s: float
    """From the kill until nothing was under way at the gateway; of Envoy's only, as answers go on without a model server."""
    recovery_s: float
    """From the restart until a second began in which nothing failed."""

    def __str__(self) -> str:
        idle = f", nothing under way {self.idle_s:.2f} s later" if self.who == "Envoy" else ""
        return f"kill -9 of {self.who}{idle}: {self.failed} requests failed; all well {self.recovery_s:.1f} s after its restart"


async def kills(stack: Stack, upstream: Child, load: Load, rate: float, number: int) -> list[str]:
    """So many of each in turn, while the load goes on; what is wrong. The failures that belong to a kill are taken out of
    the load's own."""
    problems: list[str] = []
    stop = asyncio.Event()
    running = asyncio.create_task(load.at_rate(rate, stop))
    for turn in range(2 * number):
        await asyncio.sleep(_BETWEEN_S)
        if load.seen.failed:
            problems.append(f"{len(load.seen.failed)} requests failed with everything up, such as {load.seen.failed[:3]}")
            load.seen.failed.clear()
        done = await _kill(stack, upstream, load, turn % 2 == 0)
        print(done, flush=True)
        if done.recovery_s > MAX_RECOVERY_S:
            problems.append(f"{done.who} was back, and {done.recovery_s:.1f} s later requests still failed")
    await asyncio.sleep(_BETWEEN_S)
    stop.set()
    await running
    return problems


async def _kill(stack: Stack, upstream: Child, load: Load, envoy: bool) -> Kill:
    idle_s = 0.0
    killed_s = time.monotonic()
    if envoy:
        stack.envoy.kill()
        await asyncio.to_thread(until, stack.idle, what="nothing is under way without Envoy")
        idle_s = time.monotonic() - killed_s
        await asyncio.sleep(_DEAD_S)
        begun_s = time.monotonic()
        await asyncio.to_thread(stack.start_envoy)
    else:
        upstream.kill()
        await asyncio.sleep(_DEAD_S)
        begun_s = time.monotonic()
        upstream.start()
    recovery_s = await _recovered(load, begun_s)
    failed = len(load.seen.failed)
    load.seen.failed.clear()
    return Kill("Envoy" if envoy else "the model servers", failed, idle_s, recovery_s)


async def _recovered(load: Load, since_s: float) -> float:
    """Wait for a second without a failure; when it began."""
    failed, began_s, answered = len(load.seen.failed), time.monotonic(), load.seen.counts.total()
    while time.monotonic() - began_s < QUIET_S or load.seen.counts.total() == answered:
        await asyncio.sleep(0.02)
        if len(load.seen.failed) != failed or load.seen.counts.total() == answered:
            failed, began_s = len(load.seen.failed), time.monotonic()
        if time.monotonic() - since_s > 3 * MAX_RECOVERY_S:
            break
    return began_s - since_s
