"""What is different between two versions of an endpoint, field by field, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from extproc.control.records import EndpointRecord

_MISSING: Final = object()


class Difference(NamedTuple):
    """One field."""

    path: str
    """`config.served_entities.current.entity_version`: an entity goes by its name, wherever it stands in the list."""
    before: Any
    """None when it was not there."""
    after: Any


def differences(before: EndpointRecord | None, after: EndpointRecord | None) -> tuple[Difference, ...]:
    """Of what a user gave; times, versions and layouts follow from that. Secrets are in it as references only."""
    return tuple(_between(_view(before), _view(after), ""))


def _view(record: EndpointRecord | None) -> dict[str, Any]:
    if record is None:
        return {}
    entities = {str(each["name"]): {key: value for key, value in each.items() if key != "name"} for each in record.entities}
    return {
        "owner": record.owner,
        "config": {**record.core, "served_entities": entities, "traffic": dict(record.percentages)},
        "sticky": "key" if record.sticky else "none",
        "tags": dict(record.tags),
        "ai_gateway": dict(record.ai_gateway),
        "rate_limits": list(record.rate_limits),
        "email_notifications": dict(record.notifications),
        "telemetry_config": dict(record.telemetry),
        "description": record.description,
        **{field: _by_name(value) for field, value in record.delivery.items()},
        **record.rest,
    }


def _by_name(value: Any) -> Any:
    """A list of what has names, by them, and their order, which may be all that is different."""
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        return value
    own = next((key for key in ("name", "entity") if all(key in each for each in value)), None)
    if own is None:
        return value
    named = {str(each[own]): {key: inner for key, inner in each.items() if key != own} for each in value}
    return {**named, "(order)": list(named)}


def _between(before: Any, after: Any, path: str) -> Iterator[Difference]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*before, *after]):
            inner = f"{path}.{key}" if path else key
            yield from _between(before.get(key, _MISSING), after.get(key, _MISSING), inner)
    elif before is _MISSING or after is _MISSING:
        there, other = (after, before) if before is _MISSING else (before, after)
        if isinstance(there, Mapping) and there:
            for key, value in there.items():
                pair = (_MISSING, value) if other is before else (value, _MISSING)
                yield from _between(*pair, f"{path}.{key}")
        elif there not in ({}, [], "", None):
            yield Difference(path, None if before is _MISSING else before, None if after is _MISSING else after)
    elif before != after:
        yield Difference(path, before, after)
