"""Objects of the API as the tests need them, and the pods of a test with what is true about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.k8s.api import Api, Object
from tests.k8s.picks import Members

POOLS: Final = "inference.networking.k8s.io/v1"
ALPHA: Final = "inference.networking.x-k8s.io/v1alpha2"
LABELS: Final = {"app": "vllm"}
READ: Final = ["get", "list", "watch"]
PICKER_RULES: Final = (
    {"apiGroups": [""], "resources": ["pods"], "verbs": READ},
    {
        "apiGroups": ["inference.networking.k8s.io", "inference.networking.x-k8s.io"],
        "resources": ["inferencepools"],
        "verbs": READ,
    },
    {
        "apiGroups": ["inference.networking.x-k8s.io", "llm-d.ai"],
        "resources": ["inferenceobjectives", "inferencemodelrewrites"],
        "verbs": READ,
    },
)
"""What a picker may do, and no more."""
LEADER_RULES: Final = (
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
    {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
)
"""What a picker with leader election may do beside PICKER_RULES."""
ROUTER_RULES: Final = ({"apiGroups": [""], "resources": ["configmaps"], "verbs": READ},)


def service_account(api: Api, namespace: str, name: str, rules: Iterable[Object]) -> None:
    """A ServiceAccount that may do this in its namespace."""
    api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    api.create(f"{rbac}/roles", {"metadata": {"name": name}, "rules": list(rules)})
    api.create(
        f"{rbac}/rolebindings",
        {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    )


def pool(name: str, ports: Iterable[int], selector: Mapping[str, str] = LABELS) -> Object:
    """An InferencePool v1."""
    return {
        "apiVersion": POOLS,
        "kind": "InferencePool",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": dict(selector)},
            "targetPorts": [{"number": port} for port in ports],
            "endpointPickerRef": {"name": f"{name}-epp", "port": {"number": 9002}},
        },
    }


def pools_path(namespace: str, name: str = "") -> str:
    return f"/apis/{POOLS}/namespaces/{namespace}/inferencepools" + (f"/{name}" if name else "")


def alpha_path(namespace: str, plural: str, name: str = "") -> str:
    """Of the group that objectives and rewrites are in."""
    return f"/apis/{ALPHA}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def configmaps_path(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps" + (f"/{name}" if name else "")


class Pods:
    """The pods of a namespace. Each is a server at an address of its own, all on one port.

    What is done to them here is also written down in `members`: before it is done when it makes an endpoint, and after it when
    it takes one away.
    """

    def __init__(self, api: Api, namespace: str, members: Members, port: int) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self.members = members
        self.port = port

    def add(
        self,
        name: str,
        address: str,
        *,
        labels: Mapping[str, str] = LABELS,
        ready: bool = True,
        member: bool | None = None,
        annotations: Mapping[str, str] = {},
    ) -> None:
        """`member`: whether the pool has it; None: when it is ready."""
        if ready if member is None else member:
            self.members.joins(self._endpoint(address))
        container = {"name": "vllm", "image": "vllm", "ports": [{"containerPort": self.port}]}
        pod = {
            "metadata": {"name": name, "labels": dict(labels), "annotations": dict(annotations)},
            "spec": {"containers": [container], "nodeName": "node"},
        }
        self._api.create(self._path, pod)
        self._status(name, ready, {"podIP": address, "podIPs": [{"ip": address}], "phase": "Running"})

    def add_all(self, addresses: Mapping[str, str]) -> None:
        """Many at once: name to address."""
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(self.add, addresses, addresses.values()))

    def set_ready(self, name: str, ready: bool) -> None:
        address = self.address(name)
        if ready:
            self.members.joins(self._endpoint(address))
        self._status(name, ready, {})
        if not ready:
            self.members.leaves(self._endpoint(address))

    def set_labels(self, name: str, labels: Mapping[str, str | None], *, member: bool) -> None:
        """`labels`: null takes one away; `member`: whether the pool has it with those."""
        address = self.address(name)
        if member:
            self.members.joins(self._endpoint(address))
        self._api.patch(f"{self._path}/{name}", {"metadata": {"labels": dict(labels)}})
        if not member:
            self.members.leaves(self._endpoint(address))

    def terminate(self, name: str) -> None:
        """As `kubectl delete pod`: it goes on, with a deletionTimestamp and Ready, until `remove`."""
        address = self.address(name)
        self._api.delete(f"{self._path}/{name}", grace_s=30)
        self.members.leaves(self._endpoint(address))

    def remove(self, name: str) -> None:
        """It is gone at once."""
        address = self.address(name)
        self._api.delete(f"{self._path}/{name}", grace_s=0)
        self.members.leaves(self._endpoint(address))

    def address(self, name: str) -> str:
        return str(self._api.get(f"{self._path}/{name}")["status"]["podIP"])

    def _endpoint(self, address: str) -> str:
        return f"{address}:{self.port}"

    def _status(self, name: str, ready: bool, more: Object) -> None:
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        self._api.patch(f"{self._path}/{name}/status", {"status": {"conditions": [condition], **more}})
