"""InferencePool: v1 of inference.networking.k8s.io, and v1alpha2 of inference.networking.x-k8s.io."""

from __future__ import annotations

from typing import Final, NamedTuple

from extproc.discovery.kubernetes.reading import Json, ObjectProblem, mapping, sequence
from extproc.kubernetes.reflector import Resource
from extproc.settings.selection import check_labels, check_port, check_ports

GROUP: Final = "inference.networking.k8s.io"
OLD_GROUP: Final = "inference.networking.x-k8s.io"
VERSIONS: Final = {GROUP: "v1", OLD_GROUP: "v1alpha2"}
INSTALL: Final = "kubectl apply -f https://github.com/kubernetes-sigs/gateway-api-inference-extension/releases/latest/download/manifests.yaml"


class Selection(NamedTuple):
    """Which pods are a pool, and at which ports they serve."""

    labels: tuple[tuple[str, str], ...]
    """All must match; sorted, at least one."""
    ports: tuple[int, ...]
    """1 to 8, all different; a port's position is its rank."""

    @property
    def selector(self) -> str:
        """As the API server takes it."""
        return ",".join(f"{key}={value}" for key, value in self.labels)


def pool_resource(group: str, namespace: str, name: str) -> Resource:
    """The one pool. Raises KeyError for a group without pools."""
    return Resource("inferencepools", group, VERSIONS[group], namespace, fields=f"metadata.name={name}")


def pods_resource(namespace: str, selection: Selection) -> Resource:
    """A pool's pods."""
    return Resource("pods", namespace=namespace, labels=selection.selector)


def read_pool(obj: Json) -> Selection:
    """Raises ObjectProblem with everything that is wrong."""
    spec = mapping(obj, "spec")
    old = str(obj.get("apiVersion", "")).startswith(OLD_GROUP + "/")
    problems: list[str] = []
    labels: tuple[tuple[str, str], ...] = ()
    ports: tuple[int, ...] = ()
    try:
        labels = check_labels(spec.get("selector") if old else mapping(spec, "selector").get("matchLabels"))
    except ValueError as error:
        problems.append(f"{'spec.selector' if old else 'spec.selector.matchLabels'}: {error}")
    try:
        if old:
            ports = (check_port(spec.get("targetPortNumber")),)
        else:
            ports = check_ports([mapping(each).get("number") for each in sequence(spec, "targetPorts")])
    except ValueError as error:
        problems.append(f"{'spec.targetPortNumber' if old else 'spec.targetPorts'}: {error}")
    if problems:
        raise ObjectProblem("; ".join(problems))
    return Selection(labels, ports)
