"""Who waits for a place in a full pool, and whose turn it is: bands by priority, flows by fairness id, a queue each.

This package may not import asyncio, grpc, protobuf, logging or a clock: it is told the time. It decides who goes next and who
has to leave; what becomes of them, whoever waits for the answer knows.
"""

from extproc.flow.eviction import Evictor, Sent
from extproc.flow.gate import Gate, Outcome
from extproc.flow.gauge import Gauge
from extproc.flow.plan import BandPlan, EvictionPlan, FlowPlan
from extproc.flow.queues import FlowQueues, Offer
from extproc.flow.ticket import Ticket

__all__ = [
    "BandPlan",
    "EvictionPlan",
    "Evictor",
    "FlowPlan",
    "FlowQueues",
    "Gate",
    "Gauge",
    "Offer",
    "Outcome",
    "Sent",
    "Ticket",
]
