"""Settings of the servers: what `extproc bbr`, `extproc epp` and `extproc gateway` take. Names and defaults are upstream's."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator, model_validator

from extproc.settings.base import Duration, FileMode, Port, Settings, Size, setting
from extproc.settings.picker import check_gates
from extproc.settings.router import HeaderRules, parse_plugins
from extproc.settings.selection import check_ports, parse_selector
from extproc.settings.tls import MinVersion, check_suites

_FIRST_WINDOW = 65_535
_LARGEST_WINDOW = 2**31 - 1


class ServerSettings(Settings):
    """What every server has."""

    grpc_port: Port = setting(9002, "Port of the ExtProc service.")
    grpc_health_port: Port = setting(9003, "Port of the gRPC health service, plaintext.")
    metrics_port: Port = setting(9090, "Port of /metrics, /healthz, /readyz and /debug.")
    host: str = setting("0.0.0.0", "Address to listen on.")
    max_body_bytes: Size = setting(64 * 2**20, "Largest request body; a larger one is answered with 413.", default_text="64Mi")
    max_inflated_body_bytes: Size = setting(
        16 * 2**20,
        "Largest request body after its content-encoding (gzip, deflate, br, zstd) is undone to read the model; a larger one "
        "is answered with 413.",
        default_text="16Mi",
    )
    request_timeout: Duration = setting(
        300.0,
        "How long a request may take to be decided, upload included; then it is answered with 408. Envoy sets no timer of its "
        "own in full duplex. The default lets 64Mi come over 2 Mbit/s. 0 is no limit; answers have none in any case.",
        default_text="300s",
    )
    drain_timeout: Duration = setting(
        30.0, "After SIGTERM, how long open streams may go on before they are ended.", default_text="30s"
    )
    shutdown_delay: Duration = setting(
        0.0,
        "After SIGTERM, how long to go on as before, except that health says NOT_SERVING, until the drain begins: the time "
        "that whoever sends us connections needs to send them elsewhere.",
        default_text="0s",
    )
    grpc_socket: str | None = setting(
        None,
        "Path of a Unix socket for the ExtProc service instead of --grpc-port, as in Envoy's `pipe: {path}`; with a leading @ "
        "abstract. Plaintext: the file's mode says who may connect.",
    )
    grpc_socket_mode: FileMode = setting(0o660, "Mode of the socket's file: who may write may connect.", default_text="0660")
    reuse_port: bool = setting(
        False,
        "Let another process that also has this flag listen on the same ports, or take over the socket's file: for a "
        "replacement that starts before the old process stops. It gets connections when it is ready. Off, a second process is "
        "refused.",
    )
    secure_serving: bool = setting(
        True, "TLS on the ExtProc port, by a self-signed certificate unless --cert-path has another."
    )
    cert_path: str | None = setting(None, "Directory with the certificate chain tls.crt and its key tls.key, both PEM.")
    client_ca_file: str | None = setting(
        None, "Certificates (PEM) of the authorities that sign clients' certificates. When set, clients must have one (mTLS)."
    )
    enable_cert_reload: bool = setting(
        False, "Watch the files of --cert-path and --client-ca-file. New connections get what is new, others stay as they are."
    )
    tls_min_version: MinVersion = setting("VersionTLS12", "Least version of TLS.")
    tls_cipher_suites: tuple[str, ...] = setting(
        (),
        "Cipher suites of TLS 1.2 by their names in Go, such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256; those of TLS 1.3 are "
        "always on. Empty: the ones with ECDHE and AES-GCM or ChaCha20.",
    )
    metrics_endpoint_auth: bool | None = setting(
        None,
        "Ask the API server whether who reads /metrics or /debug may: a bearer token (TokenReview) with the right to get that "
        "path (SubjectAccessReview). /healthz and /readyz are always open.",
        default_text="true in a cluster, else false",
    )
    metrics_cert_dir: str | None = setting(
        None, "Directory with tls.crt and tls.key (PEM, watched) for the metrics port, which then speaks TLS."
    )
    metrics_client_ca_file: str | None = setting(
        None,
        "Certificates (PEM, watched) of the authorities that sign scrapers' certificates; they must have one then. Needs "
        "--metrics-cert-dir.",
    )
    transport: Literal["h2", "grpcio"] = setting(
        "h2", "Who speaks gRPC: our own HTTP/2 (h2), or the grpcio library, which needs several times the CPU."
    )
    max_concurrent_streams: int = setting(
        10_000, "Streams at once on a connection, with --transport h2; a stream lasts as long as its HTTP response."
    )
    initial_stream_window_size: Size = setting(
        2**20, "What a peer may send on a stream before it hears from us, with --transport h2.", default_text="1Mi"
    )
    initial_connection_window_size: Size = setting(
        16 * 2**20, "The same for all streams of a connection together.", default_text="16Mi"
    )
    max_held_bytes: Size = setting(
        256 * 2**20,
        "Bodies held and answers unsent on a connection, at which its window opens no further, with --transport h2.",
        default_text="256Mi",
    )
    keepalive_interval: Duration = setting(
        60.0, "Silence after which a peer is pinged, with --transport h2. 0 is never.", default_text="60s"
    )
    keepalive_timeout: Duration = setting(
        20.0, "Without an answer to the ping, after which the connection is dropped.", default_text="20s"
    )
    connection_idle_timeout: Duration = setting(
        3600.0,
        "Without a stream, after which a connection is ended gracefully, with --transport h2. 0 is never.",
        default_text="1h",
    )
    kubeconfig: str | None = setting(
        None, "Access to Kubernetes, for what needs it; when unset: KUBECONFIG, the pod's service account, ~/.kube/config."
    )
    v: int = setting(2, "Verbosity of the logs: 0 warnings, 2 information, 4 and more debug.")

    @property
    def tls(self) -> bool:
        """Whether the ExtProc service speaks TLS."""
        return self.secure_serving and self.grpc_socket is None

    @field_validator("grpc_socket")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        """As gRPC writes it, too: `unix:relative`, `unix:/absolute`, `unix:///absolute`."""
        if value is None:
            return None
        path = value.removeprefix("unix:")
        path = path.removeprefix("//") if path != value else path
        if path in ("", "@") or "\0" in path:
            raise ValueError("expected a path such as /run/extproc/grpc.sock")
        return path

    @field_validator("tls_cipher_suites")
    @classmethod
    def _known_suites(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_suites(value)
        return value

    @field_validator("max_concurrent_streams")
    @classmethod
    def _some_streams(cls, value: int) -> int:
        if not 1 <= value <= _LARGEST_WINDOW:
            raise ValueError("expected 1 to 2^31-1")
        return value

    @field_validator("initial_stream_window_size", "initial_connection_window_size")
    @classmethod
    def _a_window(cls, value: int) -> int:
        if not _FIRST_WINDOW <= value <= _LARGEST_WINDOW:
            raise ValueError("expected 65535 (what HTTP/2 starts with) to 2^31-1")
        return value

    @field_validator("v")
    @classmethod
    def _not_negative(cls, value: int) -> int:
        if value < 0:
            raise ValueError("expected 0 or more")
        return value

    @model_validator(mode="after")
    def _ports_differ(self) -> ServerSettings:
        ports = {
            "grpc-port": self.grpc_port if self.grpc_socket is None else 0,
            "grpc-health-port": self.grpc_health_port,
            "metrics-port": self.metrics_port,
        }
        used: dict[int, str] = {}
        for name, port in ports.items():
            other = used.setdefault(port, name)
            if port and other != name:
                raise ValueError(f"--{other} and --{name} are both {port}")
        return self

    @model_validator(mode="after")
    def _scrapers_are_verified(self) -> ServerSettings:
        if self.metrics_client_ca_file is not None and self.metrics_cert_dir is None:
            raise ValueError("--metrics-client-ca-file: no scraper can be verified without --metrics-cert-dir")
        return self

    @model_validator(mode="after")
    def _clients_are_verified(self) -> ServerSettings:
        if self.client_ca_file is not None and not self.tls:
            why = "--secure-serving is false" if self.grpc_socket is None else "--grpc-socket is plaintext"
            raise ValueError(f"--client-ca-file: no client can be verified, {why}")
        return self


_EARLY = (
    "Decide as soon as the model of a JSON body is known, and let the rest follow as it comes, instead of holding the whole "
    "body. Only in FULL_DUPLEX_STREAMED. A body that names another model later is stopped."
)


class BbrSettings(ServerSettings):
    """Body-based router: reads the model from the request body and sets X-Gateway-Model-Name and X-Gateway-Base-Model-Name.

    Runs behind an Envoy ext_proc filter; the body mode is read from the stream.
    """

    grpc_port: Port = setting(9004, "Port of the ExtProc service.")
    grpc_health_port: Port = setting(9005, "Port of the gRPC health service, plaintext.")
    streaming: bool = setting(
        False,
        "The body mode of streams that carry no protocol_config: FULL_DUPLEX_STREAMED when true, BUFFERED when false. "
        "Current proxies always send protocol_config, and then this flag means nothing.",
    )
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
    early: bool = setting(False, _EARLY)
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

    @model_validator(mode="after")
    def _one_source(self) -> BbrSettings:
        if self.adapters_file is not None and self.adapter_configmaps == "true":
            raise ValueError("--adapters-file and --adapter-configmaps=true exclude each other")
        return self

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
    def _whole_bodies(self) -> BbrSettings:
        if self.early and any(rule.field != "model" for rule in self.headers.fields):
            raise ValueError("--early knows only the model of a body; a --plugin wants another field")
        return self


class PickerSettings(ServerSettings):
    """What every server with a picker has."""

    refresh_metrics_interval: Duration = setting(
        0.05, "How often each endpoint's /metrics is read; at least 10ms.", default_text="50ms"
    )
    metrics_staleness_threshold: Duration = setting(
        2.0, "Age at which an endpoint's metrics become unknown.", default_text="2s"
    )

    response_metrics: bool = setting(
        False,
        "Measure answers: tokens, time to first token, time per output token, inter-token latency, size. Reads every piece "
        "of every answer, so Envoy must send them (response_body_mode).",
    )

    emit_endpoint_scores: bool = setting(
        False,
        "Also tell the proxy every candidate's points, as dynamic metadata x-gateway-destination-endpoint-scores.",
    )
    disable_endpoint_subset_filter: bool = setting(
        False, "Pick from the whole pool, also when the proxy names a subset of it (x-gateway-destination-endpoint-subset)."
    )

    @field_validator("refresh_metrics_interval")
    @classmethod
    def _not_too_often(cls, value: float) -> float:
        if value < 0.01:
            raise ValueError("expected at least 10ms")
        return value

    @model_validator(mode="after")
    def _stale_after_interval(self) -> PickerSettings:
        if self.metrics_staleness_threshold <= self.refresh_metrics_interval:
            raise ValueError("--metrics-staleness-threshold must be longer than --refresh-metrics-interval")
        return self


class EppSettings(PickerSettings):
    """Endpoint picker: scores the endpoints of one pool and returns x-gateway-destination-endpoint.

    Takes upstream's EndpointPickerConfig. Endpoints come from one source: an InferencePool (--pool-name), pods by their labels
    (--endpoint-selector), --endpoints, or the config's file-discovery.
    """

    config_file: str | None = setting(None, "EndpointPickerConfig, YAML.")
    config_text: str | None = setting(None, "EndpointPickerConfig as text, instead of a file.")
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

    feature_gates: tuple[str, ...] = setting(
        (), "Feature gates as name or name=false, beside those of the config. haPopulateNonLeaderDatastore is always on."
    )
    upstream_parameters: dict[str, dict[str, str]] = setting({}, "Plugin parameters that flags of upstream's set.", hidden=True)

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
    def _one_source(self) -> EppSettings:
        if (self.endpoint_selector is None) != (not self.endpoint_target_ports):
            raise ValueError("--endpoint-selector and --endpoint-target-ports need each other")
        if self.endpoint_selector is not None and self.endpoints:
            raise ValueError("--endpoints and --endpoint-selector exclude each other")
        return self

    @field_validator("feature_gates")
    @classmethod
    def _gates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if problems := check_gates(value):
            raise ValueError("; ".join(problem for _, problem in problems))
        return value

    @model_validator(mode="after")
    def _one_config(self) -> EppSettings:
        if self.config_file is not None and self.config_text is not None:
            raise ValueError("--config-file and --config-text exclude each other")
        return self


class GatewaySettings(PickerSettings):
    """Gateway: both stages on one ExtProc stream: the model from the body, its pool, and the endpoint in the pool."""

    config_file: str = setting(None, "Gateway config, YAML (apiVersion extproc.dev/v1alpha1, kind Gateway).", required=True)
    early: bool = setting(False, _EARLY)


__all__ = ["BbrSettings", "EppSettings", "GatewaySettings", "PickerSettings", "ServerSettings"]
