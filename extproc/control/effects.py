"""What a change does, or would do, to the requests of an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from extproc.control.advice import advice_on
from extproc.control.records import EndpointRecord
from extproc.control.specs import arm_layouts, layout_of
from extproc.traffic import ServingEndpoint, moved

LoadOf = Mapping[str, float]
"""How busy a pool is, by what is measured: `endpoints`, `waiting`, `running` ..."""


class PoolEffect(NamedTuple):
    """One pool's share of the endpoint's requests, in percent, and how busy the pool is now.

    The pools that serve the same entity in several regions are one here, named by the first: what is too much for the one goes
    to the others.
    """

    before: int
    after: int
    load: LoadOf = {}
    """Of all of them together; empty when nobody measures it."""
    beside: tuple[str, ...] = ()
    """Those of other regions."""


class Effect(NamedTuple):
    """Of one endpoint."""

    endpoint: str
    before: Mapping[str, int]
    """Buckets of 10,000 by entity; empty when the endpoint is new."""
    after: Mapping[str, int]
    """The same, after the change; empty when the endpoint goes."""
    moved: int
    """Buckets that are another entity's afterwards: of 10,000 keys about so many change their entity."""
    pools: Mapping[str, PoolEffect] = {}
    """Of every pool that has a part in it before or after, by its name."""
    notes: tuple[str, ...] = ()
    """What was taken and has no effect here."""


def effect_of(
    before: tuple[EndpointRecord, ServingEndpoint | None] | None,
    after: tuple[EndpointRecord, ServingEndpoint | None] | None,
) -> Effect:
    """What lies between two versions of an endpoint, one of which there is. How busy pools are is not in it yet."""
    was = None if before is None else before[0]
    to_be = None if after is None else after[0]
    name = (to_be or was or _nothing()).name
    old, new = (() if each is None else layout_of(each) for each in (was, to_be))
    there = [None if each is None else each[1] for each in (before, after)]
    shares = [_shares(each) for each in there]
    pools = {
        pool: PoolEffect(shares[0].get(pool, 0), shares[1].get(pool, 0), beside=_beside(pool, there))
        for pool in sorted({*shares[0], *shares[1]})
    }
    return Effect(
        name,
        _buckets(was),
        _buckets(to_be),
        moved(old, new) if old and new else 0,
        pools,
        () if to_be is None else (*_notes(to_be), *_moved_in_arms(was, to_be)),
    )


def with_loads(effect: Effect, load_of: Callable[[str], LoadOf]) -> Effect:
    """The effect, with what is measured of its pools."""
    return effect._replace(
        pools={
            pool: each._replace(load=_together([load_of(one) for one in (pool, *each.beside)]))
            for pool, each in effect.pools.items()
        }
    )


def _together(loads: Sequence[LoadOf]) -> LoadOf:
    """Of those that somebody measures."""
    added: dict[str, float] = {}
    for load in loads:
        for name, value in load.items():
            added[name] = added.get(name, 0.0) + value
    return added


def _nothing() -> EndpointRecord:
    raise ValueError("an effect lies between two versions, of which one has to be there")


def _buckets(record: EndpointRecord | None) -> dict[str, int]:
    if record is None:
        return {}
    sizes = dict.fromkeys(record.percentages, 0)
    for name, size in layout_of(record):
        sizes[name] += size
    return sizes


def _shares(endpoint: ServingEndpoint | None) -> dict[str, int]:
    shares: dict[str, int] = {}
    for entity in () if endpoint is None else endpoint.entities:
        if entity.pool:
            shares[entity.pool] = shares.get(entity.pool, 0) + entity.percentage
    return shares


def _beside(pool: str, endpoints: Sequence[ServingEndpoint | None]) -> tuple[str, ...]:
    """Which pools serve what this one serves first, in other regions."""
    found: dict[str, None] = {}
    for endpoint in endpoints:
        for entity in () if endpoint is None else endpoint.entities:
            if entity.pool == pool:
                found |= dict.fromkeys(entity.pools[1:])
    return tuple(found)


def _moved_in_arms(was: EndpointRecord | None, to_be: EndpointRecord) -> list[str]:
    """Of experiments that there were before: how many keys change their arm."""
    before = {} if was is None else arm_layouts(was)
    told = []
    for name, layout in arm_layouts(to_be).items():
        number = moved(before[name], layout) if name in before else 0
        if number:
            told.append(f"experiment {name!r}: {number} of 10000 keys change their arm, or whether they are in one")
    return told


def _notes(record: EndpointRecord) -> list[str]:
    idle = {
        "ai_gateway.inference_table_config": record.ai_gateway.get("inference_table_config"),
        "config.auto_capture_config": record.core.get("auto_capture_config"),
        "telemetry_config": record.telemetry,
        "email_notifications": record.notifications,
    }
    return [*(f"{field} is kept and has no effect here" for field, value in idle.items() if value), *advice_on(record.delivery)]
