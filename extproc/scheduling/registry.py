"""The types that a config may name. A plugin's row stands beside it, so that a new plugin is one file and its place here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Final

from extproc.scheduling import saturation
from extproc.scheduling.plugins import (
    accepted,
    attributes,
    conformance,
    context_length,
    deciders,
    disagg,
    encoder_cache,
    handlers,
    headroom,
    inflight,
    labels,
    latency_scorer,
    load_filters,
    lora,
    no_hit,
    peer_source,
    pickers,
    predicted_latency,
    prefix,
    prefix_affinity,
    ranks,
    reporter,
    rollout,
    scorers,
    session_ids,
    sessions,
    token_load,
    tokens,
    topology,
    tree,
)
from extproc.scheduling.plugins.base import PluginType
from extproc.scheduling.plugins.missing import MISSING

_MODULES: Final[Sequence[ModuleType]] = (
    scorers,
    token_load,
    inflight,
    no_hit,
    prefix_affinity,
    latency_scorer,
    headroom,
    predicted_latency,
    sessions,
    session_ids,
    labels,
    rollout,
    load_filters,
    lora,
    tree,
    topology,
    context_length,
    attributes,
    conformance,
    reporter,
    pickers,
    tokens,
    prefix,
    encoder_cache,
    peer_source,
    handlers,
    disagg,
    ranks,
    deciders,
    saturation,
    accepted,
)

PLUGIN_TYPES: Final[Mapping[str, PluginType]] = {row.name: row for module in _MODULES for row in module.TYPES}
"""The types of this room."""

DEFAULT_PRODUCERS: Final[Mapping[str, PluginType]] = {
    row.provides: row for module in reversed(_MODULES) for row in reversed(module.TYPES) if row.provides
}
"""By what they provide, the producer that is made when a plugin needs it and none is listed: the first row of its kind."""


def older_names(types: Mapping[str, PluginType]) -> dict[str, str]:
    """Names of earlier versions, and what the type is called now."""
    return {old: row.name for row in types.values() for old in row.older}


def why_missing(name: str) -> str | None:
    """Why a type of upstream's is not there; None when it is no type of upstream's, or is there."""
    return MISSING.get(name)
