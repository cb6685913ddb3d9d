"""What a policy of flow control can be: who is next among the requests of a flow, among flows, and when a band may go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from extproc.flow.lane import Lane
from extproc.flow.ticket import Ticket

ORDERING: Final = "ordering policy"
FAIRNESS: Final = "fairness policy"
USAGE_LIMIT: Final = "usage limit policy"
EVICTION_FILTER: Final = "eviction filter"
EVICTION_ORDER: Final = "eviction order policy"


class Ordering(Protocol):
    """The order of a queue."""

    reads_ttft: bool
    """It wants to know until when the client wants its first token."""

    def key(self, ticket: Ticket) -> float:
        """Less is sooner; among equals who came first. Never NaN. Asked once, when `came_s` and `expires_s` are known."""
        ...


class Fairness(Protocol):
    """Whose turn it is among the flows of one band. Each band has its own."""

    counts_cost: bool
    """It wants to know what requests cost when they have ended."""

    def lane_of(self, flow: str) -> str:
        """In which queue a flow's requests stand."""
        ...

    def filled(self, lane: Lane, now_s: float) -> None:
        """The first one waits in this queue."""
        ...

    def emptied(self, lane: Lane, now_s: float) -> None:
        """Nobody waits in it any more, and it is let go of."""
        ...

    def turn(self, now_s: float) -> Lane:
        """The queue whose head is next; there is one in which somebody waits. Changes nothing."""
        ...

    def taken(self, lane: Lane) -> None:
        """Its head went, and somebody still waits in it."""
        ...

    def cost(self, flow: str, tokens: float, now_s: float) -> None:
        """A request of this flow has ended, and cost so much."""
        ...

    def sweep(self, now_s: float) -> bool:
        """Forget what has become too old; True when nothing is kept any more."""
        ...


MakeFairness: TypeAlias = Callable[[], Fairness]


class UsageLimit(Protocol):
    """Up to which saturation of the pool each band may go on."""

    alternates: bool
    """`tick` matters: what is held at one may go at the next."""

    def ceilings(self, saturation: float, priorities: Sequence[int], tick: int) -> Sequence[float]:
        """For each priority, highest first: its requests go on while the saturation is below, 0 holds them all. Never more for
        a lower priority than for a higher one. `tick` counts those that were let on, and the times that somebody looked."""
        ...


class EvictionFilter(Protocol):
    """Which requests in flight may be taken back at all."""

    def accepts(self, priority: int) -> bool:
        """Asked once, when a request is sent."""
        ...


class EvictionOrder(Protocol):
    """Who is taken back first."""

    def key(self, priority: int, sent_s: float) -> tuple[float, float]:
        """Less is sooner; among equals who was sent last. Never NaN, and never sooner for a higher priority: the walk ends at
        the first that is as important as who waits. Asked once, when a request is sent."""
        ...
