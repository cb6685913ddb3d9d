"""A gateway's file: its form, and the picker config of each of its pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extproc.app.checking.picker import Checked, check_config
from extproc.control.advice import advice_on
from extproc.control.changes import Declare
from extproc.control.referring import references_in
from extproc.discovery.static import parse_targets
from extproc.settings.base import SettingsError
from extproc.settings.document import Document
from extproc.settings.gateway import GatewayParts, gateway_parts, scheduling_of
from extproc.settings.serving import read_all
from extproc.settings.serving.delivery import changed, check, unknown_segments
from extproc.settings.serving.entities import default_name
from extproc.settings.serving.residency import regions_of_entities, unknown_regions


def check_gateway(document: Document, *, allow_missing: bool = False) -> Checked:
    """`described` has what there will be for each pool, by name."""
    config = gateway_parts(document)
    problems, warnings = list(config.problems), list[str]()
    pools: dict[str, Any] = {}
    for index, spec in config.pools.items():
        try:
            picker, where, told = scheduling_of(config.scheduling, spec, index)
            parse_targets(list(spec.endpoints.static or ()), path=f"pools[{index}].endpoints.static")
        except SettingsError as error:
            problems += [problem for problem in error.problems if problem not in problems]
            continue
        found = check_config(picker, told, where, allow_missing=allow_missing)
        # A common `scheduling` is checked once for each pool; what is wrong with it is said once.
        problems += [problem for problem in found.problems if problem not in problems]
        warnings += [warning for warning in found.warnings if warning not in warnings]
        pools[spec.name] = found.described
    routed = {pool for route in config.routes.values() for pool in (route.pool, *route.beside)}
    for index, spec in config.pools.items():
        if spec.name not in routed:
            warnings.append(f"pools[{index}]: no route leads to pool {spec.name!r}")
    _endpoints(document, config, problems, warnings)
    if config.regions is not None and config.regions.own is None:
        warnings.append("regions.self is not there, so the gateway starts with --region only")
    notes = [*_notes(config), *_references(document, config)]
    return Checked(problems, warnings, notes, None if problems else {"pools": pools})


def _declared(document: Document) -> Sequence[object]:
    """The file's own endpoints, as they are written there."""
    listed = document.value.get("servingEndpoints") if isinstance(document.value, dict) else None
    return listed if isinstance(listed, list) else ()


def _endpoints(document: Document, config: GatewayParts, problems: list[str], warnings: list[str]) -> None:
    """What rules and experiments of the file's own endpoints name, and which of them never get a request."""
    segments = [segment.name for segment in config.segments]
    regions = () if config.regions is None else config.regions.names
    for prefix, form in read_all(_declared(document), "servingEndpoints")[0]:
        delivery = changed({}, form.config.delivery)
        entities = [
            {**entity, "name": str(entity.get("name") or default_name(entity))} for entity in form.config.entities or ()
        ]
        problems += [*check(delivery, entities, prefix), *unknown_segments(delivery, segments, prefix)]
        problems += unknown_regions(delivery.get("residency", ()), regions, prefix)
        problems += regions_of_entities(entities, regions, f"{prefix}config.served_entities")
        warnings += advice_on(delivery, prefix)


def _references(document: Document, config: GatewayParts) -> list[str]:
    """What the file's own endpoints name in a registry: nobody asks it here."""
    declare = Declare("", _declared(document))
    there = config.registry is not None and config.registry.uri is not None
    needs = "" if there else "; the file has no registry.uri, so the gateway needs --registry-uri"
    return [
        f"the registry is not asked here for {each}{needs}" for each in sorted(map(str, references_in(declare))) if "@" in each
    ]


def _notes(config: GatewayParts) -> list[str]:
    lists = [segment.file for segment in config.segments]
    files = [
        config.adapters_file,
        *lists,
        config.serving_endpoints_file,
        *(pool.endpoints.file for pool in config.pools.values()),
    ]
    return [f"the file {file} is not read here" for file in files if file is not None]
