"""The last decisions of this gateway, and older ones of the audit: searched, and one of them with what led to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from extproc.api.answers import Answer
from extproc.api.decided import OUTCOMES, Asked, asked_of, log_of, older, recent
from extproc.api.errors import ApiError
from extproc.api.page import decided
from extproc.api.page.visit import Visit, lines
from extproc.control.audited import Older
from extproc.control.errors import DeskError
from extproc.observability.decisions import DecisionRecord
from extproc.settings.base import SettingsError

_SHOWN: Final = 50
_TOLD: Final = 5
"""Attempts at one request that are told in full."""
_FIELDS: Final = ("q", "outcome", "endpoint", "entity", "model", "status", "since", "until", "zone")


async def found(visit: Visit) -> Answer:
    """Those that are searched for, newest first; one by its request's id with all that is known of it."""
    log = log_of(visit.inside)
    problems: list[str] = []
    try:
        asked = asked_of(visit.query, time.time())
    except SettingsError as error:
        asked, problems = Asked(request_id=visit.query("request_id")[:256]), lines(error.problems)
    except ApiError as error:
        asked, problems = Asked(request_id=visit.query("request_id")[:256]), lines([error.message])
    rows, total = ([], 0) if problems else await recent(visit.inside, visit.caller, asked, _SHOWN)
    if visit.partly and visit.query("part"):
        return visit.show("decided.html", details=await _details(visit, rows, total), request_id=asked.request_id, notes=[])
    audited = visit.inside.audited
    in_files = audited is not None and audited.keeps_decisions
    wants_files = not problems and in_files and bool(visit.query("older") or (asked.request_id and not rows))
    out_of_files = await _older(visit, asked) if wants_files else Older((), ())
    given = {name: visit.query(name)[:256] for name in _FIELDS}
    details: list[dict[str, Any]] = []
    if asked.request_id:
        of_files = out_of_files.rows
        details = await _details(visit, rows, total) or _numbered([decided.of_row(row) for row in of_files], len(of_files))
    return visit.show(
        "decisions.html",
        400 if problems else 404 if asked.request_id and not details else 200,
        rows=[_row(each) for each in rows],
        old=[_old(row) for row in out_of_files.rows],
        details=details,
        notes=out_of_files.notes,
        problems=problems,
        total=total,
        kept=len(log),
        given=given,
        more_open=any(given[name] for name in _FIELDS[2:-1]),
        outcomes=OUTCOMES,
        request_id=asked.request_id,
        in_files=in_files,
        in_files_at="/ui/decisions?" + urlencode({name: value for name, value in given.items() if value} | {"older": "true"}),
        looked_in_files=wants_files,
    )


async def _older(visit: Visit, asked: Asked) -> Older:
    try:
        return await older(visit.inside, visit.caller, asked, _SHOWN)
    except DeskError as error:
        return Older((), (error.message,))


async def _details(visit: Visit, rows: Sequence[DecisionRecord], total: int) -> list[dict[str, Any]]:
    """Ids of requests are the clients': there may be any number of one. What would have changed each is work, too."""
    details: list[dict[str, Any]] = []
    for each in rows[:_TOLD]:
        async with visit.inside.slices.turn():
            details.append(decided.of_record(each, few=bool(details)))
    return _numbered(details, total)


def _numbered(details: list[dict[str, Any]], total: int) -> list[dict[str, Any]]:
    """The newest first, as attempts at one request."""
    if total > 1:
        for at, each in enumerate(details):
            each["title"] = f"Attempt {total - at}"
    return details[:_TOLD]


def _row(record: DecisionRecord) -> dict[str, Any]:
    return {
        "at_ms": int(record.at_s * 1000),
        "id": record.request_id,
        "address": _address(record.request_id),
        "model": record.model or "",
        "entity": record.entity,
        "pool": record.pool,
        "server": record.endpoint.key,
        "status": decided.status(record.outcome.status),
    }


def _old(row: Any) -> dict[str, Any]:
    endpoint, entity = row.get("endpoint", ""), row.get("entity", "")
    return {
        "at_ms": row["at_ms"],
        "id": row["id"],
        "address": _address(row["id"]),
        "model": row.get("model", endpoint),
        "entity": f"{endpoint}/{entity}" if entity else endpoint,
        "pool": row.get("pool", ""),
        "server": row.get("server", ""),
        "status": decided.status(row.get("status", 0)),
    }


def _address(request_id: str) -> str:
    return "/ui/decisions?" + urlencode({"request_id": request_id}) if request_id else ""
