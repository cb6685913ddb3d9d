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
adaptersFile: adapters.yaml   # optional
scheduling: {}                # optional: the body of an EndpointPickerConfig, for all pools; a pool may have its own
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from extproc.settings.base import Settings, SettingsError, validate
from extproc.settings.picker import DEFAULT_PICKER, EndpointPickerConfig, load_yaml, picker_config
from extproc.settings.selection import check_labels, check_ports

API_VERSION: Final = "extproc.dev/v1alpha1"


class KubernetesSpec(Settings):
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


class EndpointsSpec(Settings):
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
