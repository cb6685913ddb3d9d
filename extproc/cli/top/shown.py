"""`extproc top` as tables: which rows, in which order, in which words."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from extproc.cli.top.readings import Endpoint, Entity, Now, Pool, Process, Rollout

POOLS, ENTITIES, ROLLOUTS, ENDPOINTS = "Pools", "Serving endpoints", "Rollouts", "Endpoints"
_STATES: Final = {"down": 0, "stale": 1, "up": 2}
_NOTHING: Final = "–"


class Table(NamedTuple):
    """Text for a terminal."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    bad: list[bool]
    """Of each row, whether something is wrong."""
    more: int = 0
    """Rows that are left out."""


def _worst(endpoint: Endpoint) -> tuple[Any, ...]:
    return (_STATES[endpoint.state], -(endpoint.waiting or 0), -(endpoint.kv_usage or 0), -endpoint.in_flight, endpoint.name)


def _most(field: Callable[[Endpoint], float | None]) -> Callable[[Endpoint], tuple[Any, ...]]:
    """Those of which nothing is known come last."""
    return lambda endpoint: (-value if (value := field(endpoint)) is not None else 1, endpoint.name)


ORDERS: Final[Mapping[str, Callable[[Endpoint], tuple[Any, ...]]]] = {
    "worst": _worst,
    "waiting": _most(lambda each: each.waiting),
    "running": _most(lambda each: each.running),
    "kv": _most(lambda each: each.kv_usage),
    "in-flight": _most(lambda each: each.in_flight),
    "picks": _most(lambda each: each.picks_per_s),
    "age": _most(lambda each: each.age_s),
    "name": lambda each: (each.pool, each.name),
}
"""How endpoints are sorted. worst: down, without fresh metrics, then who has most waiting."""


class Choice(NamedTuple):
    """What is shown."""

    order: str = "worst"
    text: str = ""
    """That a name must contain: of a pool, an endpoint, a serving endpoint or an entity."""
    rows: int = 0
    """Endpoints at most; 0: all."""

    def has(self, *names: str) -> bool:
        """Whether one of the names contains the text."""
        return not self.text or any(self.text.lower() in name.lower() for name in names)


def chosen(now: Now, choice: Choice) -> tuple[Now, int]:
    """What is left of it, endpoints in order; and how many endpoints are left out."""
    matching = [each for each in now.endpoints if choice.has(each.pool, each.name)]
    key = ORDERS[choice.order]
    shown = sorted(matching, key=key) if not choice.rows else heapq.nsmallest(choice.rows, matching, key=key)
    left = now._replace(
        pools=tuple([each for each in now.pools if choice.has(each.name)]) or now.pools,
        endpoints=tuple(shown),
        entities=tuple([each for each in now.entities if choice.has(each.endpoint, each.name)]),
        rollouts=tuple([each for each in now.rollouts if choice.has(each.endpoint, each.canary)]),
    )
    return left, len(matching) - len(shown)


def document(now: Now, more: int, source: str) -> dict[str, Any]:
    """For JSON."""
    return {
        "source": source,
        "process": now.process._asdict(),
        "pools": [each._asdict() for each in now.pools],
        "serving_endpoints": [each._asdict() for each in now.entities],
        "rollouts": [each._asdict() for each in now.rollouts],
        "endpoints": [each._asdict() for each in now.endpoints],
        "endpoints_left_out": more,
    }


def head(process: Process) -> str:
    """The process in a line."""
    memory = _NOTHING if process.memory_bytes is None else f"{process.memory_bytes / 2**20:,.0f} MiB"
    return (
        f"streams {_count(process.streams)} open, {_number(process.streams_per_s)}/s   "
        f"cpu {_percent(process.cpu)}   memory {memory}"
    )


def tables(now: Now, more: int) -> list[Table]:
    """Those that have rows."""
    made = [_pools(now.pools), _entities(now.entities), _rollouts(now.rollouts), _endpoints(now.endpoints, more)]
    return [table for table in made if table.rows]


def _table(title: str, headings: tuple[str, ...], rows: Iterable[tuple[str, ...]], bad: Iterable[bool], more: int = 0) -> Table:
    """Names may be anything: nothing of them speaks to the terminal."""
    return Table(title, headings, [tuple([_printable(cell) for cell in row]) for row in rows], list(bad), more)


def _printable(cell: str) -> str:
    return (
        cell if cell.isprintable() else "".join([each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in cell])
    )


def _pools(pools: Sequence[Pool]) -> Table:
    rows = [
        (
            *(each.name, f"{each.endpoints}", f"{each.stale}", f"{each.down}", _number(each.waiting), _number(each.running)),
            *(_percent(each.kv_usage), f"{each.in_flight}", _percent(each.saturation), f"{each.queued}"),
            _number(each.picks_per_s),
        )
        for each in pools
    ]
    headings = (
        "pool",
        "endpoints",
        "stale",
        "down",
        "waiting",
        "running",
        "kv cache",
        "in flight",
        "full",
        "queued",
        "picks/s",
    )
    return _table(POOLS, headings, rows, [each.down > 0 or each.stale > 0 or (each.saturation or 0) >= 1 for each in pools])


def _entities(entities: Sequence[Entity]) -> Table:
    rows = [
        (
            *(each.endpoint, each.name, f"{each.percentage} %", _number(each.requests_per_s), _percent(each.error_rate)),
            *(_time(each.ttft_p50_s), _time(each.ttft_p95_s), _time(each.e2e_p50_s)),
        )
        for each in entities
    ]
    headings = ("serving endpoint", "entity", "split", "requests/s", "errors", "ttft p50", "ttft p95", "e2e p50")
    return _table(ENTITIES, headings, rows, [(each.error_rate or 0) > 0 for each in entities])


def _rollouts(rollouts: Sequence[Rollout]) -> Table:
    rows = [
        (
            *(each.endpoint, each.canary, each.phase, f"{each.weight} %", f"{each.step} of {each.steps}"),
            _NOTHING if each.evidence is None else f"{each.evidence:.2f}",
        )
        for each in rollouts
    ]
    headings = ("serving endpoint", "canary", "phase", "weight", "steps", "evidence against it")
    return _table(ROLLOUTS, headings, rows, [each.phase == "Degraded" for each in rollouts])


def _endpoints(endpoints: Sequence[Endpoint], more: int) -> Table:
    rows = [
        (
            *(each.pool, each.name, each.state, _number(each.waiting), _number(each.running), _percent(each.kv_usage)),
            *(f"{each.in_flight}", _time(each.age_s), _number(each.picks_per_s)),
        )
        for each in endpoints
    ]
    headings = ("pool", "endpoint", "state", "waiting", "running", "kv cache", "in flight", "age", "picks/s")
    return _table(ENDPOINTS, headings, rows, [each.state != "up" for each in endpoints], more)


def plain(found: Sequence[Table]) -> list[str]:
    """Lines in columns, for where there is no terminal."""
    lines: list[str] = []
    for table in found:
        cells = [table.headings, *table.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(table.headings))]
        lines += [
            "",
            *["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells],
        ]
        if table.more:
            lines.append(left_out(table.more))
    return lines


def left_out(more: int) -> str:
    """What stands below endpoints that are not all."""
    return f"... and {more:,} more"


def _count(value: int | None) -> str:
    return _NOTHING if value is None else f"{value:,}"


def _number(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return _NOTHING if value is None else f"{100 * value:.1f} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"


def _time(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{1e3 * value:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 100 else f"{value:,.0f} s"
