"""Flow control as a part of the service: gates on the event loop, and what becomes of those who wait when it stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from extproc.app.component import Component
from extproc.flow import FlowPlan, FlowQueues, Gate, Gauge
from extproc.observability.logs import logger
from extproc.pool import PoolStore
from extproc.scheduling import SaturationDetector

_log = logger(__name__)

_REST: Final = 0.1
"""Share of --drain-timeout that is left for the answers of those who are told that we stop."""
_MOST_REST_S: Final = 1.0
_POLL_S: Final = 0.05


def gate_of(store: PoolStore, detector: SaturationDetector, plan: FlowPlan) -> Gate:
    """The gate of a pool, which looks whenever the pool has news."""
    gauge = Gauge(store, detector)
    gate = Gate(FlowQueues(plan, time.monotonic()), gauge, store.__len__, time.monotonic, _later)
    store.news = gate.news
    return gate


def _later(delay_s: float, call: Callable[[], None]) -> asyncio.Handle:
    loop = asyncio.get_running_loop()
    return loop.call_later(delay_s, call) if delay_s > 0 else loop.call_soon(call)


class FlowControl(Component):
    """All gates of a service."""

    def __init__(self, gates: Mapping[str, Gate], *, shutdown_delay_s: float, drain_timeout_s: float) -> None:
        super().__init__("flow control")
        self.gates = gates
        self._delay_s = shutdown_delay_s
        self._timeout_s = drain_timeout_s

    async def leave(self) -> None:
        """Those who wait go on to wait for as long as streams may go on, and a little less; then they are told that we stop,
        and can be sent again elsewhere. Nobody begins to wait any more."""
        await asyncio.sleep(self._delay_s)
        for gate in self.gates.values():
            gate.stops = True
        loop = asyncio.get_running_loop()
        rest_s = min(_MOST_REST_S, self._timeout_s * _REST)
        until_s = loop.time() + self._timeout_s - rest_s
        while self._waiting() and loop.time() < until_s:  # noqa: ASYNC110  # a gate knows nothing of who waits for it
            await asyncio.sleep(_POLL_S)
        if waiting := self._waiting():
            _log.warning("stopping", waiting_requests=waiting)
        for gate in self.gates.values():
            gate.shut()

    def _waiting(self) -> int:
        return sum(len(gate.queues) for gate in self.gates.values())
