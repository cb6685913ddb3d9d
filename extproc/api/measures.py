"""How the entities of an endpoint are doing, and what somebody says of their answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import orjson

from extproc.api import measured
from extproc.api.answers import Answer, Json, Sliced
from extproc.api.ask import Ask
from extproc.api.errors import ApiError, invalid, missing
from extproc.api.series import WINDOW_S, series_of
from extproc.control.records import EndpointRecord
from extproc.measures import COUNTED, NO_TOTALS, RATED, Measures
from extproc.settings.base import parse_duration_s
from extproc.settings.base import shown as cut
from extproc.settings.serving import read_feedback

_USUAL_S: Final = 300.0
_ALL: Final = "all"
WINDOW: Final = "How far back: 5m by default, at most --measures-window; all: since the gateway began."
SLOTS_WINDOW: Final = "How far back: 15m by default, at most --measures-window."


async def shown(ask: Ask) -> Answer:
    """Every entity, also those that nobody has asked yet, and every arm."""
    record, measures = ask.inside.desk.get(ask.name), _measures(ask)
    window_s = _window_s(ask, measures)
    return Sliced(ask.inside.slices, _pieces(record, measures, window_s))


async def series(ask: Ask) -> Answer:
    """Every entity's requests, errors and times, slot by slot."""
    record, measures = ask.inside.desk.get(ask.name), _measures(ask)
    window_s = _window_s(ask, measures, WINDOW_S)
    if window_s is None:
        raise invalid(f"window: got {_ALL}; expected a duration of at most {measures.window_s:g}s (--measures-window)")
    names = [str(entity["name"]) for entity in record.entities]
    async with ask.inside.slices.turn():
        return Json(series_of(measures, record.name, names, window_s, time.time()))


async def feedback(ask: Ask) -> Answer:
    """How good an answer was. 404 when nobody knows (any more) whose it was, 409 when somebody has said so before."""
    ask.inside.desk.get(ask.name)
    measures = _measures(ask)
    request_id, score = read_feedback(await ask.object())
    verdict = measures.remembered.rate(request_id.encode(), score, ask.name)
    ask.inside.feedback(verdict)
    if verdict == COUNTED:
        return Json({"request_id": request_id, "verdict": verdict})
    if verdict == RATED:
        words = f"request_id: got {cut(request_id)}, which was rated before; expected each request once"
        raise ApiError(409, "RESOURCE_ALREADY_EXISTS", words)
    raise missing(
        f"request_id: got {cut(request_id)}, which is no request to {ask.name!r} that is remembered here; expected the "
        "x-request-id of one of the last (--feedback-requests) that this replica decided"
    )


def _measures(ask: Ask) -> Measures:
    measures = ask.inside.measures
    if measures is None:
        raise ApiError(501, "NOT_IMPLEMENTED", "Nothing is measured here: --measures=off")
    return measures


def _window_s(ask: Ask, measures: Measures, usual_s: float = _USUAL_S) -> float | None:
    given = ask.request.query_params.get("window")
    if given is None:
        return min(usual_s, measures.window_s)
    if given == _ALL:
        return None
    try:
        window_s = parse_duration_s(given)
    except ValueError as error:
        raise invalid(f"window: got {cut(given)}; {error}, or all") from None
    if not 0 < window_s <= measures.window_s:
        most = f"{measures.window_s:g}s (--measures-window)"
        raise invalid(f"window: got {cut(given)}; expected more than 0 and at most {most}, or all")
    return window_s


def _pieces(record: EndpointRecord, measures: Measures, window_s: float | None) -> Iterator[bytes]:
    """An entity at a time: an hour of a busy one takes a millisecond to add up."""
    beginning = {"endpoint": record.name, "window_s": window_s, "slot_s": measures.slot_s}
    yield orjson.dumps(beginning)[:-1] + b',"measures":['
    names = [str(entity["name"]) for entity in record.entities]
    currencies = {
        str(entity["name"]): str(entity["price"].get("currency", "USD")) for entity in record.entities if entity.get("price")
    }
    keys = {(name, "") for name in names} | {(entity, arm) for _, entity, arm in measures.known(record.name)}
    between = b""
    for entity, arm in sorted(keys, key=lambda key: (key[1], names.index(key[0]) if key[0] in names else len(names), key[0])):
        cell = measures.find(record.name, entity, arm)
        totals = NO_TOTALS
        if cell is not None:
            totals = cell.total() if window_s is None else cell.last(window_s)
        yield between + orjson.dumps(measured.measured(entity, arm, totals, currencies.get(entity)))
        between = b","
    yield b"]}"
