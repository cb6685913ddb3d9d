"""The endpoints that a request may go to, as columns, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from extproc.domain import COLUMNS, Endpoint, Load, known_or_none, signals_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Column: TypeAlias = "list[float] | NDArray[np.float64]"

ARRAY_SIZE: Final = 64
"""From this many endpoints on, columns are numpy arrays: a numpy call costs 1 to 2 µs whatever the size, a list 40 ns an
element."""

_NOTHING: Final[list[float]] = []
"""A column where there is none; to read only."""


class Candidates:
    """The endpoints a request may go to, as aligned columns: position i of each column is `endpoints[i]`.

    NaN is an unknown signal (never scraped, or stale). `waiting`, `in_flight` and `picked_at` are live: the pool's store writes
    them in place, on each pick and release, so read them, never keep or change them.
    Two Candidates with the same `stamp` have the same endpoints, `running` and `kv_usage`: what depends only on those may
    be kept from one request to the next.
    """

    __slots__ = (
        "endpoints",
        "in_flight",
        "kv_usage",
        "loads",
        "picked_at",
        "places",
        "running",
        "stamp",
        "trial",
        "waiting",
        "whole",
    )

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        waiting: Column,
        running: Column,
        kv_usage: Column,
        in_flight: Column,
        stamp: object,
        trial: int = -1,
        loads: Sequence[Load] = (),
        whole: Candidates | None = None,
        places: Sequence[int] = (),
        picked_at: Column = _NOTHING,
    ) -> None:
        self.endpoints: Final = endpoints
        self.waiting: Final = waiting
        """Requests waiting: what the engine said, and what was sent since that its page can't have seen."""
        self.running: Final = running
        self.kv_usage: Final = kv_usage
        self.in_flight: Final = in_flight
        """Requests picked here that have not ended, counted by us; never NaN."""
        self.stamp: Final = stamp
        self.trial: Final = trial
        """The position of an endpoint of which nothing is known while others are known, and whose turn it is to be tried: it
        counts as much as the best, or it would never get the request that makes it known. -1: there is none."""
        self.loads: Final = loads
        """What each one's page says, `NO_LOAD` where that is unknown; written in place as the columns are, with a new stamp."""
        self.whole: Final = whole
        """All that these were taken from; None when these are all."""
        self.places: Final = places
        """Of each candidate, its position in `whole`."""
        self.picked_at: Final = picked_at
        """The number of the pool's pick that went there last, 0 for none: less is longer ago. Empty where nobody counts."""

    def signals(self, position: int) -> dict[str, object]:
        """What is known of a candidate, by the signal's name: the columns, None where unknown, and what else its page says."""
        if self.loads:
            return signals_of(self.loads[position], float(self.waiting[position]), float(self.in_flight[position]))
        return {name: known_or_none(float(getattr(self, name)[position])) for name in COLUMNS}

    def __len__(self) -> int:
        return len(self.endpoints)

    def only(self, positions: Sequence[int], stamp: object = None) -> Candidates:
        """Those at these positions, in this order. `stamp`: of what was made of the same before; else a new one."""
        endpoints, loads, places = self.endpoints, self.loads, self.places
        return Candidates(
            [endpoints[i] for i in positions],
            narrowed(self.waiting, positions),
            narrowed(self.running, positions),
            narrowed(self.kv_usage, positions),
            narrowed(self.in_flight, positions),
            stamp if stamp is not None else object(),
            positions.index(self.trial) if self.trial >= 0 and self.trial in positions else -1,
            [loads[i] for i in positions] if loads else (),
            self.whole if self.whole is not None else self,
            positions if self.whole is None else [places[i] for i in positions],
            narrowed(self.picked_at, positions) if len(self.picked_at) else _NOTHING,
        )

    def marked(self, stamp: object, trial: int = -1) -> Candidates:
        """The same ones, with the same columns, under this stamp and with this one to be tried."""
        return Candidates(
            self.endpoints,
            self.waiting,
            self.running,
            self.kv_usage,
            self.in_flight,
            stamp,
            trial,
            self.loads,
            self.whole,
            self.places,
            self.picked_at,
        )

    def place(self, position: int) -> int:
        """Where a candidate stands in `whole`."""
        return position if self.whole is None else self.places[position]

    def of(self, column: Column) -> Column:
        """The part of a column over `whole` that belongs to these."""
        return column if self.whole is None else narrowed(column, self.places)


def narrowed(column: Column, positions: Sequence[int]) -> Column:
    """What stands at these positions, of the kind that their number asks for."""
    if isinstance(column, list):
        return [column[i] for i in positions]
    part = column[list(positions)]
    return cast(Column, part.tolist() if len(part) < ARRAY_SIZE else part)


class Pages(NamedTuple):
    """What the pages of the candidates say at one moment, in their order; not changed any more."""

    endpoints: Sequence[Endpoint]
    loads: Sequence[Load]
    read_at_s: Sequence[float]
    """When each was read, by the store's clock; NaN: never."""


class Pick:
    """Positions in the candidates, best first: one, or more as ordered fallbacks, with the total points of the first."""

    __slots__ = ("positions", "score", "totals")

    def __init__(self, positions: Sequence[int], score: float, totals: Column = _NOTHING) -> None:
        """`totals`: the total points of each candidate; to read only, and at once."""
        self.positions: Final = positions
        self.score: Final = score
        self.totals: Final = totals
