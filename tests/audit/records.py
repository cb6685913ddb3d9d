"""Records of changes for tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from extproc.audit.changes import FIRST, ChangeRecord, Link, chained

AT_MS = 1_790_000_000_000


def change(number: int = 1, **fields: Any) -> ChangeRecord:
    usual: dict[str, Any] = {
        "at_ms": AT_MS + number,
        "actor": "ada",
        "origin": "10.0.0.7",
        "reason": "a larger share",
        "approved_by": "bob",
        "endpoint": "chat",
        "kind": "update",
        "config_version": number,
        "diff": (("config.traffic.b", 10, 20),),
        "moved": ((8000, 8999, "a", "b"),),
        "document": "00" * 32,
    }
    return ChangeRecord(number, **{**usual, **fields})


def links(records: Iterable[ChangeRecord]) -> list[Link]:
    found, previous = [], FIRST
    for record in records:
        body = record.to_bytes()
        previous = chained(previous, body)
        found.append(Link(record.number, body, previous))
    return found
