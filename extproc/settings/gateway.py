"""The gateway's YAML: pools, and which models they serve.

apiVersion: extproc.dev/v1alpha1
kind: Gateway
pools:
  - name: llama
    endpoints: {static: ["127.0.0.1:8101", "127.0.0.1:8102"]}
  - name: phi4
    endpoints: {file: endpoints.yaml}
  - name: qwen
    endpoints: {kubernetes: {inferencePool: vllm-qwen}}   # or {selector: {app: vllm-qwen}, targetPorts: [8000]}
routes:
  - models: ["meta-llama/Llama-3.1-8B-Instruct"]
    pool: llama
  - models: ["microsoft/Phi-4-mini-instruct"]
    pool: phi4
    entities:                   # optional: what serving endpoints call these models
      - {name: main.models.phi4, version: "1", model: microsoft/Phi-4-mini-instruct}
adaptersFile: adapters.yaml   # optional
registry: {}                  # optional: an MLflow registry whose versions serving endpoints follow (`settings.registry`)
servingEndpoints: []          # optional: endpoints as the REST API takes them, also in servingEndpointsFile, a file or folder
scheduling: {}                # optional: the body of an EndpointPickerConfig, for all pools; a pool may have its own
regions: {}                   # optional: settings.regions; then pools have a region, and routes may have several pools
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from extproc.errors import listed
from extproc.names import INVOCATIONS
from extproc.settings.base import Section, SettingsError, shown, validate
from extproc.settings.document import Document, load_document
from extproc.settings.picker import DEFAULT_PICKER, EndpointPickerConfig, picker_config
from extproc.settings.regions import MOST_REGIONS, PoolInRegion, RegionsSettings, check_pools
from extproc.settings.registry import RegistrySpec, registry_problems
from extproc.settings.segments import SegmentSettings
from extproc.settings.selection import check_labels, check_ports
from extproc.settings.serving.delivery import unknown_segments
from extproc.settings.serving.fields import Label, Name
from extproc.settings.serving.read import read_all

API_VERSION: Final = "extproc.dev/v1alpha1"
_ENOUGH: Final = 50
"""Problems of form, after which nobody looks for others."""

_PATH: Final = re.compile(r"/[^\s?#\x00-\x1f\x7f]*")

Part = TypeVar("Part", bound=Section)


class KubernetesSpec(Section):
    """Pods: of an InferencePool, or by their labels."""

    inference_pool: str | None = Field(None, alias="inferencePool", min_length=1)
    """Name of an InferencePool of inference.networking.k8s.io."""
    selector: dict[str, str] | None = None
    """Labels that all must match."""
    target_ports: tuple[int, ...] | None = Field(None, alias="targetPorts")
    """1 to 8 ports of each pod of the selector."""
    namespace: str | None = Field(None, min_length=1)
    """That of the service account or the kubeconfig when unset."""

    @field_validator("selector")
    @classmethod
    def _labels(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        return None if value is None else dict(check_labels(value))

    @field_validator("target_ports")
    @classmethod
    def _ports(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if value is None else check_ports(value)

    @model_validator(mode="after")
    def _pool_or_pods(self) -> KubernetesSpec:
        if (self.inference_pool is None) == (self.selector is None):
            raise ValueError("expected exactly one of inferencePool and selector")
        if (self.selector is None) != (self.target_ports is None):
            raise ValueError("selector and targetPorts need each other")
        return self


class EndpointsSpec(Section):
    """Where a pool's endpoints come from: exactly one of these."""

    static: list[str] | None = None
    """`host:port` each."""
    file: str | None = None
    """A file-discovery file, relative to the config; watched."""
    kubernetes: KubernetesSpec | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> EndpointsSpec:
        if sum(source is not None for source in (self.static, self.file, self.kubernetes)) != 1:
            raise ValueError("expected exactly one of static, file and kubernetes")
        return self


class PoolSpec(Section):
    """Endpoints that serve the same models."""

    name: str = Field(min_length=1)
    endpoints: EndpointsSpec
    scheduling: dict[str, Any] | None = None
    region: Name | None = None
    """Where it is: one of `regions.names`."""
    zone: Label | None = None
    """In the region."""


class EntityOfRoute(Section):
    """What a serving endpoint may name to be served by a model of the route."""

    name: str = Field(min_length=1)
    """As in `served_entities[].entity_name`, say `catalog.schema.model`."""
    version: str = ""
    """As in `entity_version`; without it, every version that no other entry lists."""
    model: str | None = Field(None, min_length=1)
    """The name that the model server knows: a model of the route, or an adapter of one. The route's only model when unset."""
    path: str = INVOCATIONS
    """Where the model server takes bodies that are in no shape of OpenAI's."""

    @field_validator("version", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not _PATH.fullmatch(value):
            raise ValueError("expected a path that begins with / and has no query string, blanks or control characters")
        return value


class RouteSpec(Section):
    """Models that a pool serves, or the same models in pools of several regions."""

    models: list[str] = Field(min_length=1)
    pool: str
    """The first of `pools`, where those are given instead."""
    pools: Annotated[list[str], Field(min_length=1, max_length=MOST_REGIONS)] | None = None
    """Of the same cost, and in the same region, the first is preferred."""
    entities: list[EntityOfRoute] = []

    @model_validator(mode="before")
    @classmethod
    def _pool_or_pools(cls, values: object) -> object:
        if not isinstance(values, dict) or "pools" not in values:
            return values
        if "pool" in values:
            raise ValueError("expected one of pool and pools")
        pools = values["pools"]
        first = pools[0] if isinstance(pools, list) and pools else ""
        return {**values, "pool": first if isinstance(first, str) else ""}

    @property
    def beside(self) -> tuple[str, ...]:
        """The pools behind the first."""
        return tuple((self.pools or ())[1:])

    @field_validator("models")
    @classmethod
    def _named(cls, models: list[str]) -> list[str]:
        for index, model in enumerate(models):
            if not model.strip():
                raise ValueError(f"models[{index}] is empty")
        return models

    @model_validator(mode="after")
    def _entities_have_models(self) -> RouteSpec:
        for index, entity in enumerate(self.entities):
            if entity.model is None and len(self.models) > 1:
                raise ValueError(f"entities[{index}].model: expected one, as the route has {len(self.models)} models")
        return self


class GatewayConfig(Section):
    """The whole file."""

    api_version: Literal["extproc.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Gateway"]
    pools: list[PoolSpec] = Field(min_length=1)
    routes: list[RouteSpec] = Field(min_length=1)
    default_pool: str | None = Field(None, alias="defaultPool")
    """Where requests go that name no model and need none, when there are several pools."""
    adapters_file: str | None = Field(None, alias="adaptersFile")
    scheduling: dict[str, Any] | None = None
    segments: list[SegmentSettings] = Field([], max_length=1000)
    """Named sets of users and requests, which rules of serving endpoints go by; their files are watched."""
    regions: RegionsSettings | None = None
    """Where pools are, and which of several serves a request."""
    registry: RegistrySpec | None = None
    """Where models are registered, and which pools serve their versions."""
    serving_endpoints: list[Any] | None = Field(None, alias="servingEndpoints")
    """As `settings.serving` reads each; watched."""
    serving_endpoints_file: str | None = Field(None, alias="servingEndpointsFile")
    """A file of endpoints, or a folder of such files, relative to the config; watched."""


@dataclass(frozen=True)
class GatewayParts:
    """What is right in a file, by its position there, and everything that is wrong with the form of the rest."""

    pools: Mapping[int, PoolSpec] = field(default_factory=dict)
    routes: Mapping[int, RouteSpec] = field(default_factory=dict)
    default_pool: str | None = None
    adapters_file: str | None = None
    scheduling: dict[str, Any] | None = None
    serving_endpoints_file: str | None = None
    segments: tuple[SegmentSettings, ...] = ()
    regions: RegionsSettings | None = None
    registry: RegistrySpec | None = None
    problems: tuple[str, ...] = ()


def load_gateway_config(source: str | Document) -> GatewayConfig:
    """The whole file. Raises SettingsError with every problem, each with its path."""
    document = source if isinstance(source, Document) else load_document(source)
    if problems := gateway_parts(document).problems:
        raise SettingsError(list(problems))
    return validate(GatewayConfig, document.value)


def gateway_parts(document: Document) -> GatewayParts:
    """The parts that can be checked further, also when others are wrong: so all problems are said at once. Raises nothing."""
    value = document.value
    if not isinstance(value, dict):
        got = "nothing" if value is None else shown(value)
        problem = f"expected a mapping with apiVersion: {API_VERSION} and kind: Gateway (got {got})"
        return GatewayParts(problems=(problem,))
    problems: list[str] = []
    try:
        validate(GatewayConfig, value)
    except SettingsError as error:
        problems += error.problems
    if len(problems) >= _ENOUGH:
        return GatewayParts(problems=tuple(problems))
    pools, routes = _right(PoolSpec, value.get("pools")), _right(RouteSpec, value.get("routes"))
    names, default = _names(value.get("pools")), value.get("defaultPool")
    problems += _references(pools, routes, names)
    if isinstance(default, str) and names is not None and default not in names:
        there = listed(sorted(names))
        problems.append(f"defaultPool: no pool is called {shown(default)} (there are: {there})")
    declared, common = value.get("servingEndpoints"), value.get("scheduling")
    problems += read_all(declared if isinstance(declared, list) else (), "servingEndpoints")[1]
    segments = _right(SegmentSettings, value.get("segments"))
    for name, number in Counter(segment.name for segment in segments.values()).items():
        if number > 1:
            problems.append(f"segments: {shown(name)} is there {number} times; expected a name of its own for each")
    regions = _regions(value, pools, routes, [segment.name for segment in segments.values()], problems)
    registry = next(iter(_right(RegistrySpec, [value.get("registry") or {}]).values()), None)
    entities = {(entity.name, entity.version) for route in routes.values() for entity in route.entities}
    problems += registry_problems(registry, names, entities)
    return GatewayParts(
        pools,
        routes,
        default if isinstance(default, str) else None,
        _file(value.get("adaptersFile")),
        common if isinstance(common, dict) else None,
        _file(value.get("servingEndpointsFile")),
        tuple(segments.values()),
        regions,
        registry,
        tuple(problems),
    )


def _regions(
    value: Mapping[str, Any],
    pools: Mapping[int, PoolSpec],
    routes: Mapping[int, RouteSpec],
    segments: Sequence[str],
    problems: list[str],
) -> RegionsSettings | None:
    """The regions, when their form is right; what does not fit goes to `problems`."""
    given = value.get("regions")
    regions = None
    if given not in (None, "", {}):
        try:
            regions = validate(RegionsSettings, given) if isinstance(given, dict) else None
        except SettingsError:
            return None  # their form is told already
        if regions is None:
            return None
        problems += regions.problems()
        rules = [rule.model_dump(mode="json", exclude_unset=True) for rule in regions.residency]
        problems += unknown_segments({"residency": rules}, segments, "regions.")
    places = {index: PoolInRegion(pool.name, pool.region, pool.zone) for index, pool in pools.items()}
    problems += check_pools(
        regions, places, {index: route.pools for index, route in routes.items() if route.beside and route.pools}
    )
    return regions


def _file(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def scheduling_of(common: dict[str, Any] | None, pool: PoolSpec, index: int) -> tuple[EndpointPickerConfig, str, list[str]]:
    """The pool's own picker config, else the common one, else the default; with its path in the file, and warnings."""
    if pool.scheduling:
        body, path = pool.scheduling, f"pools[{index}].scheduling."
    else:
        body, path = common or {}, "scheduling."
    if not body:
        return DEFAULT_PICKER, path, []
    parsed, warnings = picker_config(body, path)
    if parsed.data_layer.discovery is not None:
        raise SettingsError([f"{path}dataLayer.discovery: a gateway's endpoints are set in pools[].endpoints"])
    return parsed, path, warnings


def _right(model: type[Part], listed: object) -> dict[int, Part]:
    """Those that are right by themselves."""
    found = {}
    for index, each in enumerate(listed if isinstance(listed, list) else ()):
        with contextlib.suppress(SettingsError):
            found[index] = validate(model, each)
    return found


def _names(pools: object) -> set[str] | None:
    """How the pools are called, right or not; None when that can't be told."""
    if not isinstance(pools, list) or not all(isinstance(pool, dict) and isinstance(pool.get("name"), str) for pool in pools):
        return None
    return {pool["name"] for pool in pools}


def _references(pools: Mapping[int, PoolSpec], routes: Mapping[int, RouteSpec], names: set[str] | None) -> list[str]:
    problems = []
    seen: set[str] = set()
    for index, pool in pools.items():
        if pool.name in seen:
            problems.append(f"pools[{index}].name: {shown(pool.name)} is used twice")
        seen.add(pool.name)
    owner: dict[str, str] = {}
    entities: dict[tuple[str, str], str] = {}
    for index, route in routes.items():
        listing = (
            [("pool", route.pool)] if route.pools is None else [(f"pools[{at}]", name) for at, name in enumerate(route.pools)]
        )
        for field_name, name in listing:
            if names is not None and name not in names:
                there = listed(sorted(names))
                problems.append(f"routes[{index}].{field_name}: no pool is called {shown(name)} (there are: {there})")
        if route.pools is not None and len(set(route.pools)) < len(route.pools):
            problems.append(f"routes[{index}].pools: expected each pool once (got {shown(route.pools)})")
        for at, model in enumerate(route.models):
            path = f"routes[{index}].models[{at}]"
            if model in owner:
                problems.append(f"{path}: {shown(model)} is already routed by {owner[model]}")
            owner.setdefault(model, path)
        for at, entity in enumerate(route.entities):
            path = f"routes[{index}].entities[{at}]"
            key = (entity.name, entity.version)
            if key in entities:
                version = f" with version {shown(entity.version)}" if entity.version else " without a version"
                problems.append(f"{path}: {shown(entity.name)}{version} is already listed by {entities[key]}")
            entities.setdefault(key, path)
    return problems
