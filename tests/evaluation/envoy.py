"""Envoy's configuration: one listener, and endpoints from a file that it watches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from extproc import names

_TYPES: Final = "type.googleapis.com/envoy.extensions"
_MOST: Final = 100_000
_UNLIMITED: Final = {
    "thresholds": [{"max_connections": _MOST, "max_pending_requests": _MOST, "max_requests": _MOST, "max_retries": _MOST}]
}


def bootstrap(port: int, admin: int, endpoints: Path, picker: int | None, *, obeyed: bool = True) -> dict[str, Any]:
    """`endpoints` is a file of `assignment`s; `picker` is the port that is asked for each request, None: nobody is. Without a
    picker, or when it is not obeyed, it goes round robin."""
    clusters = [_endpoints(endpoints, picked=picker is not None and obeyed)]
    return {
        "node": {"id": "evaluation", "cluster": "evaluation"},
        "admin": {"address": _address(admin)},
        "static_resources": {
            "listeners": [_listener(port, picker)],
            "clusters": clusters if picker is None else [*clusters, _picker(picker)],
        },
    }


def assignment(ports: Sequence[int]) -> str:
    """Who there is, as Envoy reads it from a file. It looks when a file is moved to the path."""
    endpoints = [{"endpoint": {"address": _address(port)}} for port in ports]
    kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    resource = {"@type": kind, "cluster_name": "endpoints", "endpoints": [{"lb_endpoints": endpoints}]}
    return json.dumps({"version_info": str(len(ports)), "resources": [resource]})


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(port: int, picker: int | None) -> dict[str, Any]:
    filters: list[dict[str, Any]] = [] if picker is None else [_ext_proc()]
    filters.append({"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}})
    retries = {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
    }
    route = {"cluster": "endpoints", "timeout": "0s", "idle_timeout": "600s", "retry_policy": retries}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "clients",
        "stream_idle_timeout": "0s",
        "http_filters": filters,
        "route_config": {
            "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]
        },
    }
    network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {"address": _address(port), "filter_chains": [{"filters": [network]}]}


def _ext_proc() -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": f"{_TYPES}.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": "picker"}},
            "message_timeout": "5s",
            "processing_mode": {
                "request_header_mode": "SEND",
                "request_body_mode": "FULL_DUPLEX_STREAMED",
                "request_trailer_mode": "SEND",
                "response_header_mode": "SEND",
                "response_body_mode": "NONE",
                "response_trailer_mode": "SEND",
            },
            "metadata_options": {
                "forwarding_namespaces": {"untyped": ["envoy.lb"]},
                "receiving_namespaces": {"untyped": ["envoy.lb"]},
            },
        },
    }


def _picker(port: int) -> dict[str, Any]:
    options = f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": "picker",
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": _UNLIMITED,
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "picker",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }


def _endpoints(file: Path, *, picked: bool) -> dict[str, Any]:
    source = {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}
    cluster: dict[str, Any] = {
        "name": "endpoints",
        "type": "EDS",
        "connect_timeout": "1s",
        "circuit_breakers": _UNLIMITED,
        "eds_cluster_config": {"eds_config": source, "service_name": "endpoints"},
    }
    in_turn = _policy("round_robin.v3.RoundRobin", "round_robin")
    if picked:
        path = [{"key": names.DESTINATION_HEADER}]
        cluster["load_balancing_policy"] = _policy(
            "override_host.v3.OverrideHost",
            "override_host",
            override_host_sources=[{"metadata": {"key": "envoy.lb", "path": path}}],
            selected_host_key={"key": "envoy.lb", "path": [{"key": names.SERVED_KEY}]},
            fallback_policy=in_turn,
        )
    else:
        cluster["load_balancing_policy"] = in_turn
    return cluster


def _policy(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    config = {"@type": f"{_TYPES}.load_balancing_policies.{kind}", **fields}
    return {"policies": [{"typed_extension_config": {"name": f"envoy.load_balancing_policies.{name}", "typed_config": config}}]}
