"""Tickets of tests."""

from __future__ import annotations

from extproc.flow import FlowQueues, Ticket


def ticket(name: object, at_s: float = 0.0, priority: int = 0, flow: str = "default-flow", **fields: object) -> Ticket:
    """A request that has not come yet."""
    return Ticket(name, priority=priority, flow=flow, came_s=at_s, **fields)  # type: ignore[arg-type]


def offered(
    queues: FlowQueues, name: object, at_s: float = 0.0, priority: int = 0, flow: str = "default-flow", **fields: object
) -> Ticket:
    """A request that waits."""
    made = ticket(name, at_s, priority, flow, **fields)
    assert queues.offer(made, at_s).taken
    return made


def drained(queues: FlowQueues, now_s: float = 0.0, saturation: float = 0.0) -> list[object]:
    """Everybody who may go, in order."""
    gone: list[object] = []
    while (each := queues.take(now_s, saturation)) is not None:
        gone.append(each.holder)
    return gone
