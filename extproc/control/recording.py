"""What is written down of a change, for those who ask later; a part of the commit, so there is no change without it."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from extproc.audit.changes import ChangeRecord
from extproc.control.changes import Origin
from extproc.control.differences import differences
from extproc.control.records import EndpointRecord
from extproc.control.specs import layout_of
from extproc.control.store import Change
from extproc.traffic import moves


class Said(NamedTuple):
    """Who changes, why and when."""

    actor: str
    reason: str
    at_ms: int
    origin: Origin = Origin()


def recorded(
    number: int, name: str, before: EndpointRecord | None, after: EndpointRecord | None, kind: str, said: Said
) -> Change:
    """The endpoint's change from one record to the other, as it is stored as this number."""
    document = None if after is None else after.to_document()
    record = ChangeRecord(
        number=number,
        at_ms=said.at_ms,
        actor=said.actor,
        origin=said.origin.address,
        reason=said.reason,
        approved_by=said.origin.approved_by,
        endpoint=name,
        kind=kind,
        config_version=None if after is None else after.config_version,
        diff=tuple([(each.path, each.before, each.after) for each in differences(before, after)]),
        moved=() if before is None or after is None else moves(layout_of(before), layout_of(after)),
        document="" if document is None else sha256(document).hexdigest(),
    )
    return Change(name, document, kind, record.to_bytes())
