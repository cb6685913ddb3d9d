"""EndpointPickerConfig to Blueprint: what a config file asks for, checked, with every problem reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import ValidationError

from extproc.scheduling.blueprint import Blueprint, Planned, ProfilePlan
from extproc.scheduling.needs import Listed, Wiring
from extproc.scheduling.plugins.base import (
    ADMITTER,
    DATA_LAYER,
    DETECTOR,
    FILTER,
    HANDLER,
    HEADERS,
    PARSER,
    PICKER,
    PRODUCER,
    REPORTER,
    SCORER,
    SCREENER,
    PluginType,
)
from extproc.scheduling.plugins.parameters import UtilizationParameters
from extproc.scheduling.plugins.parameters_sessions import AgentIdentityParameters
from extproc.scheduling.plugins.session_ids import agent_headers
from extproc.scheduling.registry import DEFAULT_PRODUCERS, PLUGIN_TYPES, older_names, why_missing
from extproc.settings.base import SettingsError, explain
from extproc.settings.picker import EndpointPickerConfig, PluginSpec, ProfileSpec

_OLD_DETECTOR: Final = "saturationDetector"
_IN_PROFILES: Final = (FILTER, SCORER, PICKER)
_BESIDE_PROFILES: Final = (PARSER, REPORTER)
"""Upstream lets a profile name them, and its own test data do."""


def build_scheduler(
    config: EndpointPickerConfig,
    *,
    elsewhere: Mapping[str, PluginType] | None = None,
    prefix: str = "",
    allow_missing: bool = False,
) -> Blueprint:
    """Check the config and prepare its plugins. `elsewhere` are types that other rooms instantiate (data layer).

    `allow_missing`: types of upstream's that can't be had here are left out, with a warning, instead of refused.
    Raises SettingsError with every problem: unknown types and references, duplicate names, parameters out of range, plugins
    that need each other in a circle, more than one handler, a profile with more than one picker.
    """
    return _Builder(config, {**PLUGIN_TYPES, **(elsewhere or {})}, prefix, allow_missing).build()


class _Builder:
    def __init__(self, config: EndpointPickerConfig, types: Mapping[str, PluginType], prefix: str, allow_missing: bool) -> None:
        self._config = config
        self._types = types
        self._older = older_names(types)
        self._prefix = prefix
        self._allow_missing = allow_missing
        self._problems: list[str] = []
        self._warnings: list[str] = []
        self._plugins: dict[str, Listed] = {}
        self._left_out: dict[str, str] = {}
        self._type_names: dict[str, str] = {}
        """By name, of every plugin that is listed, whatever is wrong with it."""
        self._rows: dict[str, PluginType] = {}
        """By name, of every plugin whose type is known, whatever its parameters are."""

    def build(self) -> Blueprint:
        for index, spec in enumerate(self._config.plugins):
            self._plugin(f"{self._prefix}plugins[{index}]", spec)
        profiles = self._profiles()
        handler = self._handler(profiles)
        detector = self._detector()
        self._references()
        wiring = Wiring(self._plugins, self._types, DEFAULT_PRODUCERS, self._problems.append, self._is_told)
        everywhere = {family: self._of(family) for family in (SCREENER, ADMITTER, REPORTER, HEADERS)}
        for name in self._used(profiles, handler, detector, [name for names in everywhere.values() for name in names]):
            if name in self._plugins:
                wiring.use(name)
        if self._problems:
            raise SettingsError(self._problems)
        only_accepted = [name for name, each in self._plugins.items() if each.row.make is None]
        for name in [*wiring.order, *only_accepted]:
            each = wiring.plugins[name]
            if each.row.note is not None and (note := each.row.note(each.parameters)):
                self._warnings.append(f"{each.path or self._prefix + 'plugins'}: {name}: {note}")
        return Blueprint(
            profiles=profiles,
            plugins={
                name: Planned(
                    wiring.plugins[name].row, wiring.plugins[name].parameters, wiring.sources[name], wiring.references[name]
                )
                for name in wiring.order
            },
            handler=handler,
            producers=tuple(name for name in wiring.order if wiring.plugins[name].row.has(PRODUCER)),
            screeners=tuple(everywhere[SCREENER]),
            admitters=tuple(everywhere[ADMITTER]),
            detector=detector,
            parameters={name: each.parameters for name, each in self._plugins.items() if each.row.family == DATA_LAYER},
            types=dict(self._type_names),
            left_out=self._left_out,
            agent_headers=self._agent_headers(),
            warnings=tuple(self._warnings),
        )

    # -- plugins -------------------------------------------------------------------------------------------------

    def _plugin(self, path: str, spec: PluginSpec) -> None:
        row = self._row(path, spec)
        if spec.ref in self._type_names:
            self._problems.append(f"{path}.name: {spec.ref!r} is used twice")
        self._type_names.setdefault(spec.ref, row.name if row is not None else spec.type)
        if row is None:
            return
        self._rows[spec.ref] = row
        try:
            self._plugins[spec.ref] = Listed(path, row, row.parameters.model_validate(spec.parameters or {}))
        except ValidationError as error:
            self._problems += explain(error, prefix=f"{path}.parameters.")

    def _row(self, path: str, spec: PluginSpec) -> PluginType | None:
        kind = spec.type
        if kind in self._older:
            newer = self._older[kind]
            self._warnings.append(f"{path}.type: {kind} is an older name, use {newer}")
            return self._types[newer]
        row = self._types.get(kind)
        if row is not None:
            return row
        why = why_missing(kind)
        if why is None:
            near = difflib.get_close_matches(kind, self._types, 1)
            hint = f", did you mean {near[0]!r}?" if near else f"; known types: {', '.join(sorted(self._types))}"
            self._problems.append(f"{path}.type: unknown or not available in this version: {kind!r}{hint}")
        elif self._allow_missing:
            self._left_out[spec.ref] = why
            self._warnings.append(f"{path}.type: {kind} is not available, and left out: {why}")
        else:
            self._problems.append(f"{path}.type: {kind} is not available: {why}; --allow-missing-plugins leaves it out")
        return None

    def _agent_headers(self) -> tuple[str, ...]:
        listed = [each.parameters for each in self._plugins.values()]
        return next((agent_headers(each) for each in listed if isinstance(each, AgentIdentityParameters)), ())

    def _of(self, family: str) -> list[str]:
        return [name for name, row in self._rows.items() if row.has(family)]

    def _used(
        self, profiles: Sequence[ProfilePlan], handler: str | None, detector: str | None, everywhere: Sequence[str]
    ) -> list[str]:
        used: list[str] = []
        for profile in profiles:
            used += profile.filters
            used += [name for name, _ in profile.scorers]
            used += [profile.picker] if profile.picker is not None else []
        used += [name for name in (handler, detector) if name is not None]
        return used + list(everywhere)

    # -- profiles ------------------------------------------------------------------------------------------------

    def _profiles(self) -> tuple[ProfilePlan, ...]:
        """Those of the file; without any, one of every filter, scorer and picker that is listed."""
        specs = self._config.scheduling_profiles
        if not specs:
            entries = [(name, 1.0) for name, row in self._rows.items() if row.family in _IN_PROFILES]
            return (self._profile("default", "plugins", entries),)
        names = [spec.name for spec in specs]
        for index, name in enumerate(names):
            if name in names[:index]:
                self._problems.append(f"{self._prefix}schedulingProfiles[{index}].name: {name!r} is used twice")
        return tuple(
            self._profile(spec.name, f"schedulingProfiles[{index}].plugins", self._entries(index, spec))
            for index, spec in enumerate(specs)
        )

    def _entries(self, index: int, spec: ProfileSpec) -> list[tuple[str, float]]:
        entries = []
        for at, entry in enumerate(spec.plugins):
            path = f"{self._prefix}schedulingProfiles[{index}].plugins[{at}].pluginRef"
            name = entry.plugin_ref
            if not self._known(path, name):
                continue
            row = self._rows.get(name)
            if row is None:
                continue  # told, or left out
            if row.has(PRODUCER) and not any(map(row.has, _IN_PROFILES)):
                self._warnings.append(f"{path}: {name!r} is a {PRODUCER}, which does nothing in a profile")
                continue
            if row.family in _BESIDE_PROFILES:
                self._warnings.append(
                    f"{path}: {name!r} is a {row.family}, which works for all profiles; here it has no effect"
                )
                continue
            if not any(map(row.has, _IN_PROFILES)):
                self._problems.append(f"{path}: {name!r} is a {row.family}, a profile takes filters, scorers and a picker")
                continue
            entries.append((name, entry.weight))
        return entries

    def _profile(self, name: str, path: str, entries: Sequence[tuple[str, float]]) -> ProfilePlan:
        def of(role: str) -> list[str]:
            return [ref for ref, _ in entries if self._rows[ref].has(role)]

        pickers = of(PICKER)
        if len(pickers) > 1:
            self._problems.append(f"{self._prefix}{path}: more than one picker: {', '.join(pickers)}")
        return ProfilePlan(
            name,
            tuple(of(FILTER)),
            tuple((ref, weight) for ref, weight in entries if self._rows[ref].has(SCORER)),
            pickers[0] if pickers else None,
        )

    def _handler(self, profiles: Sequence[ProfilePlan]) -> str | None:
        handlers = self._of(HANDLER)
        if len(handlers) > 1:
            self._problems.append(f"{self._prefix}plugins: more than one profile handler: {', '.join(handlers)}")
        handler = handlers[0] if handlers else None
        if len(profiles) > 1 and (handler is None or self._rows[handler].name == "single-profile-handler"):
            names = ", ".join(profile.name for profile in profiles)
            self._problems.append(
                f"{self._prefix}schedulingProfiles: single-profile-handler takes exactly one profile (got {names})"
            )
        if handler is not None and handler in self._plugins:
            path, row, parameters = self._plugins[handler]
            if row.profiles is not None:
                problems, warnings = row.profiles(parameters, [profile.name for profile in profiles])
                self._problems += [f"{path}.parameters.{problem}" for problem in problems]
                self._warnings += [f"{path}.parameters.{warning}" for warning in warnings]
        return handler

    # -- the rest of the file ------------------------------------------------------------------------------------

    def _detector(self) -> str | None:
        """The one that is referred to, else the only one that is listed; None for the default."""
        old = self._config.saturation_detector
        if old is not None and old.plugin_ref is None:
            try:
                parameters = UtilizationParameters.model_validate(old.thresholds())
            except ValidationError as error:
                self._problems += explain(error, prefix=f"{self._prefix}{_OLD_DETECTOR}.")
                return None
            row = self._rows[_OLD_DETECTOR] = self._types["utilization-detector"]
            self._plugins[_OLD_DETECTOR] = Listed(f"{self._prefix}{_OLD_DETECTOR}", row, parameters)
            return _OLD_DETECTOR
        ref = self._config.detector_ref
        listed = self._of(DETECTOR)
        if ref is None and len(listed) > 1:
            self._problems.append(
                f"{self._prefix}plugins: more than one {DETECTOR}: {', '.join(listed)}; "
                "name one in flowControl.saturationDetector.pluginRef"
            )
        chosen = ref if ref is not None else listed[0] if listed else None
        return chosen if chosen in listed else None  # else told by _references

    def _references(self) -> None:
        layer = self._config.data_layer
        refs: list[tuple[str, str, tuple[str, ...]]] = [(path, ref, (PARSER,)) for path, ref in self._config.parser_refs]
        for i, source in enumerate(layer.sources):
            refs.append((f"dataLayer.sources[{i}].pluginRef", source.plugin_ref, (DATA_LAYER,)))
            refs += [
                (f"dataLayer.sources[{i}].extractors[{j}].pluginRef", extractor.plugin_ref, (DATA_LAYER, PRODUCER))
                for j, extractor in enumerate(source.extractors)
            ]
        if layer.discovery and layer.discovery.ref:
            refs.append(("dataLayer.discovery.pluginRef", layer.discovery.ref, (DATA_LAYER,)))
        if self._config.detector_ref is not None:
            refs.append((self._config.detector_path, self._config.detector_ref, (DETECTOR,)))
        for path, ref, families in refs:
            if not self._known(self._prefix + path, ref):
                continue
            row = self._rows.get(ref)
            if row is not None and not any(map(row.has, families)):
                self._problems.append(f"{self._prefix}{path}: {ref!r} is a {row.family}, expected a {families[0]} plugin")

    def _known(self, path: str, ref: str) -> bool:
        if ref in self._type_names:
            return True
        listed = ", ".join(self._type_names) or "none"
        self._problems.append(f"{path}: no plugin is called {ref!r} (there are: {listed})")
        return False

    def _is_told(self, name: str) -> bool:
        """The name is of a plugin that is left out, or of which something was said already."""
        return name in self._type_names and name not in self._plugins
