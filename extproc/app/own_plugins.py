"""Own plugins, by the entry points of installed packages: `extproc.plugins`, each named as its type in configs.

Nothing is imported but what a config names, so a broken package troubles only who uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from extproc.observability.logs import logger
from extproc.plugin import Plugin, row_of
from extproc.scheduling.guard import guarded
from extproc.scheduling.plugins.base import (
    ADMITTER,
    DECIDER,
    FILTER,
    HANDLER,
    PICKER,
    PRODUCER,
    SCORER,
    SCREENER,
    PluginType,
)
from extproc.scheduling.registry import DEFAULT_PRODUCERS, PLUGIN_TYPES, older_names
from extproc.settings.base import SettingsError
from extproc.settings.picker import EndpointPickerConfig

GROUP: Final = "extproc.plugins"
ROLES: Final = (FILTER, SCORER, PICKER, PRODUCER, SCREENER, ADMITTER, HANDLER, DECIDER)
"""What an own plugin can be."""

_log = logger(__name__)
_OURS: Final = frozenset({*PLUGIN_TYPES, *older_names(PLUGIN_TYPES)})


def is_ours(name: str) -> bool:
    """Whether a type of that name comes with us."""
    return name in _OURS


def own_types(config: EndpointPickerConfig, prefix: str) -> dict[str, PluginType]:
    """The own types that a config names. Raises SettingsError for those that can't be had, each with its path and why."""
    points = _points()
    found: dict[str, PluginType] = {}
    problems = []
    for index, spec in enumerate(config.plugins):
        point = points.get(spec.type)
        if point is None or spec.type in found:
            continue
        try:
            found[spec.type] = _row(point)
        except _Unusable as error:
            problems.append(f"{prefix}plugins[{index}].type: {spec.type!r} of {_whose(point)}: {error}")
    if problems:
        raise SettingsError(problems)
    return found


def all_own_types() -> tuple[dict[str, PluginType], list[str]]:
    """Those of all installed packages, and what is wrong with the others."""
    found, problems = {}, []
    for name, point in _points().items():
        try:
            found[name] = _row(point)
        except _Unusable as error:
            problems.append(f"{name!r} of {_whose(point)}: {error}")
    return found, problems


class _Unusable(Exception):
    """Why an entry point is no plugin."""


def _points() -> dict[str, EntryPoint]:
    """By name. A type that comes with us is ours whatever is installed."""
    points: Iterable[EntryPoint] = entry_points(group=GROUP)
    return {point.name: point for point in points if point.name not in _OURS}


def _whose(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist is not None else point.value


def _row(point: EntryPoint) -> PluginType:
    try:
        named = point.load()
    except Exception as error:  # whatever a package does when it is imported
        raise _Unusable(f"can't be imported: {type(error).__name__}: {error}") from None
    try:
        row = row_of(named, point.name) if isinstance(named, type) and issubclass(named, Plugin) else named
    except (TypeError, NameError) as error:
        raise _Unusable(str(error)) from None
    if not isinstance(row, PluginType):
        raise _Unusable(f"expected a class of extproc.plugin or a PluginType ({point.value} is {type(row).__name__})")
    if row.name != point.name:
        raise _Unusable(f"its row is called {row.name!r}; expected the entry point's name")
    if row.family not in ROLES:
        raise _Unusable(f"it is a {row.family}; an own plugin can be a {', '.join(ROLES)}")
    if row.provides in DEFAULT_PRODUCERS:
        raise _Unusable(f"it provides {row.provides}, which plugins that come with us read; expected a kind of its own")
    return guarded(_checked(row), _tell)


def _checked(row: PluginType) -> PluginType:
    """What fails at start says whose it is."""

    def make(parameters: Any, kit: Any) -> Any:
        assert row.make is not None, "or nothing is made"
        try:
            return row.make(parameters, kit)
        except Exception as error:
            raise SettingsError([f"plugin {kit.name!r} can't be made: {type(error).__name__}: {error}"]) from None

    return row if row.make is None else row._replace(make=make)


_STATES: Final[Mapping[str, str]] = {
    "failing": "own plugin fails, and was left out of a pick",
    "open": "own plugin is left out for a while",
    "closed": "own plugin is well again",
}


def _tell(name: str, state: str, why: str) -> None:
    say = _log.info if state == "closed" else _log.warning
    say(_STATES[state], plugin=name, why=why)
