"""A record as the data plane needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from extproc.control.deliveries import experiments_of, residency_of, rules_of, shadows_of
from extproc.control.following import open_question, served_of
from extproc.control.records import EndpointRecord
from extproc.traffic import (
    EndpointSpec,
    EntitySpec,
    ExternalSpec,
    NamedLayout,
    Price,
    RateLimit,
    in_order,
    positioned,
)
from extproc.traffic.experiments import spread, weights_of

_NOT_OPTIONS: Final = frozenset({"name", "provider", "task"})


def spec_of(record: EndpointRecord) -> EndpointSpec:
    """The endpoint's spec; what it names is resolved when it is compiled."""
    gateway = record.ai_gateway
    return EndpointSpec(
        name=record.name,
        entities=tuple([_entity(entity) for entity in record.entities]),
        percentages=tuple(record.percentages.values()),
        layout=positioned(record.layout, list(record.percentages)) if record.layout else (),
        sticky=record.sticky,
        fallback=bool(gateway.get("fallback_config", {}).get("enabled")),
        rate_limits=_limits(record),
        usage_tracking=bool(gateway.get("usage_tracking_config", {}).get("enabled")),
        task=record.task,
        config_version=record.config_version,
        rules=rules_of(record.delivery),
        experiments=experiments_of(record.delivery, record.layouts),
        shadows=shadows_of(record.delivery),
        residency=residency_of(record.delivery.get("residency", ())),
    )


def layout_of(record: EndpointRecord) -> NamedLayout:
    """Whose buckets are whose, also where that is the order of the list."""
    if record.layout:
        return record.layout
    names = list(record.percentages)
    return tuple([(names[position], size) for position, size in in_order(tuple(record.percentages.values()))])


def arm_layouts(record: EndpointRecord) -> dict[str, NamedLayout]:
    """The layout of each experiment, also where it follows from the weights."""
    specs = experiments_of(record.delivery, record.layouts)
    return {spec.name: spec.layout or spread(weights_of(spec.arms)) for spec in specs}


def _entity(entity: Mapping[str, Any]) -> EntitySpec:
    external = entity.get("external_model")
    if external is None:
        version, served = served_of(entity)
        name, price, problem = entity["entity_name"], _price(entity), open_question(entity)
        return EntitySpec(entity["name"], name, version, price=price, served=served, problem=problem)
    options = {key: value for key, value in external.items() if key not in _NOT_OPTIONS}
    (config,) = options.values() or ({},)
    spec = ExternalSpec(external["name"], external["provider"], external["task"], tuple(sorted(_flat(config))))
    return EntitySpec(entity["name"], external=spec, price=_price(entity), region=entity.get("region", ""))


def _price(entity: Mapping[str, Any]) -> Price | None:
    price = entity.get("price")
    return None if price is None else Price(**{field: price[field] for field in Price._fields if price.get(field) is not None})


def _flat(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """`api_key_auth.key`, and so on."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        elif value is not None:
            yield f"{path}{key}", str(value)


def _limits(record: EndpointRecord) -> tuple[RateLimit, ...]:
    """Of the gateway, and of the deprecated call those that it does not have."""
    limits: dict[tuple[str, str], RateLimit] = {}
    for limit in (*record.ai_gateway.get("rate_limits", ()), *record.rate_limits):
        key, principal = limit.get("key", "endpoint"), limit.get("principal", "")
        limits.setdefault((key, principal), RateLimit(key, limit.get("calls"), limit.get("tokens"), principal))
    return tuple(limits.values())
