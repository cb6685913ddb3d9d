"""Pods: which of them serve, and the endpoints that each is (one for each target port)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final, NamedTuple

from extproc.discovery.kubernetes.reading import Json, created_s, mapping, sequence, text, texts
from extproc.domain import Endpoint

ACTIVE_PORTS: Final = ("llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports")
"""Annotations that restrict a pod to some of the pool's ports; the first one that is there counts."""

_OVER: Final = frozenset({"Succeeded", "Failed"})


class Pod(NamedTuple):
    """A pod that serves."""

    name: str
    namespace: str
    address: str
    labels: Mapping[str, str]
    active: frozenset[int] | None
    """The ports it serves at; None: all of the pool's."""
    problem: str | None
    """What is wrong with an annotation, which is then ignored."""
    created_s: float
    node_address: str = ""
    """Of the machine; '' while nobody says."""


def read_pod(obj: Json) -> Pod | None:
    """None for a pod that can't be sent anything: not ready, ending, over, or without an address."""
    meta, status = mapping(obj, "metadata"), mapping(obj, "status")
    if meta.get("deletionTimestamp") is not None or text(status, "phase") in _OVER or not _ready(status):
        return None
    try:
        address = str(ipaddress.ip_address(text(status, "podIP")))
    except ValueError:
        return None
    if "%" in address:
        return None
    active, problem = _active(texts(meta, "annotations"))
    labels = texts(meta, "labels")
    node = _address_or_none(text(status, "hostIP"))
    return Pod(text(meta, "name"), text(meta, "namespace"), address, labels, active, problem, created_s(obj), node)


def endpoints_of(pod: Pod, ports: tuple[int, ...]) -> tuple[Endpoint, ...]:
    """One for each port of the pool that is active, named `<pod>-rank-<position of the port>`."""
    return tuple(
        Endpoint(pod.address, port, f"{pod.name}-rank-{rank}", pod.namespace, pod.labels, node_address=pod.node_address)
        for rank, port in enumerate(ports)
        if pod.active is None or port in pod.active
    )


def _address_or_none(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value)) if "%" not in value else ""
    except ValueError:
        return ""


def _ready(status: Json) -> bool:
    return any(
        mapping(condition).get("type") == "Ready" and mapping(condition).get("status") == "True"
        for condition in sequence(status, "conditions")
    )


def _active(annotations: Mapping[str, str]) -> tuple[frozenset[int] | None, str | None]:
    for name in ACTIVE_PORTS:
        if name not in annotations:
            continue
        entries = [entry for part in annotations[name].split(",") if (entry := part.strip())]
        wrong = [entry for entry in entries if not (entry.isascii() and entry.isdigit() and 1 <= len(entry) <= 5)]
        if wrong:
            return None, f"metadata.annotations[{name}]: expected ports with commas between (got {wrong[0]!r}); ignored"
        return frozenset(map(int, entries)), None
    return None, None
