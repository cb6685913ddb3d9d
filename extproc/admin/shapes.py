"""What the pages say, as JSON has it."""

from __future__ import annotations

from typing import Any

from extproc.domain import SIGNALS, Source
from extproc.pool import MemberView


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
