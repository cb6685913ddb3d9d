"""A request that waits."""

from __future__ import annotations

from typing import Final

NO_FLOW: Final = "default-flow"
"""Upstream's fairness id of requests that name none."""


class Ticket:
    """A place in a queue. Written by the queues alone; `holder` is whose it is, and is let go of with the place."""

    __slots__ = ("came_s", "expires_s", "flow", "holder", "key", "number", "priority", "size_bytes", "ttft_s", "waits")

    def __init__(
        self,
        holder: object,
        *,
        priority: int = 0,
        flow: str = NO_FLOW,
        size_bytes: int = 0,
        came_s: float = 0.0,
        ttft_s: float | None = None,
    ) -> None:
        """`came_s`: when, by the clock of whoever asks the queues; `ttft_s`: until when after that the client wants the first
        token, None when it does not say."""
        self.holder: object = holder
        self.priority = priority
        self.flow = flow
        self.size_bytes = size_bytes
        self.came_s = came_s
        self.ttft_s = ttft_s
        self.expires_s = float("inf")
        """When its time in the queue is over."""
        self.key = 0.0
        """The order in its queue, by the ordering policy: less is sooner."""
        self.number = 0
        """The order of arrival: among equals, the first comes first."""
        self.waits = False
        """It has a place."""

    def __repr__(self) -> str:
        return f"<Ticket {self.number} priority={self.priority} flow={self.flow!r}{' waits' if self.waits else ''}>"
