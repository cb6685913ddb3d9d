"""Settings that every server has, in parts: who is handed one of them can touch no other. Names and defaults are upstream's.

The fields of a class with several bases come from the last base to the first; that is the order of `--help` and the docs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from extproc.settings.base import Duration, FileMode, Port, Settings, Size, setting
from extproc.settings.tls import MinVersion, check_suites

_FIRST_WINDOW = 65_535
_LARGEST_WINDOW = 2**31 - 1


def grpc_port(default: int) -> Any:
    """The setting, whose default is not every server's."""
    return setting(default, "Port of the ExtProc service.")


def grpc_health_port(default: int) -> Any:
    """As `grpc_port`."""
    return setting(default, "Port of the gRPC health service, plaintext.")


class HostSettings(Settings):
    """Where all ports of a server are, and whether it shares them."""

    host: str = setting("0.0.0.0", "Address to listen on.")
    reuse_port: bool = setting(
        False,
        "Let another process that also has this flag listen on the same ports, or take over the socket's file: for a "
        "replacement that starts before the old process stops. It gets connections when it is ready. Off, a second process is "
        "refused.",
    )


class ListenSettings(HostSettings):
    """Where the ExtProc service is, and the health service."""

    grpc_port: Port = grpc_port(9002)
    grpc_health_port: Port = grpc_health_port(9003)
    grpc_socket: str | None = setting(
        None,
        "Path of a Unix socket for the ExtProc service instead of --grpc-port, as in Envoy's `pipe: {path}`; with a leading @ "
        "abstract. Plaintext: the file's mode says who may connect.",
    )
    grpc_socket_mode: FileMode = setting(0o660, "Mode of the socket's file: who may write may connect.", default_text="0660")

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


class TlsSettings(ListenSettings):
    """TLS of the ExtProc service; a Unix socket has none."""

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

    @property
    def tls(self) -> bool:
        """Whether the ExtProc service speaks TLS."""
        return self.secure_serving and self.grpc_socket is None

    @field_validator("tls_cipher_suites")
    @classmethod
    def _known_suites(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_suites(value)
        return value

    @model_validator(mode="after")
    def _clients_are_verified(self) -> Self:
        if self.client_ca_file is not None and not self.tls:
            why = "--secure-serving is false" if self.grpc_socket is None else "--grpc-socket is plaintext"
            raise ValueError(f"--client-ca-file: no client can be verified, {why}")
        return self


class MetricsPortSettings(HostSettings):
    """The port of the pages, and who may read them."""

    metrics_port: Port = setting(9090, "Port of /metrics, /healthz, /readyz and /debug.")
    metrics_endpoint_auth: bool | None = setting(
        None,
        "Ask the API server whether who reads /metrics or /debug may: a bearer token (TokenReview) with the right to get that "
        "path (SubjectAccessReview). /healthz and /readyz are always open.",
        default_text="true in a cluster, else false",
    )
    debug_pages: Literal["auto", "on", "loopback", "off"] = setting(
        "auto",
        "Who may read /debug: everybody (on), who asks from this machine (loopback, as `kubectl port-forward` does), nobody "
        "(off). auto is everybody with a token where --metrics-endpoint-auth asks for one, else loopback.",
    )
    metrics_cert_dir: str | None = setting(
        None, "Directory with tls.crt and tls.key (PEM, watched) for the metrics port, which then speaks TLS."
    )
    metrics_client_ca_file: str | None = setting(
        None,
        "Certificates (PEM, watched) of the authorities that sign scrapers' certificates; they must have one then. Needs "
        "--metrics-cert-dir.",
    )

    @model_validator(mode="after")
    def _scrapers_are_verified(self) -> Self:
        if self.metrics_client_ca_file is not None and self.metrics_cert_dir is None:
            raise ValueError("--metrics-client-ca-file: no scraper can be verified without --metrics-cert-dir")
        return self


class CarrierSettings(Settings):
    """Who speaks gRPC."""

    transport: Literal["h2", "grpcio"] = setting(
        "h2", "Who speaks gRPC: our own HTTP/2 (h2), or the grpcio library, which needs several times the CPU."
    )


class Http2Settings(Settings):
    """Bounds of our own HTTP/2."""

    max_concurrent_streams: int = setting(
        10_000, "Streams at once on a connection, with --transport h2; a stream lasts as long as its HTTP response."
    )
    initial_stream_window_size: Size = setting(
        2**20, "What a peer may send on a stream before it hears from us, with --transport h2.", default_text="1Mi"
    )
    initial_connection_window_size: Size = setting(
        16 * 2**20, "The same for all streams of a connection together.", default_text="16Mi"
    )
    max_held_bytes: Size | None = setting(
        None,
        "Bodies held and answers unsent in the process. From a quarter of it on large bodies wait for each other; beyond it "
        "the request that holds most is answered with 503.",
        default_text="a quarter of the memory limit, at most 512Mi",
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


class TransportSettings(Http2Settings, CarrierSettings, ListenSettings):
    """Who carries the streams, how, and where."""


class BodySettings(Settings):
    """What a request may cost."""

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


class DrainSettings(Settings):
    """How a server ends."""

    drain_timeout: Duration = setting(
        30.0, "After SIGTERM, how long open streams may go on before they are ended.", default_text="30s"
    )
    shutdown_delay: Duration = setting(
        0.0,
        "After SIGTERM, how long to go on as before, except that health says NOT_SERVING, until the drain begins: the time "
        "that whoever sends us connections needs to send them elsewhere.",
        default_text="0s",
    )


class KubernetesSettings(Settings):
    """Access to the API server."""

    kubeconfig: str | None = setting(
        None, "Access to Kubernetes, for what needs it; when unset: KUBECONFIG, the pod's service account, ~/.kube/config."
    )


class MetricsGuardSettings(KubernetesSettings, MetricsPortSettings):
    """The pages, and the API server, which is asked who may read them."""


class LogSettings(Settings):
    """What is logged."""

    v: int = setting(2, "Verbosity of the logs: 0 warnings, 2 information, 4 and more debug.")

    @field_validator("v")
    @classmethod
    def _not_negative(cls, value: int) -> int:
        if value < 0:
            raise ValueError("expected 0 or more")
        return value


class LabelSettings(Settings):
    """What metrics tell apart."""

    metrics_max_models: Annotated[int, Field(ge=0, le=100_000)] = setting(
        50,
        "Model names that /metrics shows besides those of the configuration (routes, adapters, rewrites), which it always "
        "shows; they go to names that were served, and the rest counts as `other`. A name has some 140 lines, and 400 "
        "more with --response-metrics.",
    )


class ServerSettings(
    LabelSettings, LogSettings, MetricsGuardSettings, TransportSettings, DrainSettings, BodySettings, TlsSettings
):
    """What every server has."""

    def listening(self) -> dict[str, int]:
        """Ports by their flags; 0 where none is listened on, or the system chooses."""
        return {
            "grpc-port": self.grpc_port if self.grpc_socket is None else 0,
            "grpc-health-port": self.grpc_health_port,
            "metrics-port": self.metrics_port,
        }

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports = self.listening()
        used: dict[int, str] = {}
        for name, port in ports.items():
            other = used.setdefault(port, name)
            if port and other != name:
                raise ValueError(f"--{other} and --{name} are both {port}")
        return self
