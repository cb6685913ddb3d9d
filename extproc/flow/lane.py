"""A queue: whose turn it is, by an order that is given. Who leaves it in the middle leaves at once."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from extproc.flow.ticket import Ticket

_SLACK: Final = 32
"""Places of those who left that a queue may have beside as many as are waiting."""


class Lane:
    """Who waits of one flow, or of all of them. Places that were left are skipped, and swept when they are more than half."""

    __slots__ = ("_heap", "live", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.live = 0
        """How many wait."""
        self._heap: list[tuple[float, int, Ticket]] = []

    def __repr__(self) -> str:
        return f"<Lane {self.name!r} live={self.live}>"

    def add(self, ticket: Ticket) -> None:
        """O(log n)."""
        heappush(self._heap, (ticket.key, ticket.number, ticket))
        self.live += 1

    def head(self) -> Ticket:
        """Whose turn it is. Somebody must be waiting."""
        heap = self._heap
        while not heap[0][2].waits:
            heappop(heap)
        return heap[0][2]

    def pop(self) -> Ticket:
        """Take the head out. The caller says that it does not wait any more."""
        ticket = self.head()
        heappop(self._heap)
        self.live -= 1
        return ticket

    def left(self) -> None:
        """One of the queue does not wait any more."""
        self.live -= 1
        if len(self._heap) > 2 * self.live + _SLACK:
            self._heap = [entry for entry in self._heap if entry[2].waits]
            heapify(self._heap)
