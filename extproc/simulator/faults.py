"""Which fault strikes a call: asked for by the call itself, or set for a target, for a number of calls or for good."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from extproc.settings.sim import FAULT_TARGETS, Fault, FaultTarget, parse_fault

HEADER = "x-sim-fault"
GARBAGE = b'<html>not metrics</html>\nvllm:num_requests_waiting{engine="0" NaN NaN\n\x00\xff\xfe}{\n# TYPE\nvllm:kv_cache'
"""What a metrics page is under the fault `garbage`."""
HUGE_BYTES = 100 * 10**6
"""How long a metrics page is under the fault `huge`."""


@dataclass(slots=True)
class StandingFault:
    """A fault that was set. `left` counts the calls that it will still strike; None is every call."""

    fault: Fault
    left: int | None = None


class FaultBook:
    """One standing fault for each target at most."""

    def __init__(self, faults: Iterable[tuple[FaultTarget, Fault]] = ()) -> None:
        self._standing = {target: StandingFault(fault) for target, fault in faults}

    def set(self, target: FaultTarget, fault: Fault, count: int | None = None) -> None:
        """Strike the next `count` calls, or all of them."""
        self._standing[target] = StandingFault(fault, count)

    def clear(self, target: FaultTarget | None = None) -> None:
        """No more fault for the target, or for any."""
        for one in FAULT_TARGETS if target is None else (target,):
            self._standing.pop(one, None)

    def take(self, target: FaultTarget, header: str | None = None) -> Fault | None:
        """The fault of this call, counted. What its own header asks for goes first; ValueError if that is unknown."""
        if header is not None:
            return parse_fault(header, target)
        standing = self._standing.get(target)
        if standing is None:
            return None
        if standing.left is not None:
            standing.left -= 1
            if standing.left <= 0:
                del self._standing[target]
        return standing.fault

    def listing(self) -> dict[str, dict[str, object]]:
        """For the control page: what stands."""
        return {t: {"fault": str(s.fault), "count": s.left} for t, s in self._standing.items()}
