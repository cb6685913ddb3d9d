"""A picker config: what is wrong with it, and what there will be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel

from extproc.app.pool_parts import pages_of, types_of, unknown_attributes
from extproc.discovery.file import FileDiscoverySettings
from extproc.flow.build import OFF, FlowBlueprint, build_flow
from extproc.scheduling import Blueprint, build_scheduler
from extproc.scheduling.blueprint import Planned
from extproc.settings.base import SettingsError
from extproc.settings.picker import EndpointPickerConfig, picker_config


class Checked(NamedTuple):
    """A picker config that was looked at. `described` is None when it has problems."""

    problems: list[str]
    warnings: list[str]
    notes: list[str]
    described: dict[str, Any] | None = None


def check_picker(document: dict[str, Any], prefix: str = "", *, allow_missing: bool = False) -> Checked:
    """Check a config of that form."""
    try:
        config, warnings = picker_config(document, prefix)
    except SettingsError as error:
        return Checked(error.problems, [], [])
    return check_config(config, warnings, prefix, allow_missing=allow_missing)


def check_config(
    config: EndpointPickerConfig,
    warnings: list[str],
    prefix: str,
    *,
    allow_missing: bool = False,
) -> Checked:
    """Check a config whose form is right."""
    problems: list[str] = []
    blueprint, engines, flow = None, None, OFF
    try:
        blueprint = build_scheduler(config, elsewhere=types_of(config, prefix), prefix=prefix, allow_missing=allow_missing)
        _, engines = pages_of(config, blueprint, prefix, problems)
    except SettingsError as error:
        problems += error.problems
    try:
        flow = build_flow(config, prefix=prefix)
    except SettingsError as error:
        problems += error.problems
    if problems or blueprint is None or engines is None:
        return Checked(problems, warnings, [])
    told = [*warnings, *blueprint.warnings, *unknown_attributes(blueprint, engines), *flow.warnings]
    return Checked([], told, _notes(blueprint), described(config, blueprint, flow))


def _notes(blueprint: Blueprint) -> list[str]:
    return [
        f"{name}: the file {parameters.path} is not read here"
        for name, parameters in blueprint.parameters.items()
        if isinstance(parameters, FileDiscoverySettings)
    ]


def described(config: EndpointPickerConfig, blueprint: Blueprint, flow: FlowBlueprint) -> dict[str, Any]:
    """What there will be, made for JSON: profiles, plugins with what they need and their parameters, and what is not there."""
    handler, detector = blueprint.handler, blueprint.detector
    used = {*blueprint.plugins, *blueprint.parameters, *(ref for _, ref in config.parser_refs), *flow.policies}
    types = blueprint.types
    return {
        "profiles": [
            {
                "name": profile.name,
                "filters": list(profile.filters),
                "scorers": [{"name": name, "weight": weight} for name, weight in profile.scorers],
                "picker": profile.picker or "max-score-picker",
                "picker_is_default": profile.picker is None,
            }
            for profile in blueprint.profiles
        ],
        "handler": handler or "single-profile-handler",
        "saturation_detector": detector or "utilization-detector",
        "screeners": list(blueprint.screeners),
        "admitters": list(blueprint.admitters),
        "producers": list(blueprint.producers),
        "flow_control": list(flow.policies) if flow.is_on else None,
        "parsers": [ref for _, ref in config.parser_refs],
        "plugins": [_plugin(name, planned, types) for name, planned in blueprint.plugins.items()],
        "data_layer": {
            name: {"type": types[name], "parameters": _resolved(parameters)}
            for name, parameters in blueprint.parameters.items()
        },
        "made_on_demand": [name for name in blueprint.plugins if name not in types and name in blueprint.producers],
        "not_used": [name for name in types if name not in used and name not in blueprint.left_out],
        "left_out": dict(blueprint.left_out),
    }


def _resolved(parameters: BaseModel) -> Any:
    """With defaults, as JSON has it; what has no form there in its own words."""
    values = parameters.model_dump(by_alias=True, warnings=False)
    return orjson.loads(orjson.dumps(values, default=str, option=orjson.OPT_NON_STR_KEYS))


def _plugin(name: str, planned: Planned, types: Mapping[str, str]) -> dict[str, Any]:
    row = planned.row
    needs = zip(row.needs(planned.parameters), planned.sources, strict=True)
    return {
        "name": name,
        "type": row.name,
        "family": row.family,
        "roles": list(row.roles),
        "needs": [{"what": need.kind, "from": source, "optional": need.optional} for need, source in needs],
        "asks": list(planned.references),
        "parameters": _resolved(planned.parameters),
        "listed": name in types,
    }
