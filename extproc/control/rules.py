"""From what there is and what is asked for to what is to be: pure, a function for each kind of change.

All of them raise SettingsError with every rule that is broken. What a config must keep by itself is in `settings.serving`; here
is what needs to know the endpoint as it was, who asks, and what pools serve.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from extproc.control.deliveries import layouts_of, plan_problems
from extproc.control.following import (
    Around,
    NoVersions,
    Versions,
    followed,
    gone_back,
    open_question,
    served_of,
    with_blocks,
)
from extproc.control.records import API, EndpointRecord
from extproc.control.sealing import Seal, SealError
from extproc.control.specs import layout_of
from extproc.credentials import Secret
from extproc.registry.moves import BLOCK
from extproc.settings.base import SettingsError, few, shown
from extproc.settings.serving import Config, ConfigForm, EndpointForm, is_plaintext, lifted, plaintext_reference, settled
from extproc.settings.serving.delivery import changed, check, unknown_segments
from extproc.settings.serving.residency import regions_of_entities, unknown_regions
from extproc.traffic import Catalog, NamedLayout, UnknownEntity, laid_out


class Asked(NamedTuple):
    """Who asks for a change, when, and what it is measured by."""

    actor: str
    now_ms: int
    new_id: Callable[[], str]
    seal: Seal
    catalog: Catalog
    most_entities: int
    segments: Collection[str] = ()
    """What the gateway's segments are called."""
    versions: Versions = NoVersions()
    """Of the registry."""


def created(form: EndpointForm, owner: str, record_id: str, asked: Asked, prefix: str = "") -> EndpointRecord:
    """A new endpoint. `prefix` is where its document is written."""
    record = _outline(form, owner, record_id, asked)
    return _with_config(record, None, form.config, asked, prefix, "config.")


def redeclared(record: EndpointRecord, form: EndpointForm, asked: Asked, prefix: str) -> EndpointRecord:
    """What a feeder says of an endpoint that it has declared before; the very record when nothing is different."""
    fresh = dataclasses.replace(
        _outline(form, record.owner, record.id, asked),
        creator=record.creator,
        created_ms=record.created_ms,
        config_version=record.config_version,
    )
    fresh = _with_config(fresh, record, form.config, asked, prefix, "config.")
    if fresh == dataclasses.replace(record, updated_ms=fresh.updated_ms):
        return record
    same = all(getattr(fresh, name) == getattr(record, name) for name in _OF_THE_CONFIG)
    return fresh if same else dataclasses.replace(fresh, config_version=record.config_version + 1)


def reconfigured(record: EndpointRecord, form: ConfigForm, sticky: bool | None, asked: Asked) -> EndpointRecord:
    """Another config, made of what is given and what was."""
    fresh = dataclasses.replace(
        record,
        sticky=record.sticky if sticky is None else sticky,
        core={**record.core, **form.rest},
        delivery=changed(record.delivery, form.delivery),
        config_version=record.config_version + 1,
        updated_ms=asked.now_ms,
    )
    fresh = _with_config(fresh, record, form, asked, "", trusted=True)
    if fresh.external != record.external:
        was, is_now = ("external", "own") if record.external else ("own", "external")
        words = (
            f"got {is_now} models; expected {was} ones as before: to change the kind, delete the endpoint and create it anew"
        )
        raise SettingsError([f"{form.listed_as}: {words}"])
    return fresh


def reverted(record: EndpointRecord, old: EndpointRecord, asked: Asked) -> EndpointRecord:
    """The config of `old`, with its split bucket by bucket, as a new version."""
    entities = gone_back(old.entities, record.entities)
    _check_served(entities, old.percentages, record, asked.catalog, "served_entities")
    return dataclasses.replace(
        record,
        entities=entities,
        percentages=old.percentages,
        layout=old.layout,
        sticky=old.sticky,
        core=old.core,
        delivery=old.delivery,
        layouts=old.layouts,
        sealed=old.sealed,
        born=_born(entities, record, asked),
        config_version=record.config_version + 1,
        updated_ms=asked.now_ms,
    )


def moved_on(record: EndpointRecord, blocks: Mapping[str, Mapping[str, str]], asked: Asked) -> EndpointRecord:
    """The same config, of which some entities stand for other versions."""
    entities = followed(record.entities, blocks)
    _check_served(entities, record.percentages, record, asked.catalog, "served_entities")
    return dataclasses.replace(
        record,
        entities=entities,
        born=_born(entities, record, asked),
        config_version=record.config_version + 1,
        updated_ms=asked.now_ms,
    )


_OF_THE_CONFIG: Final = ("entities", "percentages", "sticky", "core", "delivery", "sealed")


def _outline(form: EndpointForm, owner: str, record_id: str, asked: Asked) -> EndpointRecord:
    """All of an endpoint but its config."""
    return EndpointRecord(
        id=record_id,
        name=form.name,
        owner=owner,
        creator=asked.actor,
        created_ms=asked.now_ms,
        updated_ms=asked.now_ms,
        config_version=1,
        entities=(),
        percentages={},
        sticky=form.sticky,
        core=form.config.rest,
        delivery=changed({}, form.config.delivery),
        tags=form.tags,
        ai_gateway=form.ai_gateway,
        rate_limits=tuple(form.rate_limits),
        notifications=form.notifications,
        telemetry=form.telemetry,
        description=form.description,
        rest=form.rest,
    )


def _with_config(
    record: EndpointRecord,
    before: EndpointRecord | None,
    form: ConfigForm,
    asked: Asked,
    outer: str,
    inner: str = "",
    *,
    trusted: bool = False,
) -> EndpointRecord:
    """The record with the config that follows from the form, and from what was before. `outer` is where the endpoint is
    written, and `inner` where its config is in that; `trusted`: what the form says of a registry's versions counts."""
    prefix = f"{outer}{inner}"
    config = settled(
        form.entities if form.entities is not None else [dict(each) for each in (before.entities if before else ())],
        form.shares,
        prefix=prefix,
        before=None if before is None else before.percentages,
        most=asked.most_entities,
        listed_as=form.listed_as,
    )
    path = f"{prefix}{form.listed_as}"
    there = () if before is None else before.entities
    around = Around(asked.versions, asked.catalog, there, trusted, patient=record.owner != API)
    resolved = with_blocks(config.entities, around, path)
    config = config._replace(entities=resolved.entities)
    problems = check(record.delivery, config.entities, outer)
    problems += plan_problems(record.delivery, config.percentages, f"{outer}rollout")
    was = {} if before is None else before.delivery
    problems += unknown_segments(record.delivery, asked.segments, outer, was)
    known = [] if before is None else [dict(each) for each in before.entities]
    problems += [
        *unknown_regions(record.delivery.get("residency", ()), asked.catalog.regions, outer, was.get("residency", ())),
        *regions_of_entities(config.entities, asked.catalog.regions, path, known),
    ]
    if problems:
        raise SettingsError(few(problems))
    sealed = _sealed(config, {} if before is None else before.sealed, asked, path)
    _check_served(config.entities, config.percentages, before, asked.catalog, path, resolved.open)
    return dataclasses.replace(
        record,
        entities=config.entities,
        percentages=config.percentages,
        layout=_layout(record.owner, config, before),
        layouts=layouts_of(record.delivery, {} if before is None else before.layouts) if record.owner == API else {},
        sealed=sealed,
        born=_born(config.entities, before, asked),
    )


def _layout(owner: str, config: Config, before: EndpointRecord | None) -> NamedLayout:
    """What is declared is laid out in the order of its list, by every replica alike."""
    if owner != API:
        return ()
    return laid_out(config.percentages, () if before is None else layout_of(before))


def _born(entities: Sequence[Mapping[str, Any]], before: EndpointRecord | None, asked: Asked) -> dict[str, tuple[str, int]]:
    """An entity keeps its stamps as long as it is the same."""
    same = {} if before is None else {each["name"]: each for each in before.entities}
    born: dict[str, tuple[str, int]] = {}
    for entity in entities:
        name = entity["name"]
        kept = before.born.get(name) if before is not None and same.get(name) == entity else None
        born[name] = kept or (asked.actor, asked.now_ms)
    return born


def _check_served(
    entities: Sequence[Mapping[str, Any]],
    percentages: Mapping[str, int],
    before: EndpointRecord | None,
    catalog: Catalog,
    path: str,
    left_open: Collection[str] = (),
) -> None:
    """Own models must be served by a pool when they come, change or get more traffic. What was there before stays as it is."""
    known = {} if before is None else {each["name"]: each for each in before.entities}
    shares = {} if before is None else before.percentages
    problems = []
    for index, entity in enumerate(entities):
        name = entity["name"]
        if "external_model" in entity:
            continue
        if _same_model(known.get(name), entity) and percentages[name] <= shares.get(name, 0):
            continue
        if name in left_open or open_question(entity):
            continue  # it is said, and served when it is answered
        version, served = served_of(entity)
        try:
            catalog.resolve(entity["entity_name"], version) if served is None else catalog.placed(served)
        except UnknownEntity as error:
            words = f"got {shown(entity['entity_name'])}; expected an entity that a pool serves: {error}"
            problems.append(f"{path}[{index}].entity_name: {words}")
    if problems:
        raise SettingsError(few(problems))


def _same_model(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    return one is not None and all(one.get(field) == other.get(field) for field in ("entity_name", "entity_version", BLOCK))


def _sealed(config: Config, before: Mapping[str, str], asked: Asked, path: str) -> dict[str, str]:
    """Take the secrets that are text out of the entities, put references in their place, and give what is to be kept sealed.

    A secret that was there before keeps its handle, so that saying the same again changes nothing.
    """
    entity_of = {entity["name"]: entity for entity in config.entities}
    kept = dict(before)
    for plaintext in lifted(config.entities):
        handle = _handle_of(plaintext.text, kept, asked.seal)
        if handle is None:
            handle = asked.new_id()
            kept[handle] = asked.seal.seal(plaintext.text)
        part = entity_of[plaintext.entity]["external_model"]
        for key in plaintext.field[:-1]:
            part = part[key]
        part[plaintext.field[-1]] = plaintext_reference(handle)
    used: dict[str, str] = {}
    problems = []
    for index, entity in enumerate(config.entities):
        for where, handle in _handles(entity.get("external_model", {}), f"{path}[{index}].external_model"):
            if handle in kept:
                used[handle] = kept[handle]
            else:
                problems.append(f"{where}: got a reference to a secret that this endpoint does not keep; expected another one")
    if problems:
        raise SettingsError(few(problems))
    return used


def _handle_of(secret: Secret, kept: Mapping[str, str], seal: Seal) -> str | None:
    for handle, sealed in kept.items():
        try:
            if seal.unseal(sealed) == secret:
                return handle
        except SealError:
            continue
    return None


def _handles(part: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for key, value in part.items():
        if isinstance(value, Mapping):
            yield from _handles(value, f"{path}.{key}")
        elif isinstance(value, str) and (handle := is_plaintext(value)) is not None:
            yield f"{path}.{key}", handle
