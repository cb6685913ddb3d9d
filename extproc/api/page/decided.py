"""One decision as pages show it: of the last ones, of the audit's files, or of a request that was only tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from extproc.api.page import words
from extproc.domain import SIGNALS
from extproc.observability.decisions import Answered, DecisionRecord, Outcome
from extproc.stages.explained import considered_shape

_SHOWN: Final = 20
_FEW: Final = 5
"""Candidates of a table."""
_COLORS: Final = 8
_NAMES: Final = tuple(
    [each.name for each in SIGNALS if each.name not in ("started_s", "attributes", "kv_blocks", "kv_block_size")]
)
"""Of signals that say how busy it is."""
_SHORT: Final = {"kv_usage": "KV cache", "in_flight": "in flight", "kv_usage_mean": "KV cache, mean"}

Shown = dict[str, Any]
_NOTHING: Final[Mapping[str, Any]] = {
    "title": "The decision",
    "at_ms": None,
    "endpoint": "",
    "entity": "",
    "why": "",
    "bucket": -1,
    "rule": "",
    "experiments": (),
    "model": "",
    "target": "",
    "version": 0,
    "version_at": "",
    "region": "",
    "pool": "",
    "server": "",
    "server_name": "",
    "reason": "",
    "fallbacks": (),
    "signals": (),
    "table": None,
    "others": (),
    "status": "",
    "served": "",
    "answer": (),
    "took": "",
    "priority": 0,
    "notes": (),
    "refused": "",
}
"""Templates get each of them."""


def of_record(record: DecisionRecord, *, few: bool = False) -> Shown:
    """One of the last decisions; `few`: of its candidates, as there are others."""
    endpoint, _, entity = record.entity.partition("/")
    placed = record.placed
    seen = record.considered
    known = record.signals()
    return {
        **_NOTHING,
        "at_ms": int(record.at_s * 1000),
        "endpoint": endpoint,
        "entity": entity,
        "why": record.entity_reason,
        "bucket": record.bucket,
        "rule": record.rule,
        "experiments": record.experiments,
        "model": record.model or "",
        "target": record.target_model if record.target_model != record.model else "",
        **_version(endpoint, record.version),
        "region": "" if placed is None else _region(placed.region, placed.origin, placed.spilled, placed.cost),
        "pool": record.pool,
        "server": record.endpoint.key,
        "server_name": record.endpoint.name if record.endpoint.name != record.endpoint.key else "",
        "reason": record.reason(),
        "fallbacks": record.fallbacks,
        "signals": () if seen is not None else _signals(known),
        "table": None if seen is None or not seen.positions else table(considered_shape(seen), _FEW if few else _SHOWN),
        "notes": ("What the candidates were is not kept any more.",) if seen is not None and not seen.positions else (),
        "status": status(record.outcome.status),
        "served": record.outcome.served if record.outcome.served != record.endpoint.key else "",
        "answer": _answer(record.outcome),
        "took": took(record.took_s),
        "priority": record.priority,
    }


def of_row(row: Mapping[str, Any]) -> Shown:
    """One out of the audit's files, which have the two best totals and no candidates."""
    second, score = row.get("second"), row.get("score")
    best = (
        ""
        if score is None
        else f"{score:.2f} points, " + ("the only candidate" if second is None else f"the best other had {second:.2f}")
    )
    endpoint = row.get("endpoint", "")
    measured = [
        ("first token after", _ms(row.get("ttft_ms"))),
        ("each token", _ms(row.get("tpot_ms"))),
        ("tokens in", row.get("in_tokens")),
        ("tokens out", row.get("out_tokens")),
        ("whole after", _ms(row.get("ms"))),
        ("refused with", row.get("error")),
        ("cut", "yes" if row.get("cut") else None),
    ]
    region = _region(row["region"], "", row.get("spill", ""), row.get("spill_cost", 0.0)) if row.get("region") else ""
    return {
        **_NOTHING,
        "at_ms": row["at_ms"],
        "endpoint": endpoint,
        "entity": row.get("entity", ""),
        "why": row.get("why", ""),
        "bucket": row.get("bucket", -1),
        "rule": row.get("rule", ""),
        "experiments": [tuple(str(arm).partition("/")[::2]) for arm in row.get("arms", ())],
        "model": row.get("model", endpoint),
        "target": row.get("target", ""),
        **_version(endpoint, row.get("version", 0)),
        "region": region,
        "pool": row.get("pool", ""),
        "server": row.get("server", ""),
        "reason": best,
        "status": status(row.get("status", 0)),
        "answer": [(name, str(value)) for name, value in measured if value is not None],
        "notes": ("This is from the audit's files, which keep no candidates.",),
    }


def of_told(told: Mapping[str, Any], version: int) -> Shown:
    """What a request would be told now, as Director.explain says; `version`: of the endpoint that it names."""
    serve, pick, place = told.get("ServeEndpoint", {}), told.get("PickEndpoint", {}), told.get("ChooseRegion", {})
    endpoint = told.get("FindEndpoint", {}).get("endpoint") or ""
    provider = told.get("AskProvider", {})
    error = told.get("error")
    picked = pick.get("picked") or [""]
    rows = {row["endpoint"]: row for row in pick.get("candidates", ())}
    name = rows.get(picked[0], {}).get("name", "")
    region = (
        _region(place["region"], place.get("origin", ""), place.get("reason", ""), place.get("cost", 0.0))
        if place.get("region")
        else ""
    )
    return {
        **_NOTHING,
        "title": _title(told),
        "endpoint": endpoint,
        "entity": serve.get("entity", ""),
        "why": serve.get("reason", ""),
        "bucket": serve.get("bucket", -1),
        "rule": serve.get("rule", ""),
        "experiments": list(serve.get("experiments", {}).items()),
        "model": told.get("model") or "",
        "target": provider.get("model") or serve.get("model") or told.get("RewriteModel", {}).get("target") or "",
        **_version(endpoint, version),
        "region": region,
        "pool": pick.get("pool", ""),
        "server": picked[0] or provider.get("address", ""),
        "server_name": provider.get("authority", "") or (name if name != picked[0] else ""),
        "fallbacks": picked[1:],
        "table": table(pick) if pick.get("candidates") else None,
        "others": [table(each) for each in pick.get("profiles", ()) if each.get("candidates")],
        "priority": told.get("AdmitByPriority", {}).get("priority", 0) or 0,
        "notes": list(_notes(told)),
        "refused": f"{error['status']} {error['code']}: {error['message']}" if error else "",
    }


def _title(told: Mapping[str, Any]) -> str:
    if "error" in told:
        return "It would not be served"
    if any(isinstance(each, Mapping) and "waits_for" in each for each in told.values()):
        return "It would have to wait"
    return "It would be served so"


def _of_queue(held: Mapping[str, Any]) -> Any:
    """What flow control would do, as far as that can be told before: who leaves the queue first is seen only then."""
    full = f"saturation {words.percent(held['saturation'])}"
    if not held["held"]:
        yield f"Its pool has room ({full}), so it would not wait."
        return
    flow = f" of the flow {held['flow']}" if held["flow"] else ""
    yield (
        f"Its pool is full ({full}): it would wait in the queue{flow} with priority {held['priority']}, where "
        f"{held['waiting']:,} requests wait already, or be refused (429) where that is full, too."
    )
    if held.get("would_evict"):
        yield "A request of a lower priority that is under way would be taken back for it."


def _of_region(place: Mapping[str, Any]) -> Any:
    pools = place.get("pools", ())
    if len(pools) > 1:
        told = ", ".join(f"{each['pool']} in {each['region'] or 'no region'} ({each['state']})" for each in pools)
        yield f"Pools that may serve it, the best one first: {told}."
    if place.get("stay_in"):
        yield f"It has to stay in {', '.join(place['stay_in'])}, by {', '.join(place['residency'])}."


def _notes(told: Mapping[str, Any]) -> Any:
    if told.get("unread"):
        yield f"The body could not be read: {told['unread']}."
    subject = told.get("CheckAccess", {}).get("subject")
    if subject:
        yield f"Asked by {subject}."
    limit = told.get("LimitRate")
    if limit is not None:
        yield "No limit is used up." if limit.get("exceeded") is None else f"A limit is used up: {limit['exceeded']}."
    yield from _of_region(told.get("ChooseRegion", {}))
    if "held" in told.get("WaitForRoom", {}):
        yield from _of_queue(told["WaitForRoom"])
    shadows = told.get("CopyToShadows", {}).get("shadows")
    if shadows:
        yield f"A copy would go to {', '.join(shadows)}."
    for each in told.values():
        if isinstance(each, Mapping) and "waits_for" in each:
            most = f"{each['timeout_s']:g} s at most"
            yield f"It would wait for {each['waits_for']}, {most}; what comes behind that can't be told."
        if isinstance(each, Mapping) and "answered" in each:
            yield f"It would be answered here, with {each['answered']}."
    if told.get("PickEndpoint", {}).get("fail_open"):
        yield "No model server's page is fresh: the choice is blind."


def table(shape: Mapping[str, Any], shown: int = _SHOWN) -> Shown:
    """Candidates with their signals, and points as bars."""
    weights: Mapping[str, float] = shape["weights"]
    rows = shape["candidates"]
    picked = list(shape.get("picked", ()))
    runner_up = shape.get("runner_up")
    most = max([sum(max(0.0, row["points"][name] * weight) for name, weight in weights.items()) for row in rows] + [1e-9])
    near = [row for at, row in enumerate(rows) if at < shown or row["endpoint"] in picked or row["endpoint"] == runner_up]
    colors = {name: at % _COLORS for at, name in enumerate(weights)}
    return {
        "profile": shape["profile"],
        "scorers": [{"name": name, "weight": f"{weight:g}", "place": colors[name]} for name, weight in weights.items()],
        "rows": [_candidate(row, weights, colors, most, picked, runner_up) for row in near],
        "more": shape["candidates_in_all"] - len(near),
        "flip": shape.get("flip", ""),
        "runner_up": runner_up or "",
        "filters": list(shape.get("filters", {}).items()),
        "left_out": shape.get("left_out", ())[:_SHOWN],
        "left_out_in_all": shape.get("left_out_in_all", 0),
    }


def _candidate(
    row: Mapping[str, Any],
    weights: Mapping[str, float],
    colors: Mapping[str, int],
    most: float,
    picked: Sequence[str],
    runner_up: str | None,
) -> Shown:
    parts = []
    begins = 0.0
    for name, weight in weights.items():
        share = max(0.0, 100 * row["points"][name] * weight / most)
        parts.append(
            {
                "name": name,
                "points": f"{row['points'][name]:.2f}",
                "weight": f"{weight:g}",
                "place": colors[name],
                "begins": round(begins, 2),
                "share": round(share, 2),
            }
        )
        begins += share
    key, age_s = row["endpoint"], row.get("age_s")
    return {
        "server": key,
        "name": row["name"] if row["name"] != key else "",
        "tag": _tag(key, picked, runner_up),
        "tried": row["trial"],
        "signals": _signals(row["signals"]),
        "age": words.NOTHING if age_s is None else words.seconds(age_s),
        "parts": parts,
        "total": f"{row['total']:.2f}",
    }


def _tag(key: str, picked: Sequence[str], runner_up: str | None) -> str:
    if key in picked[:1]:
        return "picked"
    return "runner-up" if key == runner_up else "if that failed" if key in picked else ""


def _signals(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    there = [name for name in _NAMES if known.get(name) is not None]
    if known.get("kv_usage_mean") == known.get("kv_usage"):
        there = [name for name in there if name != "kv_usage_mean"]  # of one engine there is one
    return [(_SHORT.get(name, name.replace("_", " ")), _number(name, known[name])) for name in there]


def _number(name: str, value: object) -> str:
    if name.startswith("kv_usage") and isinstance(value, float):
        return words.percent(value)
    if isinstance(value, tuple | list):
        return ", ".join([str(each) for each in value]) or "none"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _version(endpoint: str, version: int) -> Shown:
    at = f"/ui/endpoints/{quote(endpoint, safe='')}/history?version={version}" if endpoint and version else ""
    return {"version": version, "version_at": at}


def _region(region: str, origin: str, spilled: str, cost: float) -> str:
    where = region or "none"
    if not spilled or spilled == "local":
        return where
    price = f", at a cost of {cost:g}" if cost else ""
    return f"{where}, not {origin}: {spilled}{price}" if origin and origin != region else f"{where}: {spilled}{price}"


def _answer(outcome: Outcome) -> Sequence[tuple[str, str]]:
    answer = outcome.answer or Answered()
    known = (
        ("first token after", None if answer.ttft_s is None else words.seconds(answer.ttft_s)),
        ("each token", None if answer.tpot_s is None else words.seconds(answer.tpot_s)),
        ("tokens in", answer.prompt_tokens),
        ("tokens out", answer.completion_tokens),
        ("whole after", words.seconds(outcome.took_s) if outcome.took_s else None),
    )
    return [(name, str(value)) for name, value in known if value is not None]


def _ms(value: float | None) -> str | None:
    return None if value is None else words.seconds(value / 1000)


def status(of: int | None) -> str:
    """Of an answer."""
    return "running" if of is None else "no answer" if of == 0 else str(of)


def took(time_s: float) -> str:
    """How long the choice took."""
    return words.seconds(time_s) if time_s >= 0.001 else f"{time_s * 1e6:.0f} µs"
