"""The record of changes: searched, whether its chain is whole, and all of it for a file."""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import quote, urlencode

from extproc.api.answers import Answer
from extproc.api.changed import NO_RECORD, audited_of, exported, seen_by, verdict_shape, wanted_of
from extproc.api.errors import invalid
from extproc.api.page.one import KINDS
from extproc.api.page.rendering import value
from extproc.api.page.visit import Visit, lines
from extproc.audit.changes import ChangeRecord
from extproc.control.audited import Changes, ChangesWanted
from extproc.settings.base import SettingsError, shown

_SHOWN: Final = 25
_FIELDS_SHOWN: Final = 10
_LONGEST: Final = 64
_FIELDS: Final = ("endpoint", "actor", "since", "until", "zone")


async def listed(visit: Visit) -> Answer:
    """Those that are asked for, newest first."""
    given = {name: visit.query(name)[:256] for name in _FIELDS}
    said = {name: value for name, value in given.items() if value}
    audited = visit.inside.audited
    keeps = audited is not None and audited.keeps_changes
    problems: list[str] = []
    found = Changes((), None, 0)
    try:
        wanted = wanted_of(visit.query, time.time())
    except SettingsError as error:
        wanted, problems = ChangesWanted(), lines(error.problems)
    if keeps and audited is not None and not problems:
        before = visit.number("before", 0) or None
        found = await audited.changes(wanted, before, _SHOWN, await seen_by(visit.caller))
    return visit.show(
        "audit.html",
        400 if problems else 200,
        changes=[_shown(each) for each in found.records],
        problems=problems,
        keeps=keeps,
        no_record=NO_RECORD,
        given=given,
        asked=bool(said),
        older="" if found.more is None else "/ui/audit?" + urlencode({**said, "before": found.more}),
        looked_at=found.looked_at,
        later=bool(visit.query("before")),
        first="/ui/audit?" + urlencode(said),
        exports=[(form.upper(), "/ui/audit/export?" + urlencode({**said, "format": form})) for form in ("csv", "json")],
    )


async def check(visit: Visit) -> Answer:
    """Whether the chain is whole; a part of the page, or a page of its own."""
    everything = await seen_by(visit.caller) is None
    told = verdict_shape(await audited_of(visit.inside).check(), whole=everything)
    template = "audit_check.html" if visit.partly else "audit_checked.html"
    return visit.show(template, told={"faults": [], "notes": [], "why": "", "records": 0, "head": "", **told})


async def export(visit: Visit) -> Answer:
    """All that is asked for, as a file."""
    form = visit.query("format")
    if form not in ("json", "csv"):
        raise invalid(f"format: got {shown(form)}; expected json or csv")
    return await exported(visit.inside, wanted_of(visit.query, time.time()), await seen_by(visit.caller), form)


def _shown(record: ChangeRecord) -> dict[str, Any]:
    name = quote(record.endpoint, safe="")
    version = record.config_version
    return {
        "record": record,
        "what": KINDS.get(record.kind, record.kind),
        "at": f"/ui/endpoints/{name}",
        "version_at": f"/ui/endpoints/{name}/history?version={version}" if version else "",
        "fields": len(record.diff),
        "changed": [
            {"path": each[0], "before": _short(each[1]), "after": _short(each[2])} for each in record.diff[:_FIELDS_SHOWN]
        ],
        "moved": [
            {"share": f"{(last - first + 1) / 100:g} %", "first": first, "last": last, "before": before, "after": after}
            for first, last, before, after in record.moved[:_FIELDS_SHOWN]
        ],
    }


def _short(of: object) -> str | None:
    """A value of a document, or its beginning; the export has all of it."""
    if of is None:
        return None
    text = value(of)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
