"""The gateway's YAML: pools, and which models they serve.

apiVersion: extproc.dev/v1alpha1
kind: Gateway
pools:
  - name: llama
    endpoints: {static: ["127.0.0.1:8101", "127.0.0.1:8102"]}
  - name: phi4
    endpoints: {file: endpoints.yaml}
routes:
  - models: ["meta-llama/Llama-3.1-8B-Instruct"]
    pool: llama
  - models: ["microsoft/Phi-4-mini-instruct"]
    pool: phi4
adaptersFile: adapters.yaml   # optional
scheduling: {}                # optional: the body of an EndpointPickerConfig, for all pools; a pool may have its own
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from extproc.settings.base import Settings, SettingsError, validate
from extproc.settings.picker import DEFAULT_PICKER, EndpointPickerConfig, load_yaml, picker_config

API_VERSION: Final = "extproc.dev/v1alpha1"


class EndpointsSpec(Settings):
    """Where a pool's endpoints come from: exactly one of the two."""

    static: list[str] | None = None
    """`host:port` each."""
    file: str | None = None
    """A file-discovery file, relative to the config; watched."""

    @model_validator(mode="after")
    def _exactly_one(self) -> EndpointsSpec:
        if (self.static is None) == (self.file is None):
            raise ValueError("expected exactly one of static and file")
        return self


class PoolSpec(Settings):
    """Endpoints that serve the same models."""

    name: str = Field(min_length=1)
    endpoints: EndpointsSpec
    scheduling: dict[str, Any] | None = None


class RouteSpec(Settings):
    """Models that a pool serves."""

    models: list[str] = Field(min_length=1)
    pool: str

    @field_validator("models")
    @classmethod
    def _named(cls, models: list[str]) -> list[str]:
        for index, model in enumerate(models):
            if not model.strip():
                raise ValueError(f"models[{index}] is empty")
        return models


class GatewayConfig(Settings):
    """The whole file."""

    api_version: Literal["extproc.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Gateway"]
    pools: list[PoolSpec] = Field(min_length=1)
    routes: list[RouteSpec] = Field(min_length=1)
    adapters_file: str | None = Field(None, alias="adaptersFile")
    scheduling: dict[str, Any] | None = None


def load_gateway_config(text: str) -> GatewayConfig:
    """Raises SettingsError with every problem, each with its path."""
    document = load_yaml(text)
    if not isinstance(document, dict):
        raise SettingsError([f"expected a mapping with apiVersion: {API_VERSION} and kind: Gateway"])
    config = validate(GatewayConfig, document)
    problems = _references(config)
    if problems:
        raise SettingsError(problems)
    return config


def scheduling_of(config: GatewayConfig, pool: PoolSpec, index: int) -> tuple[EndpointPickerConfig, str, list[str]]:
    """The pool's own picker config, else the common one, else the default; with its path in the file, and warnings."""
    if pool.scheduling is not None:
        body, path = pool.scheduling, f"pools[{index}].scheduling."
    else:
        body, path = config.scheduling or {}, "scheduling."
    if not body:
        return DEFAULT_PICKER, path, []
    parsed, warnings = picker_config(body, path)
    if parsed.data_layer.discovery is not None:
        raise SettingsError([f"{path}dataLayer.discovery: a gateway's endpoints are set in pools[].endpoints"])
    return parsed, path, warnings


def _references(config: GatewayConfig) -> list[str]:
    problems = []
    pools: set[str] = set()
    for index, pool in enumerate(config.pools):
        if pool.name in pools:
            problems.append(f"pools[{index}].name: {pool.name!r} is used twice")
        pools.add(pool.name)
    owner: dict[str, str] = {}
    for index, route in enumerate(config.routes):
        if route.pool not in pools:
            problems.append(f"routes[{index}].pool: no pool is called {route.pool!r} (there are: {', '.join(sorted(pools))})")
        for at, model in enumerate(route.models):
            path = f"routes[{index}].models[{at}]"
            if model in owner:
                problems.append(f"{path}: {model!r} is already routed by {owner[model]}")
            owner.setdefault(model, path)
    return problems
