"""Serving endpoints themselves: create, list, get, update, delete, and the twins for provisioned throughput."""

from __future__ import annotations

import re
from typing import Any, Final

from extproc.api import shapes
from extproc.api.answers import Answer, Json, Sliced, json_list
from extproc.api.ask import Ask, whole
from extproc.api.auth import level_of, require
from extproc.api.errors import invalid, malformed
from extproc.api.states import States
from extproc.control.changes import Create, Delete, UpdateConfig
from extproc.control.desk import Applied
from extproc.control.guarding import Wish
from extproc.control.records import EndpointRecord
from extproc.settings.base import parse_duration_s
from extproc.settings.base import shown as cut
from extproc.settings.tokens import Role

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ONLY_SHOWN: Final = ("state", "creator", "creation_timestamp", "registry")
"""Of an entity: what answers say and no request means, so that who sends back what was read changes nothing by it."""


def states(ask: Ask) -> States:
    """States as they are now."""
    return States(ask.inside.table(), ask.inside.ready, ask.inside.held)


async def shown(ask: Ask, record: EndpointRecord) -> shapes.Endpoint:
    """The endpoint for this caller."""
    return shapes.detailed(record, states(ask), await level_of(ask.caller, record.name))


async def answered(ask: Ask, applied: Applied) -> Answer:
    """The endpoint after a change; after a dry run, that and what it would do."""
    if ask.dry_run:
        return await tried(ask, applied)
    assert applied.record is not None, "a change of an endpoint that leaves it there"
    return Json(await shown(ask, applied.record))


async def tried(ask: Ask, applied: Applied) -> Answer:
    """What a change would do."""
    record = applied.record
    return Json(
        {
            "dry_run": True,
            "endpoint": None if record is None else await shown(ask, record),
            "effects": [shapes.effect(each) for each in applied.effects],
            "guards": list(applied.against),
        }
    )


async def create(ask: Ask) -> Answer:
    """A new endpoint."""
    document = dict(await ask.object())
    name = document.get("name")
    if isinstance(config := document.get("config"), dict):
        document["config"] = _asked(config)
    if isinstance(name, str) and NAME.fullmatch(name):  # any other name is refused by the desk
        await require(ask.caller, Role.MANAGE, name)
    return await answered(ask, await ask.change(Create(document)))


async def listed(ask: Ask) -> Answer:
    """All endpoints that the caller may see; always with the key, which mlflow's client needs."""
    records = {record.name: record for record in ask.inside.desk.list()}
    names = await ask.caller.sees(list(records))
    now = states(ask)
    return Sliced(ask.inside.slices, json_list("endpoints", (shapes.summary(records[name], now) for name in names)))


async def get(ask: Ask) -> Answer:
    """One endpoint."""
    return Json(await shown(ask, ask.inside.desk.get(ask.name)))


async def update(ask: Ask) -> Answer:
    """What is given of a config replaces what was there; the rest stays."""
    return await _updated(ask, await ask.object())


async def update_provisioned(ask: Ask) -> Answer:
    """The same, for the twin, whose body has the config under `config`."""
    config = (await ask.object()).get("config")
    if not isinstance(config, dict):
        raise invalid("config: got nothing of the kind; expected an object with served_entities, traffic_config or both")
    return await _updated(ask, config)


async def _updated(ask: Ask, document: dict[str, Any]) -> Answer:
    config = dict(document)
    version = config.pop("config_version", None)
    expected = None if version is None else whole("config_version", version, 1)
    reason = config.pop("reason", None)
    if not isinstance(reason, str | None):
        raise malformed("reason: got no text; expected why the config is changed, in words")
    config = _asked(config)
    if config.get("served_models") == [] and "served_entities" in config:
        del config["served_models"]
    change = UpdateConfig(ask.name, config, _wish(ask))
    return await answered(ask, await ask.change(change, expected=expected, reason=reason))


def _wish(ask: Ask) -> Wish:
    """What the query says of guards. Raises ApiError."""
    given = ask.request.query_params.get("bake")
    try:
        bake_s = None if given is None else parse_duration_s(given)
    except ValueError as error:
        raise invalid(f"bake: got {cut(given)}; {error}") from None
    return Wish(ask.flag("guard") or bake_s is not None, ask.flag("force"), bake_s)


def _asked(config: dict[str, Any]) -> dict[str, Any]:
    """A config without what only answers say."""
    listed = {key: config[key] for key in ("served_entities", "served_models") if isinstance(config.get(key), list)}
    return {**config, **{key: [_without_stamps(each) for each in entities] for key, entities in listed.items()}}


def _without_stamps(entity: object) -> object:
    return {key: value for key, value in entity.items() if key not in _ONLY_SHOWN} if isinstance(entity, dict) else entity


async def delete(ask: Ask) -> Answer:
    """The endpoint goes. `{}`, which mlflow's client reads as JSON."""
    applied = await ask.change(Delete(ask.name))
    return await tried(ask, applied) if ask.dry_run else Json({})
