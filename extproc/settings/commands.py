"""Settings of the subcommands: what `extproc bbr`, `extproc epp` and `extproc gateway` take besides what every server does."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from extproc.settings.api import ApiSettings
from extproc.settings.audit import AuditSettings
from extproc.settings.base import Duration, Port, Settings, setting
from extproc.settings.endpoints import DataPlaneSettings, ExternalSettings, MeasureSettings, ServingEndpointsSettings
from extproc.settings.picker import check_gates
from extproc.settings.regions import RegionSettings
from extproc.settings.registry import RegistrySettings
from extproc.settings.router import HeaderRules, parse_plugins
from extproc.settings.selection import check_ports, parse_selector
from extproc.settings.server import ServerSettings, grpc_health_port, grpc_port


class EarlySettings(Settings):
    """When a router decides."""

    early: bool = setting(
        False,
        "Decide as soon as the model of a JSON body is known, and let the rest follow as it comes, instead of holding the "
        "whole body. Only in FULL_DUPLEX_STREAMED. A body that names another model later is stopped.",
    )


class AdapterSettings(Settings):
    """Where a router learns which LoRA adapters sit on which base model."""

    adapters_file: str | None = setting(
        None,
        "File that says which LoRA adapters sit on which base model: upstream's ConfigMap, several of them, or a mapping "
        "of base model to list of adapters. Watched.",
    )
    adapter_configmaps: Literal["auto", "true", "false"] = setting(
        "auto",
        "Learn the adapters from ConfigMaps with upstream's label (inference.networking.k8s.io/bbr-managed=true, or that of "
        "another version). auto: in a cluster, unless --adapters-file is given.",
    )
    namespace: str | None = setting(
        None, "Namespace whose ConfigMaps of adapters count; all namespaces when unset.", flag="namespace", env="NAMESPACE"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.adapters_file is not None and self.adapter_configmaps == "true":
            raise ValueError("--adapters-file and --adapter-configmaps=true exclude each other")
        return self


class BbrSettings(EarlySettings, AdapterSettings, ServerSettings):
    """Body-based router: reads the model from the request body and sets X-Gateway-Model-Name and X-Gateway-Base-Model-Name.

    Runs behind an Envoy ext_proc filter; the body mode is read from the stream.
    """

    grpc_port: Port = grpc_port(9004)
    grpc_health_port: Port = grpc_health_port(9005)
    streaming: bool = setting(
        False,
        "The body mode of streams that carry no protocol_config: FULL_DUPLEX_STREAMED when true, BUFFERED when false. "
        "Current proxies always send protocol_config, and then this flag means nothing.",
    )
    text_models: bool = setting(
        False,
        "Accept a model that is a number or a boolean, as its JSON text (as upstream 1.5), instead of answering 400.",
    )
    invalid_json_passes: bool = setting(False, "Let a body that is not JSON pass without a model, instead of answering 400.")
    plugin: tuple[str, ...] = setting(
        (),
        "What becomes a header, as type:name[:json], once for each: body-field-to-header with fieldName and headerName, and "
        "base-model-to-header. Without any: the model and its base model.",
        repeated=True,
    )

    @property
    def headers(self) -> HeaderRules:
        """What --plugin says."""
        return parse_plugins(self.plugin)

    @field_validator("plugin")
    @classmethod
    def _plugins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_plugins(value)
        return value

    @model_validator(mode="after")
    def _whole_bodies(self) -> Self:
        if self.early and any(rule.field != "model" for rule in self.headers.fields):
            raise ValueError("--early knows only the model of a body; a --plugin wants another field")
        return self


class ScrapingSettings(Settings):
    """How often pages are read, and how long they are believed."""

    refresh_metrics_interval: Duration = setting(
        0.05, "How often each endpoint's /metrics is read; at least 10ms.", default_text="50ms"
    )
    metrics_staleness_threshold: Duration = setting(
        2.0, "Age at which an endpoint's metrics become unknown.", default_text="2s"
    )

    @field_validator("refresh_metrics_interval")
    @classmethod
    def _not_too_often(cls, value: float) -> float:
        if value < 0.01:
            raise ValueError("expected at least 10ms")
        return value

    @model_validator(mode="after")
    def _stale_after_interval(self) -> Self:
        if self.metrics_staleness_threshold <= self.refresh_metrics_interval:
            raise ValueError("--metrics-staleness-threshold must be longer than --refresh-metrics-interval")
        return self


def _switch(value: object) -> object:
    """As it was while there was no auto."""
    return {"true": "on", "false": "off"}.get(str(value).lower(), value)


class PickingSettings(Settings):
    """What a picker does beside picking."""

    response_metrics: Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)] = setting(
        "auto",
        "Measure answers: tokens, time to first token, time per output token, inter-token latency, size. auto: those whose "
        "body Envoy sends here anyway (Istio, GKE) and that can be read. on: also says so where it sends none "
        "(response_body_mode).",
        bare="on",
    )
    metrics_names: Literal["both", "inference", "llm-d"] = setting(
        "both",
        "Which of upstream's names the picker's metrics have: inference is the Gateway API inference extension's "
        "(inference_objective_, inference_pool_, inference_extension_), llm-d its successor's (llm_d_epp_); upstream serves "
        "both. One alone halves the page.",
    )
    emit_endpoint_scores: bool = setting(
        False,
        "Also tell the proxy every candidate's points, as dynamic metadata x-gateway-destination-endpoint-scores.",
    )
    disable_endpoint_subset_filter: bool = setting(
        False, "Pick from the whole pool, also when the proxy names a subset of it (x-gateway-destination-endpoint-subset)."
    )
    allow_missing_plugins: bool = setting(
        False,
        "Leave out plugins of the config whose type upstream has and this version has not, with a warning and a metric, "
        "instead of refusing the config.",
    )


class SnapshotSettings(Settings):
    """What is kept over a restart."""

    snapshot_dir: str | None = setting(
        None,
        "Folder for what plugins know and pages can't tell again (the prefix index), written every so often and read at the "
        "start: a file for each. Needed for a warm restart only.",
    )
    snapshot_interval: Annotated[Duration, Field(ge=1)] = setting(
        60.0, "From one writing of these to the next; they are written at the end as well.", default_text="60s"
    )


class PickerSettings(AuditSettings, SnapshotSettings, PickingSettings, ScrapingSettings, ServerSettings):
    """What every server with a picker has."""


class PoolSettings(Settings):
    """The one pool of an endpoint picker, and where its endpoints come from."""

    endpoints: tuple[str, ...] = setting(
        (), "Endpoints as host:port, comma separated, for a start without a file. Names are resolved again every 5s."
    )
    pool_name: str | None = setting(
        None,
        "Name of the InferencePool whose pods are picked from. With another source of endpoints it is the pool's name in "
        "metrics and logs only, epp when unset.",
    )
    pool_group: Literal["inference.networking.k8s.io", "inference.networking.x-k8s.io"] = setting(
        "inference.networking.k8s.io", "API group of the InferencePool: v1, or v1alpha2 of the x-k8s.io group."
    )
    endpoint_selector: str | None = setting(
        None,
        "Pick from the pods that have these labels (name=value, comma separated), instead of an InferencePool's; they serve "
        "at --endpoint-target-ports.",
    )
    endpoint_target_ports: tuple[int, ...] = setting(
        (), "1 to 8 ports of each pod of --endpoint-selector; several are several endpoints (data-parallel ranks)."
    )
    pool_namespace: str | None = setting(
        None, "Namespace of the pool and its Lease; that of the service account or the kubeconfig when unset.", env="NAMESPACE"
    )

    @property
    def pool(self) -> str:
        """The pool's name in metrics, logs and the Lease."""
        return self.pool_name or "epp"

    @field_validator("endpoint_selector")
    @classmethod
    def _selector(cls, value: str | None) -> str | None:
        if value is not None:
            parse_selector(value)
        return value

    @field_validator("endpoint_target_ports")
    @classmethod
    def _target_ports(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return check_ports(value)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.endpoint_selector is None) != (not self.endpoint_target_ports):
            raise ValueError("--endpoint-selector and --endpoint-target-ports need each other")
        if self.endpoint_selector is not None and self.endpoints:
            raise ValueError("--endpoints and --endpoint-selector exclude each other")
        return self


class ElectionSettings(PoolSettings):
    """Whether one of several replicas leads. The Lease is named after the pool."""

    ha_enable_leader_election: bool = setting(
        False,
        "Let one of several replicas lead, by a Lease: the others know the pool, and are NOT_SERVING. Off, every replica "
        "serves; what they count themselves (requests in flight) is then each replica's own.",
    )
    ha_keep_serving: bool = setting(
        True,
        "A leader that can't renew its Lease because the API server does not answer goes on, until it sees another leader. "
        "False: it steps down after 10s, as upstream's exits.",
    )
    ha_lease_name: str | None = setting(
        None,
        "Name of the Lease. To take over from a picker of upstream's v1.5: "
        "epp-NAMESPACE-POOL.gateway-api-inference-extension.sigs.k8s.io.",
        default_text="epp-NAMESPACE-POOL.llm-d.ai",
    )


class PickerConfigSettings(Settings):
    """How a picker picks."""

    config_file: str | None = setting(None, "EndpointPickerConfig, YAML.")
    config_text: str | None = setting(None, "EndpointPickerConfig as text, instead of a file.")
    feature_gates: tuple[str, ...] = setting(
        (),
        "Feature gates as name or name=false, behind those of the config: flowControl, which is off unless set "
        "(docs/flow-control.md). What haPopulateNonLeaderDatastore, dataLayer, "
        "prepareDataPlugins and enableLegacyMetrics stand for is always on.",
    )
    upstream_parameters: dict[str, dict[str, str]] = setting({}, "Plugin parameters that flags of upstream's set.", hidden=True)

    @field_validator("feature_gates")
    @classmethod
    def _gates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if problems := check_gates(value):
            raise ValueError("; ".join(problem for _, problem in problems))
        return value

    @model_validator(mode="after")
    def _one_config(self) -> Self:
        if self.config_file is not None and self.config_text is not None:
            raise ValueError("--config-file and --config-text exclude each other")
        return self


class EppSettings(ElectionSettings, PickerConfigSettings, PickerSettings):
    """Endpoint picker: scores the endpoints of one pool and returns x-gateway-destination-endpoint.

    Takes upstream's EndpointPickerConfig. Endpoints come from one source: an InferencePool (--pool-name), pods by their labels
    (--endpoint-selector), --endpoints, or the config's file-discovery.
    """


class EndpointSettings(
    ServingEndpointsSettings, RegistrySettings, MeasureSettings, ExternalSettings, ApiSettings, DataPlaneSettings
):
    """All of serving endpoints."""


class GatewaySettings(EarlySettings, RegionSettings, EndpointSettings, PickerSettings):
    """Gateway: both stages on one ExtProc stream: the model from the body, its pool, and the endpoint in the pool."""

    config_file: str = setting(None, "Gateway config, YAML (apiVersion extproc.dev/v1alpha1, kind Gateway).", required=True)

    def listening(self) -> dict[str, int]:
        """The API's too."""
        return {**super().listening(), "api-port": self.api_port}


SERVERS: Final[dict[str, type[ServerSettings]]] = {"bbr": BbrSettings, "epp": EppSettings, "gateway": GatewaySettings}
"""By subcommand."""

__all__ = [
    "SERVERS",
    "AdapterSettings",
    "BbrSettings",
    "EarlySettings",
    "ElectionSettings",
    "EndpointSettings",
    "EppSettings",
    "GatewaySettings",
    "PickerConfigSettings",
    "PickerSettings",
    "PickingSettings",
    "PoolSettings",
    "ScrapingSettings",
    "SnapshotSettings",
]
