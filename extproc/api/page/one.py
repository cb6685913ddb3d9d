"""One endpoint: how it is, its split and who may move it, its rules in words, and what was before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from extproc.api.answers import Answer
from extproc.api.page import sentences
from extproc.api.page.endpoints import bar, live_address
from extproc.api.page.visit import Visit
from extproc.api.states import States
from extproc.control.errors import DeskError
from extproc.control.histories import Entry
from extproc.control.records import API, EndpointRecord
from extproc.settings.tokens import Role

_ENTRIES: Final = 10
_LOOKED_AT: Final = 200
KINDS: Final = {
    "create": "Created",
    "update": "Changed",
    "delete": "Deleted",
    "revert": "Taken back",
    "tags": "Tags changed",
    "rate-limits": "Limits changed",
    "ai-gateway": "Gateway settings changed",
    "notifications": "Notifications changed",
    "telemetry": "Telemetry changed",
}


async def shown(visit: Visit) -> Answer:
    """The endpoint."""
    return await endpoint_page(visit, visit.inside.desk.get(visit.name))


async def endpoint_page(
    visit: Visit, record: EndpointRecord, *, status: int = 200, panel: str = "", values: Mapping[str, Any] = {}
) -> Answer:
    """The page of an endpoint. `panel`: a template with what a change of it would do, or why it can't be, for who has no
    scripts; `values`: the panel's, and what the editor shows.
    """
    shares = dict(record.percentages)
    entries, older, lost = await _entries(visit, record.name, record)
    state = States(visit.inside.table(), visit.inside.ready, visit.inside.held).of(record)
    owns = record.owner == API
    manages = await visit.caller.may(Role.MANAGE, record.name)
    return visit.show(
        "endpoint.html",
        status,
        record=record,
        bar=bar(record.percentages),
        entities=[_entity(each) for each in record.entities],
        cells=visit.site.figures.cells([record.name]),
        broken=state.problems,
        manages=manages,
        edits=manages and owns and len(record.entities) > 1,
        owns=owns,
        asks=await visit.caller.may(Role.QUERY, record.name),
        rules=sentences.rules(record.delivery),
        experiments=sentences.experiments(record.delivery),
        shadows=sentences.shadows(record.delivery),
        entries=entries,
        older=older,
        lost=lost,
        may_revert=manages and owns,
        done=visit.query("done"),
        measured=visit.inside.measures is not None,
        live=live_address([record.name]),
        panel=panel,
        **{"began": shares, "shares": shares, "version": record.config_version, **values},
    )


async def history(visit: Visit) -> Answer:
    """More of what was before; also of an endpoint that was deleted."""
    record = next((each for each in visit.inside.desk.list() if each.name == visit.name), None)
    version = visit.number("version", 0)
    before = visit.number("before", 0) or None
    if version:
        before = await _behind(visit, version, record)
    entries, older, lost = await _entries(visit, visit.name, record, before)
    if version and (not entries or entries[0]["entry"].config_version != version):
        entries, older = [], ""
    manages = await visit.caller.may(Role.MANAGE, visit.name)
    return visit.show(
        "history.html",
        name=visit.name,
        version=version,
        record=record,
        entries=entries,
        older=older,
        lost=lost,
        may_revert=manages and record is not None and record.owner == API,
    )


async def _behind(visit: Visit, version: int, record: EndpointRecord | None) -> int | None:
    """Before which revision the change stands that made this version of the endpoint, in its present life when it has one."""
    before: int | None = None
    made: int | None = None
    while True:
        try:
            found = await visit.inside.desk.history(visit.name, before, _LOOKED_AT)
        except DeskError as error:
            if error.status == 404:
                raise
            return None  # which the page says
        for entry in found:
            same = record is None or (entry.record is not None and entry.record.id == record.id)
            if same and entry.config_version == version:
                made = entry.revision
            elif made is not None:
                return made + 1
        if len(found) < _LOOKED_AT:
            return 1 if made is None else made + 1
        before = found[-1].revision


async def _entries(
    visit: Visit, name: str, record: EndpointRecord | None, before: int | None = None
) -> tuple[list[dict[str, Any]], str, str]:
    """Changes as they are shown, where older ones are, and why there are none: the store may be away."""
    try:
        found = await visit.inside.desk.history(name, before, _ENTRIES)
    except DeskError as error:
        if error.status == 404:
            raise
        return [], "", error.message
    more = f"/ui/endpoints/{name}/history?before={found[-1].revision}" if len(found) == _ENTRIES else ""
    return _told(found, record), more, ""


def _told(entries: Sequence[Entry], record: EndpointRecord | None) -> list[dict[str, Any]]:
    told = []
    seen: set[int | None] = set() if record is None else {record.config_version}
    for entry in entries:
        # A version counts in the endpoint's present life only: one that was deleted and made anew begins at 1 again.
        same = record is not None and entry.record is not None and entry.record.id == record.id
        back = same and entry.config_version not in seen
        if back:
            seen.add(entry.config_version)
        told.append(
            {"entry": entry, "what": KINDS.get(entry.kind, entry.kind), "changed": entry.changed, "same": same, "back": back}
        )
    return told


def _entity(entity: Mapping[str, Any]) -> dict[str, str]:
    external = entity.get("external_model")
    if external is not None:
        return {"name": entity["name"], "serves": str(external["name"]), "version": f"by {external['provider']}"}
    return {"name": entity["name"], "serves": str(entity["entity_name"]), "version": str(entity.get("entity_version", ""))}


def meanwhile(entries: Sequence[Entry], record: EndpointRecord, version: int) -> Entry | None:
    """Who has changed the config of this endpoint first, after this version."""
    lives = [each for each in entries if each.record is not None and each.record.id == record.id]
    later = [each for each in lives if each.config_version is not None and each.config_version > version]
    return later[-1] if later else None
