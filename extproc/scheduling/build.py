"""EndpointPickerConfig to Scheduler: what a config file asks for, instantiated, with every problem reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

from pydantic import BaseModel, ValidationError

from extproc.scheduling import saturation
from extproc.scheduling.plugins import accepted, pickers, scorers
from extproc.scheduling.plugins.base import Picker, PluginType, Random, Scorer
from extproc.scheduling.plugins.parameters import UtilizationParameters
from extproc.scheduling.saturation import SaturationDetector, default_detector, utilization_detector
from extproc.scheduling.scheduler import Profile, Scheduler, WeightedScorer
from extproc.settings.base import SettingsError, explain
from extproc.settings.picker import EndpointPickerConfig, PluginSpec, ProfileSpec

PLUGIN_TYPES: Final[Mapping[str, PluginType]] = {
    row.name: row for row in (*scorers.TYPES, *pickers.TYPES, *saturation.TYPES, *accepted.TYPES)
}
"""The types of this room. A plugin's row stands beside it, so that a new plugin is one file."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A checked config: how to make its scheduler (one a pool, they keep state), and the other plugins' parameters."""

    profile: str
    scorers: tuple[tuple[str, Callable[[], Scorer], float], ...]
    picker: Callable[[], Picker]
    parameters: Mapping[str, BaseModel] = field(default_factory=dict)
    """By plugin name, for the types that the caller brought along."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Plugin name to type."""
    detector: Callable[[float], SaturationDetector] = default_detector
    """Makes the saturation detector, for pages that are read every so many seconds."""

    def scheduler(self, random: Random) -> Scheduler:
        """A new scheduler with its own state."""
        weighted = [WeightedScorer(name, make(), weight) for name, make, weight in self.scorers]
        return Scheduler(Profile(self.profile, weighted, self.picker()), random)


def build_scheduler(
    config: EndpointPickerConfig, *, elsewhere: Mapping[str, PluginType] | None = None, prefix: str = ""
) -> Blueprint:
    """Check the config and prepare its plugins. `elsewhere` are types that other rooms instantiate (data layer).

    Raises SettingsError with every problem: unknown types and references, duplicate names, parameters out of range, more
    than one profile, picker or handler.
    """
    return _Builder(config, {**PLUGIN_TYPES, **(elsewhere or {})}, prefix).build()


class _Builder:
    def __init__(self, config: EndpointPickerConfig, types: Mapping[str, PluginType], prefix: str) -> None:
        self._config = config
        self._types = types
        self._prefix = prefix
        self._problems: list[str] = []
        self._plugins: dict[str, tuple[PluginType, BaseModel]] = {}
        self._type_names: dict[str, str] = {}

    def build(self) -> Blueprint:
        for index, spec in enumerate(self._config.plugins):
            self._plugin(f"{self._prefix}plugins[{index}]", spec)
        profile = self._profile()
        chosen = self._chosen(profile)
        detector = self._detector()
        self._references()
        if self._problems:
            raise SettingsError(self._problems)
        scorer_specs = []
        picker_specs = []
        for ref, weight in chosen:
            kind, parameters = self._plugins[ref]
            if kind.family == "scorer":
                scorer_specs.append((ref, _maker(kind, parameters), weight))
            elif kind.family == "picker":
                picker_specs.append(_maker(kind, parameters))
        return Blueprint(
            profile=profile.name if profile else "default",
            scorers=tuple(scorer_specs),
            picker=picker_specs[0] if picker_specs else pickers.MaxScorePicker,
            parameters={ref: model for ref, (kind, model) in self._plugins.items() if kind.family == "data layer"},
            types=dict(self._type_names),
            detector=detector,
        )

    def _detector(self) -> Callable[[float], SaturationDetector]:
        """The one that is referred to, else the only one that is listed, else the default."""
        old = self._config.saturation_detector
        if old is not None and old.plugin_ref is None:
            try:
                return partial(utilization_detector, UtilizationParameters.model_validate(old.thresholds()))
            except ValidationError as error:
                self._problems += explain(error, prefix=f"{self._prefix}saturationDetector.")
        ref = self._config.detector_ref
        listed = [name for name, (kind, _) in self._plugins.items() if kind.family == saturation.FAMILY]
        if ref is None and len(listed) > 1:
            names = ", ".join(listed)
            self._problems.append(
                f"{self._prefix}plugins: more than one {saturation.FAMILY}: {names}; "
                "name one in flowControl.saturationDetector.pluginRef"
            )
        chosen = self._plugins.get(ref if ref is not None else listed[0] if listed else "")
        if chosen is None or chosen[0].family != saturation.FAMILY:  # told by _references
            return default_detector
        kind, parameters = chosen
        return partial(cast(Callable[..., SaturationDetector], kind.make), parameters)

    def _plugin(self, path: str, spec: PluginSpec) -> None:
        kind = self._types.get(spec.type)
        if kind is None:
            near = difflib.get_close_matches(spec.type, self._types, 1)
            hint = f", did you mean {near[0]!r}?" if near else f"; known types: {', '.join(sorted(self._types))}"
            self._problems.append(f"{path}.type: unknown or not available in this version: {spec.type!r}{hint}")
        if spec.ref in self._type_names:
            self._problems.append(f"{path}.name: {spec.ref!r} is used twice")
        self._type_names.setdefault(spec.ref, spec.type)
        if kind is None:
            return
        try:
            self._plugins[spec.ref] = (kind, kind.parameters.model_validate(spec.parameters or {}))
        except ValidationError as error:
            self._problems += explain(error, prefix=f"{path}.parameters.")

    def _profile(self) -> ProfileSpec | None:
        profiles = self._config.scheduling_profiles
        if len(profiles) > 1:
            names = ", ".join(profile.name for profile in profiles)
            self._problems.append(
                f"{self._prefix}schedulingProfiles: single-profile-handler takes exactly one profile (got {names})"
            )
        handlers = [ref for ref, (kind, _) in self._plugins.items() if kind.family == "profile handler"]
        if len(handlers) > 1:
            self._problems.append(f"{self._prefix}plugins: more than one profile handler: {', '.join(handlers)}")
        return profiles[0] if profiles else None

    def _chosen(self, profile: ProfileSpec | None) -> list[tuple[str, float]]:
        """The plugins of the profile; without a profile, every scorer and picker that is listed."""
        if profile is None:
            path = "plugins"
            chosen = [(ref, 1.0) for ref, (kind, _) in self._plugins.items() if kind.family in ("scorer", "picker")]
        else:
            path = "schedulingProfiles[0].plugins"
            chosen = self._listed(profile)
        picks = [ref for ref, _ in chosen if self._family(ref) == "picker"]
        if len(picks) > 1:
            self._problems.append(f"{self._prefix}{path}: more than one picker: {', '.join(picks)}")
        return chosen

    def _listed(self, profile: ProfileSpec) -> list[tuple[str, float]]:
        chosen = []
        for index, entry in enumerate(profile.plugins):
            path = f"{self._prefix}schedulingProfiles[0].plugins[{index}].pluginRef"
            if not self._known(path, entry.plugin_ref):
                continue
            family = self._family(entry.plugin_ref)
            if family not in ("scorer", "picker", None):
                self._problems.append(f"{path}: {entry.plugin_ref!r} is a {family}, a profile takes scorers and a picker")
            chosen.append((entry.plugin_ref, entry.weight))
        return chosen

    def _references(self) -> None:
        layer = self._config.data_layer
        refs = [(path, ref, "parser") for path, ref in self._config.parser_refs]
        for i, source in enumerate(layer.sources):
            refs.append((f"dataLayer.sources[{i}].pluginRef", source.plugin_ref, "data layer"))
            refs += [
                (f"dataLayer.sources[{i}].extractors[{j}].pluginRef", extractor.plugin_ref, "data layer")
                for j, extractor in enumerate(source.extractors)
            ]
        if layer.discovery and layer.discovery.ref:
            refs.append(("dataLayer.discovery.pluginRef", layer.discovery.ref, "data layer"))
        if self._config.detector_ref is not None:
            refs.append((self._config.detector_path, self._config.detector_ref, saturation.FAMILY))
        for path, ref, family in refs:
            if self._known(self._prefix + path, ref) and self._family(ref) not in (family, None):
                self._problems.append(f"{self._prefix}{path}: {ref!r} is a {self._family(ref)}, expected a {family} plugin")

    def _known(self, path: str, ref: str) -> bool:
        if ref in self._type_names:
            return True
        listed = ", ".join(self._type_names) or "none"
        self._problems.append(f"{path}: no plugin is called {ref!r} (there are: {listed})")
        return False

    def _family(self, ref: str) -> str | None:
        kind = self._types.get(self._type_names[ref])
        return kind.family if kind else None


def _maker(kind: PluginType, parameters: BaseModel) -> Callable[[], Any]:
    make = cast(Callable[[Any], Any], kind.make)
    return lambda: make(parameters)
