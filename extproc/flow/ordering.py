"""Ordering policies: who is next among the requests of one queue. What each goes by is in the rows at the end."""

from __future__ import annotations

from typing import Final

from extproc.flow.roles import ORDERING
from extproc.flow.ticket import Ticket
from extproc.scheduling.plugins.base import PluginType
from extproc.scheduling.plugins.parameters import NoParameters


class FirstCome:
    """`fcfs-ordering-policy`."""

    reads_ttft = False

    def key(self, ticket: Ticket) -> float:
        return ticket.came_s


class EarliestDeadline:
    """`edf-ordering-policy`. The deadline is the end of its time in the queue, so with one TTL for all it is first come."""

    reads_ttft = False

    def key(self, ticket: Ticket) -> float:
        return ticket.expires_s


class SloDeadline:
    """`slo-deadline-ordering-policy`. Who names no time comes behind all who do."""

    reads_ttft = True

    def key(self, ticket: Ticket) -> float:
        return float("inf") if ticket.ttft_s is None else ticket.came_s + ticket.ttft_s


TYPES: Final = (
    PluginType("fcfs-ordering-policy", ORDERING, "who came first is first", NoParameters, lambda parameters, kit: FirstCome()),
    PluginType(
        "edf-ordering-policy",
        ORDERING,
        "whose time in the queue (arrival + TTL) ends first",
        NoParameters,
        lambda parameters, kit: EarliestDeadline(),
    ),
    PluginType(
        "slo-deadline-ordering-policy",
        ORDERING,
        "arrival + `x-llm-d-slo-ttft-ms`; without the header behind all that have it, in the order of arrival",
        NoParameters,
        lambda parameters, kit: SloDeadline(),
    ),
)
