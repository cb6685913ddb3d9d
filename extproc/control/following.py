"""Entities that name a version of a registry: what they stand for is kept with them, so no registry is needed to serve them.

An entity's block (`registry`) is made when the entity comes, and from then on changed by `changes.Follow`, by a rollout that
swaps entities, and by a revert: never by what people write, who get it back with everything else that they read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from extproc.control.errors import Unavailable
from extproc.registry.known import Unresolved
from extproc.registry.moves import BLOCK, Block, decided
from extproc.registry.placing import Unplaced
from extproc.registry.references import BadReference, Reference, of_entity, of_plain
from extproc.settings.base import SettingsError, few, shown
from extproc.traffic import Catalog, Served, UnknownEntity


class Versions(Protocol):
    """What is known of a registry's versions here, and where they are served."""

    async def learn(self, references: Collection[Reference]) -> None:
        """Ask about those of which nothing is known. Ends within seconds, and raises nothing."""

    def block(self, reference: Reference) -> Block:
        """What an entity with this reference stands for now. Raises Unresolved, Unplaced."""


class NoVersions:
    """There is no registry."""

    async def learn(self, references: Collection[Reference]) -> None:
        """There is nobody to ask."""

    def block(self, reference: Reference) -> Block:
        """Raises Unresolved."""
        raise Unresolved(
            "expected a plain version, as no registry is set: registry.uri of the gateway's file, or --registry-uri"
        )


class Around(NamedTuple):
    """What entities are seen with."""

    versions: Versions
    catalog: Catalog
    before: Sequence[Mapping[str, Any]]
    """The endpoint's entities until now."""
    trusted: bool = False
    """Blocks that come along count: who changes the config knows them."""
    patient: bool = False
    """What the registry can't say now is left open, and said; else it is refused."""


def reference_of(entity: Mapping[str, Any]) -> Reference | None:
    """The alias that an entity follows, or the version that it has by a tag in the registry; None: it needs no registry."""
    if "entity_name" not in entity:
        return None
    name, version = entity["entity_name"], entity.get("entity_version") or ""
    try:
        return of_entity(name, version) or (of_plain(name, version) if entity.get(BLOCK) else None)
    except BadReference:
        return None  # of an older release, which knew no references


def wanted_reference(entity: Mapping[str, Any], catalog: Catalog) -> Reference | None:
    """What the registry is to be asked about the entity, also when nothing but the registry can say who serves it."""
    reference = reference_of(entity)
    if reference is not None or "entity_name" not in entity:
        return reference
    name, version = entity["entity_name"], entity.get("entity_version") or ""
    try:
        catalog.resolve(name, version)
    except UnknownEntity:
        return of_plain(name, version)
    return None


class Resolved(NamedTuple):
    """Entities with their blocks."""

    entities: tuple[dict[str, Any], ...]
    open: frozenset[str]
    """Names of those of which the registry has not said what they stand for."""


def with_blocks(entities: Sequence[Mapping[str, Any]], around: Around, path: str) -> Resolved:
    """Raises SettingsError, and Unavailable when only a registry knows that is away."""
    known = {each["name"]: each for each in around.before}
    whole: list[dict[str, Any]] = []
    problems: list[str] = []
    away: list[str] = []
    left_open: set[str] = set()
    for index, entity in enumerate(entities):
        bare = {key: value for key, value in entity.items() if key != BLOCK}
        try:
            block = _block(entity, bare, known.get(entity["name"], {}), around)
        except (Unresolved, Unplaced) as error:
            block = None
            if around.patient and not isinstance(around.versions, NoVersions):
                left_open.add(entity["name"])
            else:
                version = entity.get("entity_version") or ""
                lines = away if isinstance(error, Unresolved) and error.away else problems
                lines.append(f"{path}[{index}].entity_version: got {shown(version)} of {shown(entity['entity_name'])}; {error}")
        whole.append(bare if block is None else {**bare, BLOCK: dict(block)})
    if problems:
        raise SettingsError(few(problems))
    if away:
        raise Unavailable("; ".join(few(away)))
    return Resolved(tuple(whole), frozenset(left_open))


def _block(entity: Mapping[str, Any], bare: Mapping[str, Any], before: Mapping[str, Any], around: Around) -> Block | None:
    if "entity_name" not in entity:
        return None
    if around.trusted and entity.get(BLOCK):
        given: Block = entity[BLOCK]
        return given
    same = all(before.get(field) == bare.get(field) for field in ("entity_name", "entity_version"))
    if same and before.get(BLOCK):
        kept: Block = before[BLOCK]
        return kept
    name, version = bare["entity_name"], bare.get("entity_version") or ""
    reference = of_entity(name, version)
    if reference is not None:
        return around.versions.block(reference)
    if (reference := of_plain(name, version)) is None or isinstance(around.versions, NoVersions) or same:
        return None
    try:
        around.catalog.resolve(name, version)
    except UnknownEntity:
        block = around.versions.block(reference)
        return block if "pool" in block else None
    return None


def served_of(entity: Mapping[str, Any]) -> tuple[str, Served | None]:
    """The version that an entity stands for, and who serves it where a tag says so."""
    block: Block = entity.get(BLOCK) or {}
    version = str(block.get("version") or entity.get("entity_version") or "")
    if "pool" in block:
        return version, Served(block["model"], block["pool"])
    return version, None


def open_question(entity: Mapping[str, Any]) -> str:
    """Why nobody knows what the entity stands for; '' when it is known."""
    reference = None if entity.get(BLOCK) else reference_of(entity)
    return "" if reference is None else f"the registry has not said yet which version {reference} is"


def followed(entities: Sequence[Mapping[str, Any]], blocks: Mapping[str, Block]) -> tuple[Mapping[str, Any], ...]:
    """The entities after a move."""
    return tuple(
        [{**entity, BLOCK: dict(blocks[entity["name"]])} if entity["name"] in blocks else entity for entity in entities]
    )


def gone_back(old: Sequence[Mapping[str, Any]], present: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Entities of before, which stay what they were until their alias moves again."""
    now = {each["name"]: each for each in present}
    whole: list[Mapping[str, Any]] = []
    for entity in old:
        reference, block = reference_of(entity), entity.get(BLOCK)
        there = now.get(entity["name"], {})
        if reference is None or not reference.alias or not block or reference != reference_of(there) or not there.get(BLOCK):
            whole.append(entity)
            continue
        meant = decided(there[BLOCK])
        rest = {key: value for key, value in block.items() if key != "alias_version"}
        whole.append({**entity, BLOCK: rest if meant == block["version"] else {**rest, "alias_version": meant}})
    return tuple(whole)
