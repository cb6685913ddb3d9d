"""An Envoy as the gateways' controllers would configure it by the objects that a chart renders.

Istio puts an EnvoyFilter's patch in as it is. GKE and Envoy Gateway have objects of their own; what those say about messages
and their modes is put into the same filter here, so what is proven is that our server and the modes fit, not their controllers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from extproc.demo.envoy import find_envoy
from extproc.demo.ports import free_ports
from extproc.demo.processes import Child
from tests.e2e.parts import call, until
from tests.k8s.api import Object
from tests.k8s.cluster import Cluster
from tests.k8s.kubelet import Pod
from tests.k8s.probes import number_of

_EXT_PROC: Final = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3"
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_POOL_FILTER: Final = "envoy.filters.http.ext_proc.inferencepool"
_METADATA: Final = {
    "forwarding_namespaces": {"untyped": ["envoy.lb", "envoy.lb.subset_hint"]},
    "receiving_namespaces": {"untyped": ["envoy.lb"]},
}
_DESTINATION: Final = "x-gateway-destination-endpoint"


class Filter(NamedTuple):
    """An HTTP filter that asks a server of ours."""

    config: Object
    """Name and typed_config."""
    service: str
    """The Service that it asks, and that Service's port; its namespace is the release's."""
    port: int
    tls: bool


class Route(NamedTuple):
    """Requests for a model, to endpoints."""

    model: str
    """As `header` has it; empty: all others."""
    endpoints: Sequence[str]
    pool: bool = False
    """Whether a filter of `istio_pool` picks the endpoint."""
    picker: int = 0
    """Which of them, when there are several."""
    header: str = "X-Gateway-Model-Name"


def istio(objects: Sequence[Object], namespace: str) -> Filter:
    """As Istio puts an EnvoyFilter into a Gateway; TLS as the DestinationRule for the host says."""
    (found,) = [each for each in objects if each["kind"] == "EnvoyFilter"]
    (patch,) = [each for each in found["spec"]["configPatches"] if each["applyTo"] == "HTTP_FILTER"]
    value = patch["patch"]["value"]
    _, port, _, host = value["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"].split("|")
    service, _, rest = host.partition(".")
    assert rest.startswith(f"{namespace}.svc."), host
    return Filter(value, service, int(port), tls_to(objects, host, int(port)))


def istio_pool(objects: Sequence[Object], pool: Object) -> Filter:
    """The picker's filter that Istio makes of an InferencePool: everything is sent, both ways."""
    reference = pool["spec"]["endpointPickerRef"]
    service, port = reference["name"], reference["port"]["number"]
    namespace = pool["metadata"]["namespace"]
    config = _ext_proc(_POOL_FILTER, f"outbound|{port}||{service}.{namespace}.svc.cluster.local", _modes())
    config["typed_config"] |= {
        "failure_mode_allow": reference.get("failureMode") == "FailOpen",
        "metadata_options": _METADATA,
    }
    return Filter(config, service, port, tls_to(objects, f"{service}.{namespace}.svc.cluster.local", port))


def gke(objects: Sequence[Object]) -> Filter:
    """A GCPRoutingExtension's events and send mode."""
    (found,) = [each for each in objects if each["kind"] == "GCPRoutingExtension"]
    (chain,) = found["spec"]["extensionChains"]
    (extension,) = chain["extensions"]
    events = set(extension["supportedEvents"])
    assert "RequestHeaders" in events
    body = {"FullDuplexStreamed": "FULL_DUPLEX_STREAMED", "Streamed": "STREAMED", None: "NONE"}
    modes = _modes(
        request_body_mode=body[extension.get("requestBodySendMode")],
        request_trailer_mode="SEND" if "RequestTrailers" in events else "SKIP",
        response_header_mode="SKIP",  # a routing extension is not asked about answers
        response_body_mode="NONE",
        response_trailer_mode="SKIP",
    )
    backend = extension["backendRef"]
    # GKE speaks TLS to a Service whose appProtocol is HTTP2, and does not look at the certificate.
    return Filter(_ext_proc("gke", "gke", modes), backend["name"], backend["port"], tls=True)


def envoy_gateway(objects: Sequence[Object]) -> Filter:
    """An EnvoyExtensionPolicy's processing mode; TLS if a BackendTLSPolicy is there for the Service."""
    (found,) = [each for each in objects if each["kind"] == "EnvoyExtensionPolicy"]
    (processor,) = found["spec"]["extProc"]
    given = processor["processingMode"]
    body = {"FullDuplexStreamed": "FULL_DUPLEX_STREAMED", "Streamed": "STREAMED", "Buffered": "BUFFERED", None: "NONE"}
    modes = {}
    for direction in ("request", "response"):
        asked = given.get(direction)
        mode = body[(asked or {}).get("body")]
        modes[f"{direction}_header_mode"] = "SEND" if asked is not None else "SKIP"
        modes[f"{direction}_body_mode"] = mode
        modes[f"{direction}_trailer_mode"] = "SEND" if mode == "FULL_DUPLEX_STREAMED" else "SKIP"
    (backend,) = processor["backendRefs"]
    targets = {ref["name"] for each in objects if each["kind"] == "BackendTLSPolicy" for ref in each["spec"]["targetRefs"]}
    return Filter(_ext_proc("eg", "eg", modes), backend["name"], backend["port"], tls=backend["name"] in targets)


def reached(cluster: Cluster, namespace: str, service: str, port: int, pods: Sequence[Pod]) -> list[str]:
    """Where a Service's port leads: the pods that its selector finds, by the port that its targetPort names."""
    found = cluster.admin.get(f"/api/v1/namespaces/{namespace}/services/{service}")["spec"]
    (target,) = [each.get("targetPort", port) for each in found["ports"] if each["port"] == port]
    selector = ",".join(f"{key}={value}" for key, value in found["selector"].items())
    listed = cluster.admin.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"]
    names = {item["metadata"]["name"] for item in listed}
    chosen = [pod for pod in pods if pod.name in names]
    assert chosen, f"Service {service} selects none of {pods}"
    return [f"{pod.address}:{pod.port(_target(pod, target))}" for pod in chosen]


class Gateway:
    """Envoy with these filters in this order, in front of the model servers of `routes`."""

    def __init__(
        self,
        directory: Path,
        filters: Sequence[tuple[Filter, Sequence[str]]],
        routes: Sequence[Route],
        *,
        hosts: Sequence[Object] = (),
    ) -> None:
        """`filters`: each with the addresses of the servers that it asks.

        `hosts`: Envoy's virtual hosts, instead of one for all hostnames with these routes. They turn the filters on.
        """
        port, admin = free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        self._admin = f"http://127.0.0.1:{admin}"
        clusters = [_cluster(_asks(each), where, tls=each.tls) for each, where in filters]
        clusters += [_cluster(cluster_of(route.model), route.endpoints, picked=route.pool) for route in routes]
        listener = _listener(port, [each for each, _ in filters], routes, hosts)
        config = {
            "admin": {"address": _address(f"127.0.0.1:{admin}")},
            "static_resources": {"listeners": [listener], "clusters": clusters},
        }
        path = directory / "gateway.json"
        path.write_text(json.dumps(config))
        flags = ["--config-path", str(path), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]
        self.child = Child("gateway", [str(find_envoy()), *flags], directory)

    def __enter__(self) -> Gateway:
        self.child.start()

        def up() -> bool:
            self.child.check()
            return call(self._admin, "/ready").status == 200

        until(up, what="Envoy is up")
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()

    def messages(self) -> int:
        """ExtProc messages that were sent, over all filters."""
        page = call(self._admin, "/stats?filter=ext_proc.*stream_msgs_sent&format=json").json
        return sum(int(stat["value"]) for stat in page["stats"] if "value" in stat)


def _target(pod: Pod, target: int | str) -> int:
    for container in pod.containers.values():
        if isinstance(target, int) or any(each.get("name") == target for each in container.get("ports", [])):
            return number_of(target, container)
    raise AssertionError(f"{pod}: no container has the port {target}")


def tls_to(objects: Sequence[Object], host: str, port: int) -> bool:
    """Whether Istio would speak TLS to the host's port. It has no CA to check with, so the rule must say that it need not."""
    rules = [each["spec"] for each in objects if each["kind"] == "DestinationRule"]
    policies = [rule["trafficPolicy"] for rule in rules if rule["host"] == host]
    for policy in policies:
        levels = [each for each in policy.get("portLevelSettings", []) if each["port"]["number"] == port]
        tls = (levels or [policy])[0].get("tls", {"mode": "DISABLE"})  # a port inherits nothing
        if tls["mode"] != "DISABLE":
            assert tls == {"mode": "SIMPLE", "insecureSkipVerify": True}, tls
            return True
    return False


def _modes(**changes: str) -> dict[str, str]:
    """Everything, but for what is given."""
    modes = {f"{direction}_{part}_mode": "SEND" for direction in ("request", "response") for part in ("header", "trailer")}
    return modes | {f"{direction}_body_mode": "FULL_DUPLEX_STREAMED" for direction in ("request", "response")} | changes


def _ext_proc(name: str, cluster: str, modes: Mapping[str, str]) -> Object:
    config = {"grpc_service": {"envoy_grpc": {"cluster_name": cluster}}, "message_timeout": "5s", "processing_mode": modes}
    return {"name": name, "typed_config": {"@type": f"{_EXT_PROC}.ExternalProcessor", **config}}


def cluster_of(model: str) -> str:
    """The name of the cluster that a Route of this model has."""
    return f"models {model or 'other'}"


def _asks(asked: Filter) -> str:
    return str(asked.config["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"])


def _address(endpoint: str) -> Object:
    host, _, port = endpoint.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _cluster(name: str, endpoints: Sequence[str], *, tls: bool | None = None, picked: bool = False) -> Object:
    """`tls`: None for model servers, which speak HTTP/1; `picked`: as Istio makes the cluster of a pool."""
    protocol: Object = {"http_protocol_options": {}} if tls is None else {"http2_protocol_options": {}}
    options = {"@type": f"type.googleapis.com/{_HTTP_OPTIONS}", "explicit_http_config": protocol}
    made: Object = {
        "name": name,
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {_HTTP_OPTIONS: options},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(each)}} for each in endpoints]}],
        },
    }
    if tls:
        context = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
        made["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": context, "common_tls_context": {"alpn_protocols": ["h2"]}},
        }
    if picked:
        policy = "envoy.extensions.load_balancing_policies"
        round_robin = _policy(f"{policy}.round_robin.v3.RoundRobin", {})
        override = {
            "override_host_sources": [{"metadata": {"key": "envoy.lb", "path": [{"key": _DESTINATION}]}}],
            "selected_host_key": {"key": "envoy.lb", "path": [{"key": f"{_DESTINATION}-served"}]},
            "fallback_policy": {"policies": [round_robin]},
        }
        made["load_balancing_policy"] = {"policies": [_policy(f"{policy}.override_host.v3.OverrideHost", override)]}
    return made


def _policy(kind: str, config: Object) -> Object:
    return {"typed_extension_config": {"name": kind, "typed_config": {"@type": f"type.googleapis.com/{kind}", **config}}}


def _listener(port: int, filters: Sequence[Filter], routes: Sequence[Route], hosts: Sequence[Object]) -> Object:
    http = "type.googleapis.com/envoy.extensions.filters"
    pools = [each.config for each in filters if each.config["name"] == _POOL_FILTER]
    # One filter for all pools; a route says which picker it asks.
    configs = [each.config for each in filters if each.config["name"] != _POOL_FILTER] + [_idle(each) for each in pools[:1]]
    if hosts:
        configs = [{**config, "disabled": True} for config in configs]
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{http}.http.router.v3.Router"}}
    picks = [each["typed_config"] for each in pools]
    manager = {
        "@type": f"{http}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "http_filters": [*configs, router],
        "route_config": {
            "virtual_hosts": [*hosts]
            or [{"name": "all", "domains": ["*"], "routes": [_route(route, picks) for route in routes]}]
        },
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": "clients", "address": _address(f"127.0.0.1:{port}"), "filter_chains": [chain]}


def _idle(config: Object) -> Object:
    """A picker's filter without a route that has a pool: it asks nobody."""
    skipped = {key: "NONE" if "body" in key else "SKIP" for key in _modes()}
    return {**config, "typed_config": {**config["typed_config"], "processing_mode": skipped}}


def _route(route: Route, picks: Sequence[Any]) -> Object:
    match: Object = {"prefix": "/"}
    if route.model:
        match["headers"] = [{"name": route.header, "string_match": {"exact": route.model}}]
    made: Object = {"match": match, "route": {"cluster": cluster_of(route.model), "timeout": "0s"}}
    if route.pool:
        pick = picks[route.picker]
        overrides = {key: pick[key] for key in ("grpc_service", "processing_mode", "metadata_options")}
        made["typed_per_filter_config"] = {_POOL_FILTER: {"@type": f"{_EXT_PROC}.ExtProcPerRoute", "overrides": {**overrides}}}
    return made
