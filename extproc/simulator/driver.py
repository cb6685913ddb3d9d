"""Runs the engine model in real time on an event loop: one timer while there is work, none while there isn't."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from extproc.simulator.engine import Emission, Engine, Sequence, Step
from extproc.simulator.metrics import SimMetrics

_MAX_LAG_S = 0.1
"""How much lateness of a timer is made up for, by beginning the next step when it should have begun."""

Receiver = Callable[[Emission], None]


class Driver:
    """Feeds sequences to the engine and hands each of their tokens to the receiver given with them.

    `clock` gives seconds and never goes back. All calls belong on the loop that was running at the first `submit`.
    """

    def __init__(self, engine: Engine, metrics: SimMetrics, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._metrics = metrics
        self._clock = clock
        self._receivers: dict[Sequence, Receiver] = {}
        self._step: Step | None = None
        self._timer: asyncio.Handle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is running, and no timer either."""
        return self._timer is None

    def submit(self, sequence: Sequence, receiver: Receiver) -> None:
        """Queue a sequence; what is submitted in one go of the loop can begin in the same step."""
        self._engine.add(sequence, self._now_s())
        self._receivers[sequence] = receiver
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_soon(self._begin)

    def abort(self, sequence: Sequence) -> None:
        """Forget a sequence; its receiver is not called again. Does nothing when it is done."""
        if self._receivers.pop(sequence, None) is not None:
            self._engine.abort(sequence)

    def stop(self) -> None:
        """Abort everything, the step under way too; what a request that comes late submits begins anew."""
        for sequence in list(self._receivers):
            self.abort(sequence)
        if self._step is not None:
            self._engine.finish(self._step)
            self._step = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now_s(self) -> float:
        """The engine's time. When a timer is late, the step that it ends still runs: nothing arrives after its end."""
        now_s = self._clock()
        return now_s if self._step is None else min(now_s, self._step.ends_s)

    def _begin(self) -> None:
        self._schedule(self._clock())

    def _schedule(self, now_s: float) -> None:
        self._step = self._engine.schedule(now_s)
        if self._step is None:
            self._timer = None
            return
        delay_s = max(0.0, self._step.ends_s - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._end)

    def _end(self) -> None:
        step = self._step
        assert step is not None
        result = self._engine.finish(step)
        self._metrics.record(result)
        for emission in result.emissions:
            receiver = self._receivers.get(emission.sequence)
            if emission.finished:
                self._receivers.pop(emission.sequence, None)
            if receiver is not None:
                receiver(emission)
        now_s = self._clock()
        self._schedule(step.ends_s if now_s - step.ends_s <= _MAX_LAG_S else now_s)
