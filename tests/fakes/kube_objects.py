"""Objects of Kubernetes as the API server has them, with what discovery reads and some of what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

POOLS = "inferencepools.inference.networking.k8s.io"
OLD_POOLS = "inferencepools.inference.networking.x-k8s.io"
LEASES = "leases.coordination.k8s.io"


def pod(
    name: str,
    ip: str = "10.0.0.1",
    *,
    namespace: str = "default",
    labels: Mapping[str, str] = {"app": "vllm"},
    annotations: Mapping[str, str] = {},
    ready: bool = True,
    phase: str = "Running",
    deleted: bool = False,
) -> Json:
    """A pod as far as discovery reads it, and some of what it does not."""
    meta: Json = {"name": name, "namespace": namespace, "labels": dict(labels)}
    if annotations:
        meta["annotations"] = dict(annotations)
    if deleted:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True" if ready else "False"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [{"name": "vllm", "image": "vllm/vllm-openai", "ports": [{"containerPort": 8000}]}]},
        "status": {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "192.168.0.1", "conditions": conditions},
    }


def pool(
    name: str = "vllm",
    *,
    namespace: str = "default",
    labels: Mapping[str, str] = {"app": "vllm"},
    ports: tuple[int, ...] = (8000,),
) -> Json:
    """An InferencePool v1."""
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": dict(labels)},
            "targetPorts": [{"number": port} for port in ports],
            "endpointPickerRef": {"name": f"{name}-epp", "port": {"number": 9002}},
        },
    }


def config_map(
    name: str, base: str, adapters: str, *, namespace: str = "default", label: str = "inference.networking.k8s.io/bbr-managed"
) -> Json:
    """A ConfigMap of adapters, `adapters` being a YAML list as text."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {label: "true"}},
        "data": {"baseModel": base, "adapters": adapters},
    }
