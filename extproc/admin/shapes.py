"""What the pages say, as JSON has it; and what /debug/explain is asked."""

from __future__ import annotations

from typing import Any

import orjson

from extproc.domain import SIGNALS, RequestHead, Source
from extproc.observability.decisions import DecisionRecord
from extproc.pool import MemberView
from extproc.traffic.regions import Placed


def problem_of(asked: Any) -> str | None:
    """What is wrong with a question to /debug/explain, None when nothing is."""
    if not isinstance(asked, dict):
        return "not an object"
    unknown = set(asked) - {"path", "method", "headers", "body", "subset"}
    if unknown:
        return f"unknown key {sorted(unknown)[0]!r}"
    headers = asked.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        return "headers: expected an object of strings"
    subset = asked.get("subset")
    if subset is not None and not (isinstance(subset, list) and all(isinstance(hint, str) for hint in subset)):
        return "subset: expected a list of ip:port"
    if not isinstance(asked.get("path", ""), str) or not isinstance(asked.get("method", ""), str):
        return "path and method: expected strings"
    return None


def request_of(asked: dict[str, Any]) -> tuple[RequestHead, bytes | None]:
    """The request in a question that has no problem."""
    body = asked.get("body")
    encoded = b"" if body is None else body.encode() if isinstance(body, str) else orjson.dumps(body)
    headers = {
        ":method": asked.get("method", "POST" if encoded else "GET"),
        ":path": asked.get("path", "/v1/chat/completions"),
        "content-type": "application/json",
        **{name.lower(): value for name, value in asked.get("headers", {}).items()},
    }
    subset = asked.get("subset")
    head = RequestHead(
        {name: value.encode("latin-1", "replace") for name, value in headers.items()},
        None if subset is None else tuple(subset),
        attempt=1,  # of a serving endpoint: who would be asked first, wherever that is decided
    )
    return head, encoded


def endpoint_shape(view: MemberView) -> dict[str, Any]:
    """An endpoint of /debug/endpoints."""
    age = None if view.age_s is None else round(view.age_s, 3)

    def signal(value: object) -> dict[str, Any]:
        return {
            "value": value,
            "age_s": age if value is not None else None,
            "usable": view.fresh and not view.down and value is not None,
        }

    return {
        "endpoint": view.endpoint.key,
        "name": view.endpoint.name,
        "namespace": view.endpoint.namespace,
        "labels": dict(view.endpoint.labels),
        "state": "down" if view.down else "fresh" if view.fresh else "unknown" if view.age_s is None else "stale",
        "failure": view.failure,
        "in_flight": view.in_flight,
        "picks": view.picks,
        "waiting_projected": view.waiting_projected,
        "unseen": view.unseen,
        "signals": {each.name: signal(getattr(view.load, each.name)) for each in SIGNALS if each.source is Source.PAGE},
    }


def _region(placed: Placed | None) -> dict[str, Any]:
    if placed is None:
        return dict.fromkeys(("region", "region_from", "region_reason", "region_cost"))
    return {
        "region": placed.region,
        "region_from": placed.origin,
        "region_reason": placed.reason,
        "region_cost": placed.cost,
    }


def decision_shape(record: DecisionRecord) -> dict[str, Any]:
    """A decision of /debug/decisions."""
    return {
        "at": record.at_s,
        "request_id": record.request_id,
        "model": record.model,
        "target_model": record.target_model or record.model,
        "served_entity": record.entity or None,
        "served_entity_reason": record.entity_reason or None,
        "rule": record.rule or None,
        "experiments": dict(record.experiments),
        "bucket": None if record.bucket < 0 else record.bucket,
        **_region(record.placed),
        "priority": record.priority,
        "pool": record.pool,
        "endpoint": record.endpoint.key,
        "name": record.endpoint.name,
        "fallbacks": list(record.fallbacks),
        "served": record.outcome.served or None,
        "status": record.outcome.status,
        "score": record.score,
        "candidates": record.candidates,
        "signals": record.signals(),
        "reason": record.reason(),
        "took_ms": round(record.took_s * 1e3, 4),
    }
