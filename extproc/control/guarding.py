"""Guards of a change of traffic: what speaks against it, whoever makes it.

    `PUT …/config` ─▶ desk ─ guard_of ─▶ Guard | None ─ against ─▶ why not, in words ─▶ Conflict, unless it was forced
    rollouts       ─▶ too_much, too_soon, with the plan's own numbers                 (`rollouts.guards` has the rules)

A client that knows nothing of guards can't say that it means it, so an endpoint is guarded only where somebody has asked for
that: it has a plan for rollouts, whose `bakeTime` and `largeChange` count, or the gateway or the call says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

from extproc.control.effects import Effect
from extproc.control.histories import Entry
from extproc.control.records import EndpointRecord
from extproc.rollouts.guards import Moved, PoolLoad, moved, too_much, too_soon
from extproc.rollouts.plan import read_plan

Policy = Literal["plans", "all", "off"]
"""Which endpoints are guarded, though the call does not ask for it."""

LARGE: Final = 25
BAKE_S: Final = 600.0
LOOKED_AT: Final = 20
"""Of the last changes: who makes more than that in a bake time makes small ones."""


class Wish(NamedTuple):
    """What a call says of guards."""

    asked: bool = False
    """Guard it, wherever it belongs."""
    forced: bool = False
    """Say what speaks against it, and do it all the same."""
    bake_s: float | None = None
    """Time between two large changes; None: the endpoint's plan, else ten minutes."""


class Guard(NamedTuple):
    """What is guarded against."""

    large: int
    """Percent of the traffic that make a change large."""
    bake_s: float


def guard_of(record: EndpointRecord, wish: Wish, policy: Policy) -> Guard | None:
    """The guard of a change of this endpoint; None: it is not guarded."""
    document = record.delivery.get("rollout")
    if not (wish.asked or policy == "all" or (policy == "plans" and document)):
        return None
    guard = Guard(LARGE, BAKE_S)
    if document:
        plan = read_plan(document)
        guard = Guard(plan.large, plan.bake_s)
    return guard if wish.bake_s is None else guard._replace(bake_s=wish.bake_s)


def share_moved(before: EndpointRecord, after: EndpointRecord) -> int:
    """Percent of the traffic that another entity has after a change."""
    return moved(before.percentages, after.percentages)


def against(guard: Guard, effects: Sequence[Effect], percent: int, history: Sequence[Entry], now_s: float) -> list[str]:
    """What speaks against a change that moves so much, in words."""
    why = too_soon(moves(history), percent, guard.large, guard.bake_s, now_s)
    return [*too_much(loads(effects)), *([why] if why else [])]


def loads(effects: Sequence[Any]) -> dict[str, PoolLoad]:
    """Of the pools that a change touches."""
    return {name: PoolLoad(*pool) for effect in effects for name, pool in effect.pools.items()}


def moves(history: Sequence[Entry]) -> list[Moved]:
    """How much of the traffic each change of an endpoint moved, newest first; its beginning moved nothing, and what another
    endpoint of its name did before does not count."""
    found = []
    for newer, older in pairwise(history):
        if newer.record is None or older.record is None or newer.record.id != older.record.id:
            break
        found.append(Moved(newer.at_ms / 1000, share_moved(older.record, newer.record)))
    return found
