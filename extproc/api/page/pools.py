"""Pools: how each is, its endpoints with every signal and its age, what is not well and why, and heat over the last minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from extproc.api.answers import Answer
from extproc.api.errors import missing
from extproc.api.page.kept import Plot
from extproc.api.page.plots import answer
from extproc.api.page.pool_figures import ALL, COLUMNS, endpoint_cells
from extproc.api.page.visit import Visit
from extproc.api.pools import found_in, pools_of
from extproc.api.standing import NAME, SORTS, Pool, Standing
from extproc.domain import SIGNALS, Signal, Source
from extproc.pool.history import EVERY_S, MEASURES, NAMES, SAMPLES, Measure
from extproc.settings.base import shown as cut

PAGE: Final = 50
_LONGEST: Final = 256
"""Characters of an address that a page asks for."""
_TOLD: Final = 20
"""Endpoints that are not well, of which each is told why."""
TITLES: Final[Mapping[str, tuple[str, str]]] = {
    "waiting": ("Queue", "waiting"),
    "running": ("Running", "running"),
    "kv": ("KV used", "kv_usage"),
    "in_flight": ("In flight", "in_flight"),
    "picks": ("Picks/s", "picks"),
    "hits": ("Prefix hits", "hits"),
    "age": ("Age", "age"),
}
"""By column: its title, and by what it sorts."""
assert tuple(TITLES) == COLUMNS


async def listed(visit: Visit) -> Answer:
    """All pools."""
    pools = await pools_of(visit.inside.pools, visit.caller)
    names = [pool.name for pool in pools.all()]
    cells = visit.site.pools.of(ALL).cells()
    return visit.show("pools.html", names=names, cells=cells, live="/ui/pool/live")


async def _pool(visit: Visit) -> Pool:
    pools = await pools_of(visit.inside.pools, visit.caller)
    name = visit.request.query_params.get("name", "")
    found = pools.get(name)
    if found is None:
        raise missing(f"There is no pool {cut(name)}")
    return found


async def one(visit: Visit) -> Answer:
    """A pool: what was searched for of its endpoints, in the order that was asked for."""
    pool = await _pool(visit)
    asked, sort, measure = visit.query("q")[:256], visit.query("sort"), visit.query("measure")
    sort = sort if sort in SORTS else NAME
    measure = measure if measure in NAMES else NAMES[0]
    found = await found_in(pool, asked, sort, visit.inside.slices)
    pages = max(1, -(-len(found.ordered) // PAGE))
    number = min(max(1, visit.number("page", 1)), pages)
    rows = found.ordered[(number - 1) * PAGE : number * PAGE]
    keys = [each.view.endpoint.key for each in rows]
    chosen: dict[str, str] = {
        "q": asked,
        "sort": "" if sort == NAME else sort,
        "measure": "" if measure == NAMES[0] else measure,
    }
    return visit.show(
        "pool.html",
        pool=pool.name,
        rows=[each.view.endpoint for each in rows],
        cells=visit.site.pools.of(pool.name).cells() | _cells(rows),
        total=len(found.ordered),
        in_all=len(pool.store),
        asked=asked,
        sort=sort,
        columns=[(column, title, by, _address(pool.name, chosen | {"sort": by})) for column, (title, by) in TITLES.items()],
        by_name=_address(pool.name, chosen | {"sort": ""}),
        by_health=_address(pool.name, chosen | {"sort": "health"}),
        measures=[
            (each.title, each.name == measure, _address(pool.name, chosen | {"measure": each.name, "page": str(number)}))
            for each in MEASURES
        ],
        chosen=chosen,
        number=number,
        pages=pages,
        before=_address(pool.name, chosen | {"page": str(number - 1)}) if number > 1 else "",
        behind=_address(pool.name, chosen | {"page": str(number + 1)}) if number < pages else "",
        troubled=found.troubled[:_TOLD],
        troubles=len(found.troubled),
        untracked=pool.history.untracked(pool.name),
        tracked=pool.history.most,
        revision=pool.store.revision,
        live=_live(pool.name, keys),
        plots=_plots(pool.name, keys, measure),
        path="/ui/pools",
    )


def _cells(rows: Sequence[Standing]) -> dict[str, str]:
    """As they were when they were put in order."""
    cells: dict[str, str] = {}
    for each in rows:
        cells |= endpoint_cells(each.view.endpoint.key, each)
    return cells


def _address(pool: str, chosen: Mapping[str, str]) -> str:
    return "/ui/pool?" + urlencode({"name": pool} | {key: text for key, text in chosen.items() if text})


def _live(pool: str, keys: Sequence[str]) -> str:
    return "/ui/pool/live?" + urlencode({"keys": ",".join(keys), "name": pool})


def _plots(pool: str, keys: Sequence[str], measure: str = "") -> str:
    return "/ui/pool/plots?" + urlencode({"keys": ",".join(keys), "name": pool} | ({"measure": measure} if measure else {}))


def _keys(visit: Visit) -> list[str]:
    return [key[:_LONGEST] for key in visit.query("keys").split(",") if key][:PAGE]


async def live(visit: Visit) -> Answer:
    """What is new of the endpoints of a pool that a page shows; of all pools without one."""
    if "name" not in visit.request.query_params:
        await pools_of(visit.inside.pools, visit.caller)
        return visit.site.streams.of(visit.site.pools.of(ALL))
    pool = await _pool(visit)
    return visit.site.streams.of(visit.site.pools.of(pool.name, _keys(visit)))


async def endpoint(visit: Visit) -> Answer:
    """One endpoint."""
    pool, key = await _pool(visit), visit.query("key")
    standing = pool.standing(key)
    if standing is None:
        raise missing(f"There is no endpoint {cut(key)} in the pool {cut(pool.name)} (any more)")
    view = standing.view
    signals = [
        {"name": signal.name, "unit": signal.unit, "doc": signal.doc, "value": _value(signal, view.load, view)}
        for signal in SIGNALS
        if signal.source is Source.PAGE
    ]
    return visit.show(
        "pool_endpoint.html",
        pool=pool.name,
        key=key,
        endpoint=view.endpoint,
        eligible=standing.eligible,
        cells=visit.site.pools.of(pool.name, [key]).cells(),
        columns=[(column, title) for column, (title, _) in TITLES.items()],
        signals=signals,
        unseen=view.unseen,
        total=view.picks,
        live=_live(pool.name, [key]),
        plots=_plots(pool.name, [key]),
        back=_address(pool.name, {}),
        path="/ui/pools",
    )


def _value(signal: Signal, load: object, live: object) -> object:
    value = getattr(load, signal.name)
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value) or "none"
    if isinstance(value, float):
        return f"{value:,.6g}" if signal.unit != "s" else f"{value:.0f}"
    return dict(value) if isinstance(value, Mapping) else value


async def plots(visit: Visit) -> Answer:
    """A pool's heat and its spread over time; of one endpoint, without a measure, all of its measures."""
    pool, keys, wanted = await _pool(visit), _keys(visit), visit.query("measure")
    measure = next((each for each in MEASURES if each.name == wanted), None)

    def make() -> list[Plot]:
        if measure is not None:
            return [_spread(pool, measure), _heat(pool, keys, measure)]
        return [_line(pool, key, each) for key in keys[:1] for each in MEASURES]

    async with visit.inside.slices.turn():
        made = visit.site.plots.of(f"pool/{pool.name}/{wanted}/{','.join(keys)}", make)
    return answer(visit, made, _address(pool.name, {}))


def _around(pool: Pool) -> dict[str, Any]:
    """The last 15 minutes, however much of them is known."""
    at = pool.history.at()
    return {"at": at, "from": at[-1] - SAMPLES * EVERY_S, "to": at[-1]} if at else {"at": at}


def _spread(pool: Pool, measure: Measure) -> Plot:
    spreads = pool.history.spreads(pool.name, measure.name)
    lines = (("most", 1, [each.most for each in spreads]), ("p95", 3, [each.p95 for each in spreads]))
    return {
        "title": f"{measure.title}, over all endpoints of the pool",
        "unit": measure.unit,
        **_around(pool),
        "series": [
            *({"label": label, "place": place, "dashed": place == 1, "values": values} for label, place, values in lines),
            {"label": "middle", "place": 0, "values": [each.middle for each in spreads]},
        ],
    }


def _heat(pool: Pool, keys: Sequence[str], measure: Measure) -> Plot:
    rows = []
    for key in keys:
        view = pool.store.view(key)
        label = key if view is None else view.endpoint.name
        values = pool.history.values(pool.name, key, measure.name)
        rows.append({"label": label, "values": [None if value is None else round(value, 3) for value in values]})
    return {
        "kind": "heat",
        "title": f"{measure.title}, by endpoint",
        "unit": measure.unit,
        "at": pool.history.at(),
        "rows": rows,
        "columns": SAMPLES,
        "every": EVERY_S,
        **({"top": 1.0} if measure.unit == "share" else {}),
    }


def _line(pool: Pool, key: str, measure: Measure) -> Plot:
    values = pool.history.values(pool.name, key, measure.name)
    series = [{"label": measure.title, "place": 0, "values": values}]
    return {"title": measure.title, "unit": measure.unit, **_around(pool), "series": series}
