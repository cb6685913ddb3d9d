"""What a change comes to: which records are to be which. Pure; nothing is stored or swapped here."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Final, NamedTuple

from extproc.control import changes as asked_for
from extproc.control.errors import AlreadyExists, Conflict, DoesNotExist, InvalidParameter
from extproc.control.records import API, EndpointRecord
from extproc.control.rules import Asked, created, moved_on, reconfigured, redeclared, reverted
from extproc.settings.base import SettingsError, few, shown
from extproc.settings.serving import (
    read_all,
    read_config,
    read_create,
    read_gateway,
    read_notifications,
    read_rate_limits,
    read_tags,
    read_telemetry,
)

MOST_TAGS: Final = 100
_DECLARED: Final = uuid.UUID("6f1c1d8e-6e0b-4d0e-9a64-0d6a3f1d5c11")
"""Namespace of the ids of what is declared: the same on every replica."""


class Step(NamedTuple):
    """One endpoint from what it is to what it is to be."""

    name: str
    before: EndpointRecord | None
    after: EndpointRecord | None
    kind: str
    """For the history, in a word."""


def planned(
    change: asked_for.DeskChange,
    records: Mapping[str, EndpointRecord],
    asked: Asked,
    expected: int | None = None,
    old: EndpointRecord | None = None,
) -> tuple[Step, ...]:
    """The steps of a change, none when there is nothing to do. Raises DeskError.

    `expected` is the config version that who asks has seen, None for any; `old` is what a `Revert` goes back to.
    """
    try:
        if isinstance(change, asked_for.Declare):
            return _declared(change, records, asked)
        if isinstance(change, asked_for.Create):
            return (_created(change, records, asked),)
        record = existing(records, change.name)
        whoever = isinstance(change, asked_for.Follow) or (isinstance(change, asked_for.Delete) and change.whoever)
        _own(record, expected, whoever=whoever)
        after, kind = _changed(change, record, asked, old)
        return (Step(record.name, record, after, kind),)
    except SettingsError as error:
        raise InvalidParameter(error.problems) from None


def existing(records: Mapping[str, EndpointRecord], name: str) -> EndpointRecord:
    """The endpoint of that name. Raises DoesNotExist."""
    record = records.get(name)
    if record is None:
        raise DoesNotExist(f"The serving endpoint {shown(name)} does not exist")
    return record


def _own(record: EndpointRecord, expected: int | None, *, whoever: bool) -> None:
    if record.owner != API and not whoever:
        raise Conflict(f"The endpoint {record.name!r} belongs to {record.owner}, and {API} can't change it: change it there")
    if expected is not None and expected != record.config_version:
        meanwhile = f"the endpoint {record.name!r} was changed meanwhile"
        raise Conflict(f"config_version: got {expected}; expected {record.config_version}: {meanwhile}")


def _created(change: asked_for.Create, records: Mapping[str, EndpointRecord], asked: Asked) -> Step:
    form = read_create(change.document)
    there = records.get(form.name)
    if there is not None:
        whose = "" if there.owner == change.owner else f" and belongs to {there.owner}, not to {change.owner}"
        raise AlreadyExists(f"The serving endpoint {form.name!r} exists already{whose}")
    return Step(form.name, None, created(form, change.owner, asked.new_id(), asked), "create")


def _changed(
    change: asked_for.DeskChange, record: EndpointRecord, asked: Asked, old: EndpointRecord | None
) -> tuple[EndpointRecord | None, str]:
    now_ms = asked.now_ms
    match change:
        case asked_for.UpdateConfig(name, document):
            form, sticky = read_config(document, name)
            return reconfigured(record, form, sticky, asked), "update"
        case asked_for.Delete():
            return None, "delete"
        case asked_for.PatchTags(_, document):
            return dataclasses.replace(record, tags=_tags(record, document), updated_ms=now_ms), "tags"
        case asked_for.PutRateLimits(_, document):
            limits = tuple(read_rate_limits(document))
            return dataclasses.replace(record, rate_limits=limits, updated_ms=now_ms), "rate-limits"
        case asked_for.PutGateway(_, document):
            return dataclasses.replace(record, ai_gateway=read_gateway(document), updated_ms=now_ms), "ai-gateway"
        case asked_for.PatchNotifications(_, document):
            return dataclasses.replace(record, notifications=read_notifications(document), updated_ms=now_ms), "notifications"
        case asked_for.PatchTelemetry(_, document):
            return dataclasses.replace(record, telemetry=read_telemetry(document), updated_ms=now_ms), "telemetry"
        case asked_for.Follow(_, blocks):
            return moved_on(record, blocks, asked), "registry"
        case asked_for.Revert(name, version):
            if old is None:
                raise DoesNotExist(f"The endpoint {name!r} has no version {version} in its history")
            return reverted(record, old, asked), "revert"
    raise TypeError(f"not a change of one endpoint: {change!r}")


def _tags(record: EndpointRecord, document: object) -> dict[str, str | None]:
    form = read_tags(document)
    tags = {key: value for key, value in record.tags.items() if key not in form.deleted} | form.added
    if len(tags) > MOST_TAGS:
        raise SettingsError([f"add_tags: got {len(tags)} tags with those of before; expected at most {MOST_TAGS}"])
    return tags


def _declared(change: asked_for.Declare, records: Mapping[str, EndpointRecord], asked: Asked) -> tuple[Step, ...]:
    """Creates, updates and deletes, so that the owner's endpoints are those of the documents. All of it or nothing."""
    forms, problems = read_all(change.documents, change.prefix)
    others = []
    steps: list[Step] = []
    for prefix, form in forms:
        before = records.get(form.name)
        try:
            if before is None:
                record_id = str(uuid.uuid5(_DECLARED, f"{change.owner}\n{form.name}"))
                steps.append(Step(form.name, None, created(form, change.owner, record_id, asked, prefix), "create"))
            elif before.owner != change.owner:
                others.append(
                    f"{prefix}name: the endpoint {form.name!r} is declared by {change.owner} and belongs to {before.owner}"
                )
            elif (after := redeclared(before, form, asked, prefix)) is not before:
                steps.append(Step(form.name, before, after, "update"))
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise InvalidParameter(few(problems))
    if others:
        raise Conflict("; ".join(few(others)), few(others))
    names = {form.name for _, form in forms}
    gone = [record for record in records.values() if record.owner == change.owner and record.name not in names]
    if not change.whole:
        gone = []
    return (*(Step(record.name, record, None, "delete") for record in gone), *steps)
