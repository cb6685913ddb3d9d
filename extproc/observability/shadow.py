"""Shadows: copies that were sent, and that were not, and what came of comparing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from extproc.observability.instruments import UNBOUNDED, Instruments

_LABELS: Final = ("serving_endpoint", "served_entity")


class ShadowMetrics:
    """By serving endpoint and the shadow's served entity. Their names are configured, so a client can't invent any."""

    def __init__(self, instruments: Instruments) -> None:
        self._copies = instruments.counter(
            "extproc_shadow_copies_total",
            "Copies of requests that were sent to a shadow, by what came of them: answered, or why there is no whole answer.",
            [*_LABELS, "outcome"],
            most=UNBOUNDED,
        )
        self._not_sent = instruments.counter(
            "extproc_shadow_not_sent_total",
            "Requests of a sample that were not copied, by the reason: a bound of the budget (in flight, bytes, rate), "
            "its pool (no room, no endpoint), residency (out of region), the request (unreadable), or that we stop (draining).",
            [*_LABELS, "reason"],
            most=UNBOUNDED,
        )
        self._pairs = instruments.counter(
            "extproc_shadow_pairs_total",
            "Live answers compared with their shadow's, by the verdict: same, differs, unjudged.",
            [*_LABELS, "verdict"],
            most=UNBOUNDED,
        )
        self._in_flight = instruments.gauge(
            "extproc_shadow_in_flight", "Copies whose answer has not ended.", list(_LABELS), most=UNBOUNDED
        )
        self._bytes = instruments.gauge(
            "extproc_shadow_held_bytes", "What copies count for in their shadow's max_bytes.", list(_LABELS), most=UNBOUNDED
        )

    def sent(self, endpoint: str, entity: str, outcome: str) -> None:
        self._copies.child(endpoint, entity, outcome).value += 1

    def not_sent(self, endpoint: str, entity: str, reason: str) -> None:
        self._not_sent.child(endpoint, entity, reason).value += 1

    def compared(self, endpoint: str, entity: str, verdict: str) -> None:
        self._pairs.child(endpoint, entity, verdict).value += 1

    def holds(self, endpoint: str, entity: str, in_flight: int, held_bytes: int) -> None:
        """How much is under way."""
        self._in_flight.child(endpoint, entity).value = in_flight
        self._bytes.child(endpoint, entity).value = held_bytes

    def keep(self, shadows: Collection[tuple[str, str]]) -> None:
        """Forget what was counted of all shadows but these (endpoint, entity)."""
        for family in (self._copies, self._not_sent, self._pairs, self._in_flight, self._bytes):
            family.keep(lambda labels: labels[:2] in shadows)
