"""The last decisions of this gateway: found by what is known of a request, and one of them with what led to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from extproc.api.answers import Answer
from extproc.api.errors import ApiError
from extproc.api.page import words
from extproc.api.page.visit import Visit
from extproc.domain import SIGNALS
from extproc.observability.decisions import DecisionLog, DecisionRecord
from extproc.settings.tokens import Role

_SHOWN: Final = 50
_AT_ONCE: Final = 250
_ALL: Final = 100_000
_ANY_NAME: Final = "a-name"
"""Of an endpoint that there need not be: who may see that one may see all."""
_NAMES: Final = tuple([each.name for each in SIGNALS if each.name != "started_s"])
"""Of signals that say how busy it is."""
OUTCOMES: Final = {"": "any", "good": "answered well", "bad": "failed", "open": "still running"}


async def found(visit: Visit) -> Answer:
    """Those that are searched for, newest first; one by its request's id with all that is known of it."""
    log = visit.inside.decisions
    if log is None:
        raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", "This gateway keeps no decisions")
    request_id, asked = visit.query("request_id")[:256], visit.query("q")[:256].lower().split()
    outcome = visit.query("outcome") if visit.query("outcome") in OUTCOMES else ""
    seen = await _visible(visit, log)
    rows: list[DecisionRecord] = []
    total = 0
    for batch in _batches(log, request_id):
        async with visit.inside.slices.turn():
            good = [each for each in batch if _may_see(each, seen) and _is(each, asked, outcome)]
            total += len(good)
            rows += good[: _SHOWN - len(rows)]
    if visit.partly and visit.query("part"):
        return visit.show("decided.html", details=[_detail(each) for each in rows], request_id=request_id)
    return visit.show(
        "decisions.html",
        rows=[_row(each) for each in rows],
        details=[_detail(each) for each in rows] if request_id else [],
        total=total,
        kept=len(log),
        asked=visit.query("q")[:256],
        outcome=outcome,
        outcomes=OUTCOMES,
        request_id=request_id,
    )


async def _visible(visit: Visit, log: DecisionLog) -> set[str] | None:
    """Endpoints whose decisions the visitor may see; None: all decisions, also those of no endpoint."""
    if await visit.caller.may(Role.VIEW, _ANY_NAME):
        return None
    names = {_endpoint(each) for each in log.latest(limit=_ALL)} - {""}
    return set(await visit.caller.sees(sorted(names)))


def _may_see(record: DecisionRecord, seen: set[str] | None) -> bool:
    return seen is None or _endpoint(record) in seen


def _endpoint(record: DecisionRecord) -> str:
    return record.entity.partition("/")[0]


def _batches(log: DecisionLog, request_id: str) -> Iterator[list[DecisionRecord]]:
    """As it is now: what comes meanwhile is not in it."""
    records = list(log.latest(request_id=request_id or None, limit=_ALL))
    for first in range(0, len(records), _AT_ONCE):
        yield records[first : first + _AT_ONCE]


def _is(record: DecisionRecord, asked: Sequence[str], outcome: str) -> bool:
    status = record.outcome.status
    kind = "open" if status is None else "good" if 200 <= status < 400 else "bad"
    if outcome and outcome != kind:
        return False
    if not asked:
        return True
    known = (record.request_id, record.model, record.target_model, record.entity, record.pool, record.endpoint.key)
    text = "\n".join([each or "" for each in (*known, record.endpoint.name, record.outcome.served, record.rule)]).lower()
    return all(word in text or word == str(status) for word in asked)


def _row(record: DecisionRecord) -> dict[str, Any]:
    return {
        "record": record,
        "at_ms": int(record.at_s * 1000),
        "address": "/ui/decisions?" + urlencode({"request_id": record.request_id}) if record.request_id else "",
        "status": _status(record.outcome.status),
    }


def _status(status: int | None) -> str:
    return "running" if status is None else "no answer" if status == 0 else str(status)


def _detail(record: DecisionRecord) -> dict[str, Any]:
    known = record.signals()
    signals = [(name.replace("_", " "), known[name]) for name in _NAMES if known.get(name) is not None]
    return {
        **_row(record),
        "endpoint": _endpoint(record),
        "signals": [(name, _number(value)) for name, value in signals],
        "took": words.seconds(record.took_s) if record.took_s >= 0.001 else f"{record.took_s * 1e6:.0f} µs",
    }


def _number(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
