"""The record of changes: who, from where, when, why, what; whether its chain is whole; and all of it for a file."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from starlette.responses import StreamingResponse

from extproc.api.answers import JSON, Answer, Json
from extproc.api.ask import Ask, Inside
from extproc.api.auth import Caller, sees_all
from extproc.api.errors import invalid, missing
from extproc.audit.changes import ChangeRecord
from extproc.control.audited import EXPORTED, Audited, Changes, ChangesWanted, Checked, Seen
from extproc.settings.base import shown
from extproc.settings.moments import moment_ms

CSV: Final = "text/csv; charset=utf-8"
_MOST: Final = 500
_TOGETHER: Final = 50
"""Records that are written at once."""
NO_RECORD: Final = "No changes are recorded here: --database-url and --audit-dir say where they would be"
QUERY: Final[Mapping[str, str]] = {
    "endpoint": "Of this serving endpoint",
    "actor": "By whom; a part of the name is enough",
    "since": "From this time on (`2026-11-29T09:00:00Z`), or this long ago (`2h`)",
    "until": "Before this time",
    "format": "`json`, or `csv` for a table",
    "limit": "At most so many, up to 500, and `next_before` for more; without it all, as they are read, up to 100,000",
    "before": "From where the answer before left off",
}
_COLUMNS: Final = (
    "number",
    "at",
    "endpoint",
    "kind",
    "config_version",
    "actor",
    "origin",
    "reason",
    "approved_by",
    "changes",
    "moved",
    "document",
)
_FORMULAS: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
"""How a cell begins that a spreadsheet would run (OWASP, "CSV Injection")."""


def wanted_of(word: Callable[[str], str], now_s: float) -> ChangesWanted:
    """From the words of a query, '' where there is none. Raises SettingsError with the word's name."""
    zone = word("zone")
    ahead = int(zone) if zone.removeprefix("-").isdigit() and zone.isascii() and len(zone) <= 4 else 0
    return ChangesWanted(
        word("endpoint")[:256],
        word("actor")[:256],
        moment_ms("since", word("since"), now_s, ahead),
        moment_ms("until", word("until"), now_s, ahead),
    )


def audited_of(inside: Inside) -> Audited:
    """Where changes are. Raises ApiError where none are recorded."""
    if inside.audited is None or not inside.audited.keeps_changes:
        raise missing(NO_RECORD)
    return inside.audited


async def seen_by(caller: Caller) -> Seen | None:
    """Of which endpoints the caller is told; None: of all, be they there or not. Raises ApiError."""
    return None if await sees_all(caller) else caller.sees


async def changes(ask: Ask) -> Answer:
    """The changes that are asked for, newest first."""
    query = ask.request.query_params
    audited = audited_of(ask.inside)
    wanted = wanted_of(lambda key: query.get(key, "").strip(), time.time())
    form, limit = query.get("format", "json"), ask.number("limit")
    if form not in ("json", "csv"):
        raise invalid(f"format: got {shown(form)}; expected json or csv")
    seen = await seen_by(ask.caller)
    if limit is None:
        return await exported(ask.inside, wanted, seen, form)
    found = await audited.changes(wanted, ask.number("before"), max(1, min(limit, _MOST)), seen)
    if form == "csv":
        return await exported(ask.inside, wanted, seen, form, found)
    return Json({"changes": [shape(each) for each in found.records], "next_before": found.more})


async def check(ask: Ask) -> Answer:
    """Whether the chain is whole; what is wrong is told to who may see all endpoints."""
    checked = await audited_of(ask.inside).check()
    return Json(verdict_shape(checked, whole=await seen_by(ask.caller) is None))


def verdict_shape(checked: Checked, *, whole: bool) -> dict[str, Any]:
    """With what is wrong, or without."""
    verdict = checked.verdict
    told: dict[str, Any] = {"at_ms": int(checked.at_s * 1000)}
    if verdict is None:
        return {**told, "whole": None, "why": checked.why}
    told |= {"whole": not verdict.faults, "records": verdict.records, "head": verdict.head.hex()}
    return {**told, "faults": list(verdict.faults), "notes": list(verdict.notes)} if whole else told


def shape(record: ChangeRecord) -> dict[str, Any]:
    """A record as JSON has it."""
    diff = [{"path": path, "before": before, "after": after} for path, before, after in record.diff]
    moved = [{"first": a, "last": b, "before": before, "after": after} for a, b, before, after in record.moved]
    return {**record._asdict(), "diff": diff, "moved": moved}


# -- for a file ------------------------------------------------------------------------------------------------------


async def exported(inside: Inside, wanted: ChangesWanted, seen: Seen | None, form: str, found: Changes | None = None) -> Answer:
    """All that is asked for, or what was found, as it is read; at most `EXPORTED`."""
    audited = audited_of(inside)
    records = audited.each(wanted, seen) if found is None else _given(found.records)
    first = await anext(records, None)  # what can't be read is told before the answer begins
    pieces = _as_csv if form == "csv" else _as_json
    name = f"changes.{form}"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(
        _sliced(inside, pieces, first, records), media_type=CSV if form == "csv" else JSON, headers=headers
    )


async def _given(records: Sequence[ChangeRecord]) -> AsyncIterator[ChangeRecord]:
    for each in records:
        yield each


async def _sliced(
    inside: Inside,
    pieces: Callable[[Sequence[ChangeRecord], bool, bool], bytes],
    first: ChangeRecord | None,
    records: AsyncIterator[ChangeRecord],
) -> AsyncIterator[bytes]:
    batch = [] if first is None else [first]
    begins = True
    async for record in records:
        batch.append(record)
        if len(batch) >= _TOGETHER:
            async with inside.slices.turn():
                made = pieces(batch, begins, False)
            yield made
            batch, begins = [], False
    yield pieces(batch, begins, True)


def _as_json(records: Sequence[ChangeRecord], begins: bool, ends: bool) -> bytes:
    listed = b",".join([orjson.dumps(shape(each), option=orjson.OPT_NON_STR_KEYS) for each in records])
    before = b'{"changes":[' if begins else b"," if listed else b""
    return before + listed + (b'],"most":%d}' % EXPORTED if ends else b"")


def _as_csv(records: Sequence[ChangeRecord], begins: bool, ends: bool) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\r\n")
    if begins:
        rows.writerow(_COLUMNS)
    rows.writerows([[cell(each) for each in _row(record)] for record in records])
    return text.getvalue().encode("utf-8", "replace")


def _row(record: ChangeRecord) -> tuple[object, ...]:
    at = datetime.fromtimestamp(record.at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    moved = "; ".join([f"buckets {first} to {last}: {before} -> {after}" for first, last, before, after in record.moved])
    return (
        record.number,
        at,
        record.endpoint,
        record.kind,
        record.config_version,
        record.actor,
        record.origin,
        record.reason,
        record.approved_by,
        "; ".join([f"{path}: {_value(before)} -> {_value(after)}" for path, before, after in record.diff]),
        moved,
        record.document,
    )


def _value(value: object) -> str:
    return "nothing" if value is None else orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def cell(value: object) -> str:
    """What a spreadsheet shows, and does not run: text that begins like a formula gets an apostrophe before it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    return f"'{value}" if value.lstrip(" ").startswith(_FORMULAS) else value
