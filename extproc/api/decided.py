"""Decisions: the last ones of this gateway, older ones out of the audit's files, and what a request would be told now."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from extproc.api.answers import Answer, Json
from extproc.api.ask import Ask, Inside
from extproc.api.auth import Caller, require, sees_all
from extproc.api.errors import ApiError, denied, invalid, malformed, missing
from extproc.audit.reader import Wanted
from extproc.control.audited import Older
from extproc.domain import RequestHead
from extproc.errors import UnknownEndpoint
from extproc.observability.decisions import DecisionLog, DecisionRecord
from extproc.observability.shapes import decision_shape
from extproc.request.asked import HELP, problem_of, request_of
from extproc.settings.base import SettingsError, shown
from extproc.settings.document import load_json
from extproc.settings.moments import moment_ms
from extproc.settings.tokens import Role
from extproc.stages.access import WAITS_FOR, Bearer
from extproc.stages.explained import considered_shape

_USUAL: Final = 50
MOST: Final = 1000
_AT_ONCE: Final = 250
_TOLD: Final = 10
"""Decisions on one request that are told with their candidates: ids are the clients', and there may be any number."""
_ALL: Final = 100_000
_ANY_NAME: Final = "a-name"
"""Of an endpoint that there need not be: who may query that one may query all."""
_BELOW: Final = re.compile(r"/serving-endpoints/([^/?]{1,256})")
OUTCOMES: Final = {"": "any", "good": "answered well", "bad": "failed", "open": "still running"}
MAX_TRIED_BYTES: Final = 64 * 2**10
QUERY: Final[Mapping[str, str]] = {
    "request_id": "Decisions on this request; then each has its candidates, with signals and points",
    "model": "As the client named it, or as it was asked for instead",
    "endpoint": "Of this serving endpoint",
    "entity": "Of this served entity, with `endpoint`; or `endpoint/entity`",
    "status": "Of the answer; 0: there was none",
    "outcome": "`good` (2xx, 3xx), `bad` or `open` (still running)",
    "since": "From this time on (`2026-11-29T09:00:00Z`), or this long ago (`2h`)",
    "until": "Before this time",
    "q": "Words, each of which is somewhere in it",
    "older": "`true`: look into the files of `--audit-dir` too",
    "limit": "At most so many of each, newest first: 50, up to 1,000",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Which decisions are asked for; '' and None: any."""

    request_id: str = ""
    model: str = ""
    endpoint: str = ""
    entity: str = ""
    status: int | None = None
    outcome: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    words: tuple[str, ...] = ()

    def has(self, record: DecisionRecord) -> bool:
        """Whether it is one of them."""
        endpoint, _, entity = record.entity.partition("/")
        at_ms = record.at_s * 1000
        return (
            (not self.request_id or record.request_id == self.request_id)
            and (not self.model or self.model in (record.model, record.target_model))
            and (not self.endpoint or endpoint == self.endpoint)
            and (not self.entity or entity == self.entity)
            and (self.status is None or record.outcome.status == self.status)
            and (not self.outcome or self.outcome == outcome_of(record.outcome.status))
            and (self.since_ms is None or at_ms >= self.since_ms)
            and (self.until_ms is None or at_ms < self.until_ms)
            and self._says(record)
        )

    def _says(self, record: DecisionRecord) -> bool:
        if not self.words:
            return True
        known = (record.request_id, record.model, record.target_model, record.entity, record.pool, record.endpoint.key)
        all_of = (*known, record.endpoint.name, record.outcome.served, record.rule)
        text = "\n".join([each or "" for each in all_of]).lower()
        return all(word in text or word == str(record.outcome.status) for word in self.words)

    @property
    def wanted(self) -> Wanted:
        """The same of files, as far as these can be asked."""
        return Wanted(
            self.request_id,
            self.endpoint,
            self.entity,
            since_ms=self.since_ms,
            until_ms=self.until_ms,
            model=self.model,
            status=self.status,
        )


def outcome_of(status: int | None) -> str:
    """Of `OUTCOMES`."""
    return "open" if status is None else "good" if 200 <= status < 400 else "bad"


def asked_of(word: Callable[[str], str], now_s: float) -> Asked:
    """From the words of a query, '' where there is none. Raises ApiError and SettingsError with the word's name."""
    status, outcome = word("status"), word("outcome")
    if status and not (status.isascii() and status.isdigit() and len(status) <= 3):
        raise invalid(f"status: got {shown(status)}; expected a status such as 503, or 0 for no answer")
    if outcome not in OUTCOMES:
        raise invalid(f"outcome: got {shown(outcome)}; expected good, bad or open")
    zone = word("zone")
    ahead = int(zone) if zone.removeprefix("-").isdigit() and zone.isascii() and len(zone) <= 4 else 0
    endpoint, slash, entity = word("entity").rpartition("/")
    return Asked(
        word("request_id")[:256],
        word("model")[:256],
        word("endpoint")[:256] or (endpoint if slash else ""),
        entity[:256],
        int(status) if status else None,
        outcome,
        moment_ms("since", word("since"), now_s, ahead),
        moment_ms("until", word("until"), now_s, ahead),
        tuple(word("q")[:256].lower().split()),
    )


# -- looking ---------------------------------------------------------------------------------------------------------


async def recent(inside: Inside, caller: Caller, asked: Asked, limit: int) -> tuple[list[DecisionRecord], int]:
    """Those that the caller may see, newest first, and how many there are. Raises ApiError."""
    log = log_of(inside)
    seen = await visible(caller, log)
    rows: list[DecisionRecord] = []
    total = 0
    for batch in _batches(log, asked.request_id):
        async with inside.slices.turn():
            good = [each for each in batch if (seen is None or endpoint_of(each) in seen) and asked.has(each)]
            total += len(good)
            rows += good[: limit - len(rows)]
    return rows, total


async def older(inside: Inside, caller: Caller, asked: Asked, limit: int) -> Older:
    """Decisions out of the audit's files, that the caller may see. Raises ApiError, DeskError."""
    audited = inside.audited
    if audited is None or not audited.keeps_decisions:
        return Older((), ("no decisions are kept in files: --audit-dir is not given",))
    found = await audited.decisions(asked.wanted, limit)
    if await sees_all(caller):
        return found
    seen = set(await caller.sees(sorted({row["endpoint"] for row in found.rows if row.get("endpoint")})))
    return found._replace(rows=[row for row in found.rows if row.get("endpoint") in seen])


def log_of(inside: Inside) -> DecisionLog:
    """The last decisions. Raises ApiError where nobody keeps any."""
    if inside.decisions is None:
        raise missing("This gateway keeps no decisions")
    return inside.decisions


async def visible(caller: Caller, log: DecisionLog) -> set[str] | None:
    """Endpoints whose decisions the caller may see; None: all decisions, also those of no endpoint."""
    if await sees_all(caller):
        return None
    found = {endpoint_of(each) for each in log.latest(limit=_ALL)} - {""}
    return set(await caller.sees(sorted(found)))


def endpoint_of(record: DecisionRecord) -> str:
    """The serving endpoint, '' for none."""
    return record.entity.partition("/")[0]


def _batches(log: DecisionLog, request_id: str) -> Iterator[list[DecisionRecord]]:
    """As it is now: what comes meanwhile is not in it."""
    records = list(log.latest(request_id=request_id or None, limit=_ALL))
    for first in range(0, len(records), _AT_ONCE):
        yield records[first : first + _AT_ONCE]


async def search(ask: Ask) -> Answer:
    """The decisions that are asked for."""
    query = ask.request.query_params
    asked = asked_of(lambda key: query.get(key, "").strip(), time.time())
    limit = ask.number("limit")
    limit = _USUAL if limit is None else max(1, min(limit, MOST))
    rows, total = await recent(ask.inside, ask.caller, asked, limit)
    shown: list[dict[str, Any]] = []
    for each in rows:
        async with ask.inside.slices.turn():
            shown.append(_shape(each, whole=bool(asked.request_id) and len(shown) < _TOLD))
    told: dict[str, Any] = {"decisions": shown, "total": total}
    if ask.flag("older"):
        found = await older(ask.inside, ask.caller, asked, limit)
        told |= {"older": list(found.rows), "notes": list(found.notes)}
    return Json(told)


def _shape(record: DecisionRecord, *, whole: bool) -> dict[str, Any]:
    told = decision_shape(record)
    if whole:
        told["considered"] = None if record.considered is None else considered_shape(record.considered)
    return told


# -- trying ----------------------------------------------------------------------------------------------------------


async def tried(ask: Ask) -> Answer:
    """What a request would be told now, in the caller's name; nothing is sent."""
    data = await ask.data()
    if len(data) > MAX_TRIED_BYTES:
        raise ApiError(413, "INVALID_PARAMETER_VALUE", f"body: got {len(data)} bytes; expected at most {MAX_TRIED_BYTES}")
    try:
        question = load_json(data)
    except SettingsError as error:
        raise malformed(f"body: {'; '.join(error.problems)}") from None
    problem = problem_of(question)
    if problem:
        raise malformed(f"body: {problem}: {HELP}")
    head, body = request_of(question)
    bearer = ask.request.headers.get("authorization", "").encode("latin-1", "replace")
    return Json(await explained(ask.inside, ask.caller, head, body, bearer))


async def explained(
    inside: Inside, caller: Caller, head: RequestHead, body: bytes | None, authorization: bytes
) -> Mapping[str, Any]:
    """Of this request, which has the caller's own token where it has none. Raises ApiError for who may not ask it.

    It runs the stages of a decision without what accounts for it: no limit is used up, nobody waits in a queue, nothing is
    copied to a shadow or sent, and no metric and no record has it.
    """
    if inside.explain is None:
        raise missing("This gateway decides nothing that could be tried")
    if authorization and not {"authorization", "x-api-key"} & head.headers.keys():
        head = head._replace(headers={**head.headers, "authorization": authorization})
    async with inside.slices.turn():
        told = inside.explain(head, body, {WAITS_FOR: Bearer(caller.subject, (), True)})
    endpoint = told.get("FindEndpoint", {}).get("endpoint")
    below = _BELOW.match(head.text(":path"))
    if endpoint is None and below is not None:
        endpoint = below[1]  # it was refused before it was looked for
    if endpoint is not None:
        await require(caller, Role.QUERY, endpoint)
    elif not await caller.may(Role.QUERY, _ANY_NAME):
        # Also of names that nothing has: what there is, is not to be found out this way.
        raise denied(f"{caller.subject} has no right to query what is no serving endpoint of theirs")
    if told.get("error", {}).get("code") == UnknownEndpoint.code and not await sees_all(caller):
        raise missing("There is no such serving endpoint that you may query")  # not what there is, as the error says
    return told
