"""Pools and their endpoints over the API: for who may see any serving endpoint, as pools belong to none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from typing_extensions import TypedDict

from extproc.api.answers import Answer, Json
from extproc.api.ask import Ask
from extproc.api.auth import Caller
from extproc.api.errors import ApiError, denied, invalid, missing
from extproc.api.standing import NAME, OK, SORTS, EndpointShape, Pool, Pools, PoolShape, Standing, matches, ordered, shape
from extproc.pool.history import NAMES
from extproc.settings.base import shown
from extproc.settings.tokens import Role
from extproc.slices import Slices

MOST: Final = 1000
_USUAL: Final = 100
_AT_ONCE: Final = 200
"""Endpoints that are looked at without a pause."""
_ANY_NAME: Final = "a-name"
"""Of an endpoint that there need not be: who may see that one may see all."""
FILTER: Final = "Words that are in the name, address, labels (`key=value`) or health of what is shown"
SORT: Final = f"{NAME} (from A to Z, the default), or, the most first, one of {', '.join(SORTS)}"
MEASURE: Final = f"One of {', '.join(NAMES)}; kv_usage by default"


class PoolsAnswer(TypedDict):
    """All pools."""

    pools: list[PoolShape]


class EndpointsAnswer(TypedDict):
    """A part of a pool's endpoints; `total` is how many there are of those that were asked for."""

    pool: str
    total: int
    endpoints: list[EndpointShape]


class HistoryAnswer(TypedDict):
    """A measure over the last 15 minutes, since the process began at most: of one endpoint, or over all of a pool."""

    pool: str
    measure: str
    at: list[float]
    """Unix seconds."""
    endpoint: str | None
    values: list[float | None]
    """Of the endpoint; of a pool, the middle one."""
    p95: list[float | None]
    most: list[float | None]


async def listed(ask: Ask) -> Answer:
    """All pools as they are now."""
    pools = await pools_of(ask.inside.pools, ask.caller)
    return Json({"pools": [pool.shape() for pool in pools.all()]})


async def endpoints(ask: Ask) -> Answer:
    """Endpoints of one pool, found, sorted and cut here."""
    pool = _pool(await pools_of(ask.inside.pools, ask.caller), ask.word("pool"))
    query = ask.request.query_params
    sort = query.get("sort", NAME)
    if sort != NAME and sort not in SORTS:
        raise invalid(f"sort: got {shown(sort)}; expected {SORT}")
    limit, offset = ask.number("limit"), ask.number("offset")
    if limit is not None and limit > MOST:
        raise invalid(f"limit: got {limit}; expected at most {MOST}")
    found = await found_in(pool, query.get("filter", "")[:256], sort, ask.inside.slices)
    begin = offset or 0
    part = found.ordered[begin : begin + (_USUAL if limit is None else limit)]
    async with ask.inside.slices.turn():
        return Json({"pool": pool.name, "total": len(found.ordered), "endpoints": [shape(each) for each in part]})


async def history(ask: Ask) -> Answer:
    """A measure over time."""
    pool = _pool(await pools_of(ask.inside.pools, ask.caller), ask.word("pool"))
    query = ask.request.query_params
    measure, key = query.get("measure", NAMES[0]), query.get("endpoint")
    if measure not in NAMES:
        raise invalid(f"measure: got {shown(measure)}; expected one of {', '.join(NAMES)}")
    kept = pool.history
    if key is not None:
        if not pool.store.has(key):
            raise missing(f"endpoint: got {shown(key)}; expected the address of one of the pool {pool.name!r}")
        values = kept.values(pool.name, key, measure)
        nothing: list[float | None] = [None] * len(values)
        return Json(_history(pool.name, measure, kept.at(), key, values, nothing, nothing))
    spreads = kept.spreads(pool.name, measure)
    middle, p95, most = [each.middle for each in spreads], [each.p95 for each in spreads], [each.most for each in spreads]
    return Json(_history(pool.name, measure, kept.at(), None, middle, p95, most))


def _history(
    pool: str,
    measure: str,
    at: list[float],
    key: str | None,
    values: list[float | None],
    p95: list[float | None],
    most: list[float | None],
) -> HistoryAnswer:
    return {"pool": pool, "measure": measure, "at": at, "endpoint": key, "values": values, "p95": p95, "most": most}


async def pools_of(pools: Pools | None, caller: Caller) -> Pools:
    """Those that there are. Raises ApiError when the caller may not see them."""
    if not await caller.may(Role.VIEW, _ANY_NAME):
        raise denied(f"{caller.subject} may not see pools: that takes the right to view every serving endpoint")
    if pools is None:
        raise ApiError(501, "NOT_IMPLEMENTED", "There are no pools here")
    return pools


def _pool(pools: Pools, name: str) -> Pool:
    found = pools.get(name)
    if found is None:
        raise missing(f"There is no pool {shown(name)}")
    return found


class Found(NamedTuple):
    """Endpoints of a pool."""

    ordered: Sequence[Standing]
    """What was searched for."""
    troubled: Sequence[Standing]
    """All that are not well, searched for or not."""


async def found_in(pool: Pool, asked: str, sort: str, slices: Slices) -> Found:
    """The pool's endpoints that match these words, in order, looked at a slice of the event loop at a time."""
    words = asked.lower().split()
    found: list[Standing] = []
    troubled: list[Standing] = []
    standings = pool.standings()
    more = True
    while more:
        async with slices.turn():
            more = False
            for number, each in enumerate(standings, 1):
                if not words or matches(each, words):
                    found.append(each)
                if each.health != OK:
                    troubled.append(each)
                if number >= _AT_ONCE:
                    more = True
                    break
    async with slices.turn():
        return Found(ordered(found, sort), troubled)
