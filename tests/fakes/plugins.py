"""One plugin by its type, without a config around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from extproc.scheduling.plugins.base import Clock, Kit, Random
from extproc.scheduling.registry import PLUGIN_TYPES
from tests.fakes.chance import seeded
from tests.fakes.clock import FakeClock


def kit(
    name: str = "plugin",
    *,
    random: Random | None = None,
    clock: Clock | None = None,
    sources: Sequence[str | None] = (),
    plugins: Mapping[str, Any] | None = None,
) -> Kit:
    """With time and chance of the test."""
    return Kit(name, random or seeded(), clock or FakeClock(), 0.05, sources, plugins or {})


def make(kind: str, parameters: Mapping[str, object] | None = None, made_with: Kit | None = None) -> Any:
    """The plugin of this type, with parameters as in YAML."""
    row = PLUGIN_TYPES[kind]
    assert row.make is not None
    return row.make(row.parameters.model_validate(parameters or {}), made_with or kit(kind))
