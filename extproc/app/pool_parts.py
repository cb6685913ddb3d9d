"""What a config says of a pool, checked: its plugins, where its endpoints come from, where their pages are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel

from extproc.app.gpus import GpuParts
from extproc.app.own_plugins import own_types
from extproc.discovery.file import TYPES as DISCOVERY_TYPES
from extproc.discovery.file import FileDiscovery, FileDiscoverySettings
from extproc.discovery.kubernetes.endpoints import KubernetesSource
from extproc.discovery.static import Target, parse_targets
from extproc.domain import Endpoint
from extproc.flow.build import FLOW_TYPES, OFF, FlowBlueprint, build_flow
from extproc.scheduling import Blueprint, build_scheduler
from extproc.scheduling.attributes import CORE
from extproc.scheduling.plugins.base import PluginType
from extproc.scraping.engines import Engines
from extproc.scraping.fetch import HttpFetcher
from extproc.scraping.plugins import TYPES as SCRAPING_TYPES
from extproc.settings.base import SettingsError, shown
from extproc.settings.engines import (
    GPU_UTILIZATION,
    ClusterMetricsSettings,
    CoreMetricsSettings,
    GpuSourceSettings,
    MetricsSourceSettings,
    PageSettings,
)
from extproc.settings.picker import EndpointPickerConfig

DATA_LAYER_TYPES: Final[Mapping[str, PluginType]] = {row.name: row for row in (*SCRAPING_TYPES, *DISCOVERY_TYPES)}
ELSEWHERE_TYPES: Final[Mapping[str, PluginType]] = {**DATA_LAYER_TYPES, **FLOW_TYPES}
"""Of other rooms than scheduling."""

_NO_SOURCE: Final = (
    "expected at least one endpoint; or --pool-name for the pods of an InferencePool, --endpoint-selector, or "
    "file-discovery in the config"
)
Parameters = TypeVar("Parameters", bound=BaseModel)
Source = TypeVar("Source", bound=PageSettings)


@dataclass(frozen=True)
class PoolParts:
    """A pool's settings, all checked."""

    blueprint: Blueprint
    engines: Engines
    source: MetricsSourceSettings
    fetcher: HttpFetcher
    targets: tuple[Target, ...]
    file: FileDiscoverySettings | None
    kubernetes: KubernetesSource | None = None
    flow: FlowBlueprint = OFF
    gpus: GpuParts | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its owner should know."""
        return (*self.blueprint.warnings, *unknown_attributes(self.blueprint, self.engines), *self.flow.warnings)


def pool_parts(
    config: EndpointPickerConfig | None,
    *,
    prefix: str,
    static: Sequence[str] | None,
    static_path: str,
    file: str | None,
    base: Path,
    kubernetes: KubernetesSource | None = None,
    allow_missing: bool = False,
) -> PoolParts:
    """Check everything about a pool. Raises SettingsError with every problem.

    `allow_missing`: plugins of types that can't be had here are left out.

    Endpoints come from `static`, from `file` (relative to `base`, watched), from the config's file-discovery, or from
    `kubernetes`; exactly one of them must be given, but an InferencePool gives way to another source: its name is then a name.
    Without a `config`, because its form is wrong, everything else is checked, and what the config might say is not missed.
    """
    problems: list[str] = []
    blueprint, flow = _plugins(config, prefix, problems, allow_missing=allow_missing)
    targets: tuple[Target, ...] = ()
    engines: Engines | None = None
    fetcher: HttpFetcher | None = None
    gpus: GpuParts | None = None
    source = MetricsSourceSettings()
    discovery: FileDiscoverySettings | None = None
    try:
        targets = parse_targets(list(static or ()), path=static_path)
    except SettingsError as error:
        problems += error.problems
    if config is not None and blueprint is not None:
        source, engines = pages_of(config, blueprint, prefix, problems)
        try:
            discovery = _discovery(config, blueprint, prefix)
            fetcher = HttpFetcher(source)
            gpus = _gpus(config, blueprint, prefix, problems)
        except SettingsError as error:
            problems += [p if p.startswith(prefix) else prefix + p for p in error.problems]
    if file is not None:
        discovery = FileDiscoverySettings.model_validate({"path": str(base / file), "watchFile": True})
    if kubernetes is not None and kubernetes.selection is None and (static or discovery is not None):
        kubernetes = None
    if discovery is not None and static:
        problems.append(f"{static_path}: excludes file-discovery in the config")
    elif discovery is not None and kubernetes is not None:
        problems.append("--endpoint-selector: excludes file-discovery in the config")
    elif discovery is None and not static and kubernetes is None and not problems and config is not None:
        problems.append(f"{static_path}: {_NO_SOURCE}")
    if discovery is not None:
        where = "" if file is None else f"{static_path.removesuffix('static')}file: "
        problems += [where + problem for problem in _file_problems(discovery)]
    if problems or blueprint is None or engines is None or fetcher is None:
        raise SettingsError(problems)
    return PoolParts(blueprint, engines, source, fetcher, targets, discovery, kubernetes, flow, gpus)


def _plugins(
    config: EndpointPickerConfig | None, prefix: str, problems: list[str], *, allow_missing: bool
) -> tuple[Blueprint | None, FlowBlueprint]:
    """What the config makes of the scheduler's plugins and of flow control; what is wrong goes to `problems`."""
    blueprint, flow = None, OFF
    if config is None:
        return blueprint, flow
    try:
        blueprint = build_scheduler(config, elsewhere=types_of(config, prefix), prefix=prefix, allow_missing=allow_missing)
    except SettingsError as error:
        problems += error.problems
    try:
        flow = build_flow(config, prefix=prefix)
    except SettingsError as error:
        problems += error.problems
    return blueprint, flow


def types_of(config: EndpointPickerConfig, prefix: str) -> dict[str, PluginType]:
    """The types beside the scheduler's own that a config may name: of other rooms, and of installed packages. Raises
    SettingsError for packages that it names and that can't be had."""
    return {**own_types(config, prefix), **ELSEWHERE_TYPES}


def pages_of(
    config: EndpointPickerConfig, blueprint: Blueprint, prefix: str, problems: list[str]
) -> tuple[MetricsSourceSettings, Engines | None]:
    """Where an endpoint's page is, and in which words it speaks; None for words that nobody knows. What is wrong goes to
    `problems`. Reads no files."""
    source = _source(config, blueprint, MetricsSourceSettings, prefix, problems) or MetricsSourceSettings()
    core = _only(blueprint, CoreMetricsSettings, prefix, problems)
    clusters = _only(blueprint, ClusterMetricsSettings, prefix, problems)
    if core is not None and clusters is not None:
        problems.append(f"{prefix}plugins: multicluster-metrics-extractor excludes core-metrics-extractor")
    try:
        words = core or (clusters.engines() if clusters is not None else CoreMetricsSettings())
        return source, Engines(words, path=prefix, wanted=blueprint.attributes)
    except SettingsError as error:
        problems += [p if p.startswith(prefix) else prefix + p for p in error.problems]
    return source, None


def _gpus(config: EndpointPickerConfig, blueprint: Blueprint, prefix: str, problems: list[str]) -> GpuParts | None:
    """Where the pages of DCGM exporters are, if anybody reads what is on them. Reads certificates, and raises SettingsError."""
    source = _source(config, blueprint, GpuSourceSettings, prefix, problems)
    if source is None or GPU_UTILIZATION not in blueprint.attributes:
        return None
    return GpuParts(HttpFetcher(source), source.interval)


def unknown_attributes(blueprint: Blueprint, engines: Engines) -> list[str]:
    """What to tell of attributes that plugins read and no page has, and of pages that are not read."""
    has_source = any(isinstance(each, GpuSourceSettings) for each in blueprint.parameters.values())
    reads_it = GPU_UTILIZATION in blueprint.attributes
    names = sorted(blueprint.attributes - CORE.keys() - engines.attributes - {GPU_UTILIZATION})
    told = [f"no engine's customMetrics give the attribute {shown(name)}, so it is unknown of every endpoint" for name in names]
    if reads_it and not has_source and GPU_UTILIZATION not in engines.attributes:
        told.append(f"no dcgm-data-source gives the attribute {shown(GPU_UTILIZATION)}, so it is unknown of every endpoint")
    if has_source and not reads_it:
        told.append(f"nothing reads the attribute {shown(GPU_UTILIZATION)}, so the pages of dcgm-data-source are not read")
    return told


def _source(
    config: EndpointPickerConfig, blueprint: Blueprint, kind: type[Source], prefix: str, problems: list[str]
) -> Source | None:
    """The data source of this kind, with the interval that `dataLayer.sources` says."""
    found = _only(blueprint, kind, prefix, problems)
    for each in config.data_layer.sources:
        if each.interval is not None and blueprint.parameters.get(each.plugin_ref) is found and found is not None:
            return found.model_copy(update={"interval": each.interval})
    return found


def _only(blueprint: Blueprint, kind: type[Parameters], prefix: str, problems: list[str]) -> Parameters | None:
    of_kind = [(name, parameters) for name, parameters in blueprint.parameters.items() if isinstance(parameters, kind)]
    if len(of_kind) > 1:
        names = ", ".join(name for name, _ in of_kind)
        problems.append(f"{prefix}plugins: more than one of {blueprint.types[of_kind[0][0]]}: {names}")
    return of_kind[0][1] if of_kind else None


def _discovery(config: EndpointPickerConfig, blueprint: Blueprint, prefix: str) -> FileDiscoverySettings | None:
    layer = config.data_layer.discovery
    if layer is None or layer.ref is None:
        return None
    parameters = blueprint.parameters.get(layer.ref)
    if not isinstance(parameters, FileDiscoverySettings):
        raise SettingsError([f"{prefix}dataLayer.discovery.pluginRef: {layer.ref!r} is not a file-discovery plugin"])
    return parameters


def _file_problems(settings: FileDiscoverySettings) -> list[str]:
    """Read the file once, so that what is wrong with it is said with everything else."""
    try:
        FileDiscovery(settings, _Nowhere(), on_error=lambda _: None).load()
    except SettingsError as error:
        return error.problems
    return []


class _Nowhere:
    def replace_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        pass
