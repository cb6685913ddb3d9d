"""Endpoints as Databricks' API shows them. The TypedDicts are what the API's own OpenAPI document says of answers, too.

Times are Unix milliseconds. What begins with `gateway_`, and `sticky`, is ours: their clients ignore what they don't know
(databricks-sdk 0.162, mlflow 3.17).
"""

from __future__ import annotations

from typing import Any, Final, NotRequired

from typing_extensions import TypedDict  # pydantic takes typing's from Python 3.12 on

from extproc.api.states import States
from extproc.control.effects import Effect
from extproc.control.histories import Entry
from extproc.control.records import EndpointRecord


class EndpointState(TypedDict):
    """Whether it can be queried, and how the last update is: one that was answered is in force."""

    ready: str
    config_update: str


class Config(TypedDict):
    """The config in force."""

    config_version: int
    served_entities: list[dict[str, Any]]
    served_models: list[dict[str, Any]]
    traffic_config: dict[str, Any]


class Tag(TypedDict):
    """A label for people."""

    key: str
    value: NotRequired[str]


class Endpoint(TypedDict):
    """An endpoint as create, get and update answer it (ServingEndpointDetailed)."""

    id: str
    name: str
    creator: str
    creation_timestamp: int
    last_updated_timestamp: int
    state: EndpointState
    config: Config
    tags: list[Tag]
    permission_level: str
    route_optimized: bool
    description: str
    sticky: str
    rules: NotRequired[list[dict[str, Any]]]
    experiments: NotRequired[list[dict[str, Any]]]
    shadows: NotRequired[list[dict[str, Any]]]
    gateway_owner: str
    gateway_problems: NotRequired[list[str]]
    task: NotRequired[str]
    ai_gateway: NotRequired[dict[str, Any]]
    email_notifications: NotRequired[dict[str, Any]]
    telemetry_config: NotRequired[dict[str, Any]]


class Summary(TypedDict):
    """An endpoint in the list (ServingEndpoint)."""

    id: str
    name: str
    creator: str
    creation_timestamp: int
    last_updated_timestamp: int
    state: EndpointState
    config: dict[str, Any]
    tags: list[Tag]
    description: str
    gateway_owner: str
    task: NotRequired[str]
    ai_gateway: NotRequired[dict[str, Any]]


class PoolShare(TypedDict):
    """A pool's part of an endpoint's requests in percent, and how busy it is now, together with the pools beside it.

    Beside it are those of other regions, to which goes what is too much for it.
    """

    before: int
    after: int
    load: dict[str, float]
    beside: list[str]


class Effects(TypedDict):
    """What a change does to the requests of an endpoint. Buckets are of 10,000."""

    endpoint: str
    buckets_before: dict[str, int]
    buckets_after: dict[str, int]
    buckets_moved: int
    pools: dict[str, PoolShare]
    notes: list[str]


class Change(TypedDict):
    """A field that a revision changed."""

    path: str
    before: Any
    after: Any


class Revision(TypedDict):
    """One change of an endpoint."""

    revision: int
    kind: str
    author: str
    reason: str
    timestamp: int
    config_version: int | None
    changes: list[Change]


_SHORT: Final = ("name", "entity_name", "entity_version", "registry", "external_model", "foundation_model")
"""What the list says of an entity."""


def detailed(record: EndpointRecord, states: States, level: str) -> Endpoint:
    """The endpoint, whole; `level` is the caller's."""
    state = states.of(record)
    entities = []
    for entity in record.entities:
        name = entity["name"]
        creator, at_ms = record.born.get(name, (record.creator, record.created_ms))
        deployment, message = state.entities[name]
        stamps = {"creator": creator, "creation_timestamp": at_ms}
        entities.append(
            {**entity, "state": {"deployment": deployment, "deployment_state_message": message}, **stamps},
        )
    config = record.config
    shown: dict[str, Any] = {
        **record.rest,
        **record.delivery,
        "id": record.id,
        "name": record.name,
        "creator": record.creator,
        "creation_timestamp": record.created_ms,
        "last_updated_timestamp": record.updated_ms,
        "state": _state(state.ready),
        "config": {**config, "config_version": record.config_version, "served_entities": entities, "served_models": []},
        "tags": tags(record),
        "permission_level": level,
        "route_optimized": bool(record.rest.get("route_optimized")),
        "description": record.description,
        "sticky": "key" if record.sticky else "none",
        "gateway_owner": record.owner,
    }
    optional = {
        "task": record.task,
        "ai_gateway": dict(record.ai_gateway),
        "email_notifications": dict(record.notifications),
        "telemetry_config": dict(record.telemetry),
        "gateway_problems": state.problems,
    }
    shown |= {key: value for key, value in optional.items() if value}
    return shown  # type: ignore[return-value]  # with fields that nobody here knows


def summary(record: EndpointRecord, states: States) -> Summary:
    """The endpoint as the list has it: without the split, and of the entities only what they are."""
    entities = [{key: entity[key] for key in _SHORT if key in entity} for entity in record.entities]
    shown: Summary = {
        "id": record.id,
        "name": record.name,
        "creator": record.creator,
        "creation_timestamp": record.created_ms,
        "last_updated_timestamp": record.updated_ms,
        "state": _state(states.of(record).ready),
        "config": {"served_entities": entities, "served_models": []},
        "tags": tags(record),
        "description": record.description,
        "gateway_owner": record.owner,
    }
    if record.task:
        shown["task"] = record.task
    if record.ai_gateway:
        shown["ai_gateway"] = dict(record.ai_gateway)
    return shown


def effect(change: Effect) -> Effects:
    """What a change does."""
    return {
        "endpoint": change.endpoint,
        "buckets_before": dict(change.before),
        "buckets_after": dict(change.after),
        "buckets_moved": change.moved,
        "pools": {
            name: {"before": pool.before, "after": pool.after, "load": dict(pool.load), "beside": list(pool.beside)}
            for name, pool in change.pools.items()
        },
        "notes": list(change.notes),
    }


def revision(entry: Entry) -> Revision:
    """One line of a history."""
    return {
        "revision": entry.revision,
        "kind": entry.kind,
        "author": entry.actor,
        "reason": entry.reason,
        "timestamp": entry.at_ms,
        "config_version": entry.config_version,
        "changes": [{"path": each.path, "before": each.before, "after": each.after} for each in entry.changed],
    }


def tags(record: EndpointRecord) -> list[Tag]:
    """The endpoint's tags."""
    return [{"key": key} if value is None else {"key": key, "value": value} for key, value in record.tags.items()]


def _state(ready: bool) -> EndpointState:
    return {"ready": "READY" if ready else "NOT_READY", "config_update": "NOT_UPDATING"}
